"""``train-dit``: set up, steps, and the model folder at the end. What is like a codec's training is that code."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from reducio_codec.errors import InputError
from reducio_codec.generate.config import DiTConfig
from reducio_codec.generate.dit import ReducioDiT
from reducio_codec.generate.folder import save_dit
from reducio_codec.generate.train.recipe import DitRecipe
from reducio_codec.generate.train.samples import Entry, LatentBatch, LatentDataset, Samples, collate
from reducio_codec.generate.train.start import bound_config, build_model, load_teacher, start, teacher_id
from reducio_codec.generate.train.validate import VALIDATION_SEED, Generator, make_objective, spread, validation_loss
from reducio_codec.io.strips import clip_strip
from reducio_codec.train.checkpoint import Checkpoints, Progress, check_folder, claim_folder, read_progress
from reducio_codec.train.export import DTYPES
from reducio_codec.train.live import place, shown_progress
from reducio_codec.train.loading import PlannedBatches, load_batches
from reducio_codec.train.monitor import Monitor, plot_curve
from reducio_codec.train.run import (
    Run,
    check_finite,
    follow,
    load_state,
    make_accelerator,
    make_optimizer,
    prepare,
    set_rate,
    shown_copies,
    to_channels_last,
    update,
    write_state,
)
from reducio_codec.train.running import RunReport, is_better, run_steps, signals
from reducio_codec.weights.card import ModelCard

_log = logging.getLogger(__name__)

PROFILE_STEPS = 5
_USE = (
    "from reducio_codec.generate import ReducioDiTPipeline\n\n"
    'video = ReducioDiTPipeline.from_pretrained("path/to/this/folder"{codec})(image="photo.jpg")'
)


@dataclass(kw_only=True)
class DitReport(RunReport):
    """How a call of ``train_dit`` ended."""

    values: dict[str, float] | None = None
    """Of the last validation."""


@dataclass(kw_only=True)
class DitRun(Run):
    """A run of a transformer."""

    recipe: DitRecipe
    held_out: Samples | None
    entries: list[Entry]
    """Of ``held_out``, for the loss."""
    generator: Generator | None
    teacher: ReducioDiT | None
    values: dict[str, float] | None = None

    @property
    def dit(self) -> ReducioDiT:
        """The weights that are validated and exported."""
        return cast(ReducioDiT, self.shown)


def train_dit(
    recipe: DitRecipe,
    *,
    latents: Sequence[str | Path],
    val: Sequence[str | Path] = (),
    out: str | Path,
    profile: bool = False,
) -> DitReport:
    """Train, or go on with the run in ``out``; the finished model is ``out/model``.

    Args:
        latents, val: folders of shards.
        profile: run a few steps, save nothing, and report where the time goes.

    Raises:
        InputError: the shards, the recipe, or what is in ``out`` doesn't allow it.
        ReducioError: a loss that isn't finite, a full disk, a damaged shard; the last checkpoint is kept.
    """
    out = Path(out)
    accelerator = make_accelerator(recipe.run, recipe.optimizer, unused=True)
    samples = Samples([Path(folder) for folder in latents])
    held_out = Samples([Path(folder) for folder in val]) if val else None
    config = bound_config(recipe.model, samples.index)
    for each in (samples, held_out):
        if each is not None:
            _check_samples(each, config)
    teacher = load_teacher(recipe, config, device=accelerator.device)
    checkpoints = Checkpoints(out)
    document = None  # in the process that writes
    if accelerator.is_main_process and not profile:
        document = {**recipe.to_document(), "shards": samples.identity, **teacher_id(recipe)}
        check_folder(out, document)
    folder = None if profile else checkpoints.find()
    progress = Progress() if folder is None else read_progress(folder)
    model = build_model(config, seed=recipe.run.seed)
    if folder is None:
        start(model, recipe)
    run = _set_up(
        recipe,
        accelerator,
        model,
        progress=progress,
        checkpoints=checkpoints,
        held_out=held_out if accelerator.is_main_process and not profile else None,
        profile=profile,
        teacher=teacher,
        document=document,
    )
    told = f", validates on {len(run.entries)}" if run.entries else ""
    _log.info("learns from %d samples%s", len(samples.entries), told)
    if progress.step:
        _log.info("goes on after step %d", progress.step)
    if folder is not None:
        load_state(run, folder)
    batches = load_batches(
        LatentDataset(
            samples,
            motion_power=recipe.data.motion_power,
            seed=recipe.run.seed,
            in_memory=recipe.data.storage == "memory",
            steps=recipe.loss.teacher_batches if config.distilled_steps else 0,
        ),
        PlannedBatches(
            lambda _step: (0, recipe.data.batch, 0),
            first_step=progress.step,
            accumulate=recipe.run.accumulate,
            rank=accelerator.process_index,
            processes=accelerator.num_processes,
        ),
        workers=recipe.data.workers,
        pinned=False,
        collate=collate,
    )
    report = DitReport()
    with signals() as stopped, shown_progress(main=accelerator.is_main_process) as show:
        run_steps(
            run,
            take_step=lambda share: _take_step(run, batches, share=share),
            validate=partial(_validate, run) if val else None,
            write_state=partial(write_state, run),
            batch_size=lambda _share: recipe.data.batch,
            profile_steps=PROFILE_STEPS,
            stopped=stopped,
            show=show,
        )
        report.note(run, stopped)
    report.values = run.values
    if report.finished:
        run.gather()
        if accelerator.is_main_process:
            report.model = _finish(run, out)
    run.monitor.close()
    return report


def _check_samples(samples: Samples, config: DiTConfig) -> None:
    """Refuse shards that this model can't learn from, before anything is written."""
    if samples.index.latent_space != config.latent_space:
        raise InputError(
            f"--val holds latents of the codec {samples.index.codec!r} (latent space {samples.index.latent_space}); "
            f"--latents those of {config.latent_space}"
        )
    if config.text_channels and samples.index.text_encoder is None:
        _log.warning("the shards have no text tokens: this model learns nothing of text")
    for entry in samples.examples:
        parts, folder = samples.load(entry), entry.tar.parent
        if config.uses_semantic and parts.semantic is None:
            raise InputError(
                f"model.image_condition {config.image_condition!r} needs semantic tokens, and the shards in {folder} have "
                "none: 'reducio-codec extract --image-encoder'"
            )
        for name, tokens, channels in (
            ("text", parts.text, config.text_channels),
            ("semantic", parts.semantic, config.semantic_channels),
        ):
            if tokens is not None and channels and tokens.shape[1] != channels:
                raise InputError(
                    f"the {name} tokens in {folder} have {tokens.shape[1]} channels; the model takes {channels}"
                )


def _set_up(
    recipe: DitRecipe,
    accelerator: Any,
    model: ReducioDiT,
    *,
    progress: Progress,
    checkpoints: Checkpoints,
    held_out: Samples | None,
    profile: bool,
    teacher: ReducioDiT | None,
    document: dict[str, Any] | None,
) -> DitRun:
    options = recipe.optimizer
    model.gradient_checkpointing = recipe.run.gradient_checkpointing
    if recipe.run.channels_last:
        to_channels_last(model)
    average, whole = shown_copies(model, accelerator, options)
    objective = make_objective(model, recipe, seed=recipe.run.seed, teacher=teacher)
    objective, optimizer = prepare(accelerator, objective, make_optimizer(model, options), layers="Block")
    generator = None
    if held_out is not None and recipe.validation.clips:
        generator = Generator(held_out, recipe.validation, config=model.config, device=accelerator.device)
    if document is not None:  # last, when nothing can be wrong with the run any more
        claim_folder(checkpoints.out, document)
    return DitRun(
        options=recipe.run,
        learning=options,
        accelerator=accelerator,
        model=model,
        average=average,
        whole=whole,
        objective=objective,
        optimizer=optimizer,
        progress=progress,
        checkpoints=checkpoints,
        monitor=Monitor(checkpoints.out, main=accelerator.is_main_process and not profile, step=progress.step),
        profile=profile,
        recipe=recipe,
        held_out=held_out,
        entries=[] if held_out is None else spread(held_out.entries, recipe.validation.samples),
        generator=generator,
        teacher=teacher,
    )


def _take_step(run: DitRun, batches: Iterator[LatentBatch], *, share: float) -> None:
    set_rate(run, share=share)
    run.objective.train()
    for _ in range(run.options.accumulate):
        with run.timed("wait for samples"):
            batch = next(batches).to(run.device)
        check = partial(check_finite, names=batch.names, step=run.progress.step)
        with run.accelerator.accumulate(run.objective):
            with run.timed("forward"), run.accelerator.autocast():
                loss = run.objective(batch).mean()
            check(loss)
            with run.timed("backward"):
                run.accelerator.backward(loss)
            with run.timed("update"):
                update(run, run.optimizer, run.objective, clip_norm=run.learning.clip_norm, check=check)
        run.count({"loss": loss.detach()})
    follow(run)


def _validate(run: DitRun) -> bool:
    """Measure, log, draw; whether it is the best so far."""
    assert run.held_out is not None
    run.shown.eval()
    autocast = run.accelerator.autocast
    loss = validation_loss(
        make_objective(run.dit, run.recipe, seed=VALIDATION_SEED, teacher=run.teacher).eval(),
        run.held_out,
        run.entries,
        batch=run.recipe.data.batch,
        device=run.device,
        autocast=autocast,
    )
    run.values = {"val/loss": round(loss, 5)}
    if run.generator is not None:
        index = run.held_out.index.keyframe_index
        found = run.generator(run.dit, autocast=autocast)
        run.values["val/motion"] = round(found.motion(index), 4)
        rows = {}
        for number, (made, real) in enumerate(zip(found.made, found.real, strict=True)):
            rows[f"clip {number}: real motion, as the codec shows it"] = real
            rows[f"clip {number}: generated"] = made
        run.monitor.picture(run.progress.step, clip_strip(rows))
    run.monitor.log(run.progress.step, minutes=run.progress.seconds / 60, **run.values)
    _log.info("%s: %s", place(run.progress.step, run.progress.seconds), _words(run.values))
    return is_better(run.progress, -loss)


def _words(values: dict[str, float]) -> str:
    """A validation in one line for people."""
    motion = f", motion {values['val/motion']:.2f} of the real clips'" if "val/motion" in values else ""
    return f"validation loss {values['val/loss']:g}{motion}"


def _finish(run: DitRun, out: Path) -> Path:
    """The model folder and the learning curve."""
    recipe, model = run.recipe, run.dit
    counts = model.parameter_counts()
    results = f"Validation: {json.dumps(run.values)}." if run.values else ""
    card = ModelCard(
        name=recipe.export.name,
        licence=recipe.export.licence,
        summary=f"Reducio-DiT, {sum(counts.values()) / 1e6:.1f} M parameters, for latents of {model.config.latent_space}.",
        use=_USE.format(codec="" if model.config.codec else ", codec=..."),
        source=f"Trained by `reducio-codec train-dit` for {run.progress.step} steps. {results}",
    ).text()
    folder = save_dit(model, out / "model", card=card, dtype=DTYPES[recipe.export.dtype])
    plot_curve(out, shown=re.compile("val/.*"), label="validation: loss, motion over the real clips'")
    return folder
