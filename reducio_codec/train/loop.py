"""The training loop. Reads from top to bottom: set up, steps, and what happens between them."""

from __future__ import annotations

import copy
import json
import logging
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count, islice
from pathlib import Path
from types import FrameType
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from reducio_codec.errors import InputError, MissingDependencyError, ReducioError
from reducio_codec.models.discriminator import PatchDiscriminator
from reducio_codec.models.interface import CodecModel
from reducio_codec.models.vae import ReducioVAE
from reducio_codec.pictures import strip
from reducio_codec.train.checkpoint import Checkpoints, Progress, claim_folder, read_progress
from reducio_codec.train.export import card_text, export
from reducio_codec.train.loading import Batch, ClipDataset, PlannedBatches, load_batches
from reducio_codec.train.losses import PerceptualLoss, adaptive_weight, hinge_loss, perceptual_loss
from reducio_codec.train.manifest import find_videos
from reducio_codec.train.monitor import Bar, Monitor, plot_curve, progress_bar, summary
from reducio_codec.train.objective import Objective, Outcome, last_layer
from reducio_codec.train.recipe import Recipe
from reducio_codec.train.recipe_file import to_document
from reducio_codec.train.render import render
from reducio_codec.train.sampling import ClipSampler
from reducio_codec.train.scan import ScanOptions, ScanResult, scan
from reducio_codec.train.schedule import discriminator_factor, rate_factor, share_done, stage_number
from reducio_codec.train.start import build_model, start
from reducio_codec.train.store import FrameStore, open_store
from reducio_codec.train.validate import Clip, Validation, decode_all, validate, validation_clips

_log = logging.getLogger(__name__)

PROFILE_STEPS = 20
_AVERAGE_FILE = "ema.safetensors"
_APART = 1_000_000
"""Places in the batch from here on are clips for statistics, which no step sees."""


@dataclass(kw_only=True)
class TrainReport:
    """How a call of ``train`` ended."""

    step: int
    minutes: float
    validation: Validation | None
    model: Path | None
    """The exported folder, where the run is finished."""
    stopped_by: int | None = None
    """Number of the signal that ended it early, after a checkpoint."""
    skipped: list[tuple[str, str]] = field(default_factory=list)
    """(video, reason) that couldn't be used."""
    profile: dict[str, float] = field(default_factory=dict)
    """Seconds of a step, by what it does; only with ``profile``."""


@dataclass(kw_only=True)
class _Run:
    """Everything that lives as long as the loop."""

    recipe: Recipe
    accelerator: Any
    model: nn.Module
    """Not wrapped."""
    average: nn.Module | None
    objective: Any
    optimizer: Any
    discriminator: Any
    discriminator_optimizer: Any
    progress: Progress
    checkpoints: Checkpoints
    monitor: Monitor
    clips: list[Clip]
    profile: bool
    last: Validation | None = None
    times: dict[str, float] = field(default_factory=dict)
    sums: dict[str, float] = field(default_factory=dict)
    counted: int = 0

    @property
    def device(self) -> torch.device:
        return cast(torch.device, self.accelerator.device)

    @property
    def shown(self) -> nn.Module:
        """The weights that are validated and exported."""
        return self.model if self.average is None else self.average


def train(
    recipe: Recipe,
    *,
    data: str | Path,
    val: str | Path | None,
    out: str | Path,
    cache: str | Path | None = None,
    profile: bool = False,
) -> TrainReport:
    """Train, or go on with the run in ``out``; the finished model is ``out/model``.

    Args:
        data, val: folders of videos, or CSV or JSONL files that list them.
        cache: where decoded videos are kept; ``out/cache`` unless given.
        profile: run a few steps, save nothing, and report where the time goes.

    Raises:
        InputError: the data, the recipe, or what is in ``out`` doesn't allow it.
        ReducioError: a loss that isn't finite, a full disk, a dead worker; the last checkpoint is kept.
    """
    out, cache = Path(out), Path(out) / "cache" if cache is None else Path(cache)
    accelerator = _accelerator(recipe)
    checkpoints = Checkpoints(out)
    with accelerator.main_process_first():
        if accelerator.is_main_process:
            claim_folder(out, to_document(recipe))
        found = _scan(recipe, data, cache=cache)
        held_out = None if val is None else _scan(recipe, val, cache=cache)
    folder = None if profile else checkpoints.find()
    progress = Progress() if folder is None else read_progress(folder)
    model = build_model(recipe)
    codec = cast(CodecModel, model)
    store = open_store(found.videos, storage=recipe.data.storage, device=accelerator.device)
    sampler = ClipSampler(
        found.videos,
        data=recipe.data,
        keyframe=recipe.keyframe,
        seed=recipe.run.seed,
        keyframe_index=codec.default_keyframe_index,
        random_keyframe=getattr(recipe.model, "content_frame", "") == "random",
    )
    statistics = partial(_clips, sampler, store, side=recipe.stages[-1].side)
    widths = torch.ones(recipe.model.latent_channels) if folder else start(model, recipe, clips=statistics())
    clips = [] if held_out is None else _validation_clips(recipe, held_out)
    run = _set_up(
        recipe,
        accelerator,
        model,
        widths=widths,
        progress=progress,
        checkpoints=checkpoints,
        clips=clips,
        profile=profile,
    )
    if folder is not None:
        _load(run, folder)
    dataset = ClipDataset(sampler, store, codec=recipe.keyframe.codec)
    batches = load_batches(
        dataset,
        PlannedBatches(
            partial(_stage_at, recipe, progress),
            first_step=progress.step,
            accumulate=recipe.run.accumulate,
            rank=accelerator.process_index,
            processes=accelerator.num_processes,
        ),
        workers=recipe.data.workers,
        pinned=accelerator.device.type == "cuda",
    )
    report = TrainReport(step=0, minutes=0.0, validation=None, model=None, skipped=found.skipped)
    with _signals() as stopped, progress_bar(main=accelerator.is_main_process) as bar:
        _steps(run, batches, stopped=stopped, bar=bar)
        report.stopped_by = stopped[0] if stopped else None
    report.step, report.minutes, report.validation = progress.step, progress.seconds / 60, run.last
    if profile:
        steps = max(1, progress.step)
        report.profile = {name: seconds / steps for name, seconds in run.times.items()}
    elif report.stopped_by is None and accelerator.is_main_process:
        report.model = _finish(run, out, statistics=statistics())
    run.monitor.close()
    return report


def _accelerator(recipe: Recipe) -> Any:
    try:
        from accelerate import Accelerator
        from accelerate.utils import DistributedDataParallelKwargs
    except ImportError as error:
        raise MissingDependencyError(
            f"training needs accelerate ({error}): pip install 'reducio-codec[train]'"
        ) from error
    # decoders that rest at a step, and a frozen part, leave parameters without a gradient
    unused = recipe.train.take_turns or bool(recipe.gan.weight)
    accelerator = Accelerator(
        mixed_precision="bf16" if recipe.run.precision == "bf16" else "no",
        gradient_accumulation_steps=recipe.run.accumulate,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=unused)],
    )
    if recipe.optimizer.ema and str(accelerator.distributed_type).endswith("FSDP"):
        raise InputError(f"optimizer.ema is {recipe.optimizer.ema}; with FSDP it must be 0: the average isn't sharded")
    return accelerator


def _scan(recipe: Recipe, source: str | Path, *, cache: Path) -> ScanResult:
    options = ScanOptions(
        frame_rate=recipe.data.frame_rate,
        stored_side=recipe.data.stored_side,
        store=recipe.data.storage != "stream",
        find_cuts=recipe.data.find_cuts,
    )
    return scan(find_videos(source), cache=cache, options=options)


def _validation_clips(recipe: Recipe, found: ScanResult) -> list[Clip]:
    storage = "stream" if recipe.data.storage == "stream" else "disk"
    store = open_store(found.videos, storage=storage, device=torch.device("cpu"))
    return validation_clips(found.videos, store, side=recipe.validation.side, count=recipe.validation.clips)


def _clips(sampler: ClipSampler, store: FrameStore, *, side: int) -> Iterator[Tensor]:
    """Training clips (1, 3, 16, side, side) uint8 for statistics, always the same ones."""
    for number in count():
        video, _ = render(store, sampler.plan(number, _APART, side=side), codec="avif")
        yield video[None].cpu()


def _stage_at(recipe: Recipe, progress: Progress, step: int) -> tuple[int, int, int]:
    ahead = replace(progress, step=step) if recipe.run.steps else progress
    number = stage_number(recipe, share_done(recipe.run, ahead))
    stage = recipe.stages[number]
    return number, stage.batch, stage.side


def _set_up(
    recipe: Recipe,
    accelerator: Any,
    model: nn.Module,
    *,
    widths: Tensor,
    progress: Progress,
    checkpoints: Checkpoints,
    clips: list[Clip],
    profile: bool,
) -> _Run:
    options = recipe.optimizer
    if recipe.run.channels_last:
        _to_channels_last(model)
    if isinstance(model, ReducioVAE):
        model.gradient_checkpointing = recipe.run.gradient_checkpointing
    _freeze(model, recipe)
    average = copy.deepcopy(model).eval().requires_grad_(False).to(accelerator.device) if options.ema else None
    perceptual: dict[str, PerceptualLoss] = {
        name: perceptual_loss(name, trunk=recipe.loss.lpips_trunk, device=accelerator.device)
        for name in recipe.perceptual_losses
    }
    objective = Objective(cast(CodecModel, model), recipe, widths=widths, perceptual=perceptual)
    optimizer = _optimizer(model, recipe)
    objective, optimizer = accelerator.prepare(objective, optimizer)
    discriminator = discriminator_optimizer = None
    if recipe.gan.weight:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.run.seed)
            discriminator = PatchDiscriminator(recipe.gan.channels)
        betas = (recipe.gan.betas[0], recipe.gan.betas[1])
        discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), lr=recipe.gan.learning_rate, betas=betas)
        discriminator, discriminator_optimizer = accelerator.prepare(discriminator, discriminator_optimizer)
    return _Run(
        recipe=recipe,
        accelerator=accelerator,
        model=model,
        average=average,
        objective=objective,
        optimizer=optimizer,
        discriminator=discriminator,
        discriminator_optimizer=discriminator_optimizer,
        progress=progress,
        checkpoints=checkpoints,
        monitor=Monitor(checkpoints.out, main=accelerator.is_main_process, step=progress.step),
        clips=clips,
        profile=profile,
    )


def _to_channels_last(model: nn.Module) -> None:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in model.parameters():
        if parameter.ndim in formats:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.ndim])


def _freeze(model: nn.Module, recipe: Recipe) -> None:
    """Parts that don't learn get no gradients."""
    everything = set(recipe.decoders) == set(recipe.model.decoders)
    for name, parameter in model.named_parameters():
        part, _, rest = name.partition(".")
        if part == "decoders":
            learns = rest.split(".")[0] in recipe.decoders
        elif part == "content":
            learns = everything and "content" not in recipe.train.freeze
        else:
            learns = "encoder" not in recipe.train.freeze
        parameter.requires_grad_(learns)


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    options = recipe.optimizer
    fast: list[nn.Parameter] = []
    slow: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_slow = options.slow_layers and any(part.startswith(options.slow_layers) for part in name.split("."))
            (slow if is_slow else fast).append(parameter)
    groups = [
        {"params": parameters, "scale": scale}
        for parameters, scale in ((fast, 1.0), (slow, options.slow_factor))
        if parameters
    ]
    if not groups:
        raise InputError("nothing learns: train.freeze and train.decoders leave no parameter")
    kind = torch.optim.AdamW if options.kind == "adamw" else torch.optim.Adam
    betas = (options.betas[0], options.betas[1])
    return kind(groups, lr=options.learning_rate, betas=betas, weight_decay=options.weight_decay)


# ---------------------------------------------------------------------- steps


def _steps(run: _Run, batches: Iterator[Batch], *, stopped: list[int], bar: Bar) -> None:
    recipe, progress = run.recipe, run.progress
    begun = time.monotonic() - progress.seconds
    saved = validated = progress.seconds
    logged_at = time.monotonic()
    while True:
        progress.seconds, stop = _agree(run, time.monotonic() - begun, bool(stopped))
        share = share_done(recipe.run, progress)
        ended = share >= 1 or stop or (run.profile and progress.step >= PROFILE_STEPS)
        due = _is_due(recipe.run.validate_steps, recipe.run.validate_minutes, progress, since=validated)
        if not run.profile and run.clips and ((ended and not stop) or due):
            better = _validate(run)
            validated = progress.seconds
        else:
            better = False
        due = _is_due(recipe.run.checkpoint_steps, recipe.run.checkpoint_minutes, progress, since=saved)
        if not run.profile and (ended or better or due):
            run.checkpoints.save(progress, partial(_write, run), best=better, main=run.accelerator.is_main_process)
            saved = progress.seconds
        if ended:
            return
        _step(run, batches, share=share)
        progress.step += 1
        if progress.step % recipe.run.log_steps == 0:
            means = {name: value / run.counted for name, value in run.sums.items()}
            clips = run.counted * recipe.stages[stage_number(recipe, share)].batch * run.accelerator.num_processes
            rate = clips / (time.monotonic() - logged_at)
            run.monitor.log(progress.step, minutes=progress.seconds / 60, **means, clips_per_second=rate)
            bar.update(share, summary(means, rate=rate))
            run.sums, run.counted, logged_at = {}, 0, time.monotonic()


def _agree(run: _Run, seconds: float, stop: bool) -> tuple[float, bool]:
    """All processes go by the first one's clock, and stop together."""
    if run.accelerator.num_processes == 1:
        return seconds, stop
    values = torch.tensor([seconds, float(stop)], dtype=torch.float64, device=run.device)
    everyone = run.accelerator.gather(values).view(-1, 2)
    return float(everyone[0, 0]), bool(everyone[:, 1].any())


def _is_due(steps: int, minutes: float, progress: Progress, *, since: float) -> bool:
    by_steps = steps > 0 and progress.step > 0 and progress.step % steps == 0
    return by_steps or (minutes > 0 and progress.seconds - since >= 60 * minutes)


def _step(run: _Run, batches: Iterator[Batch], *, share: float) -> None:
    """One step of all optimisers."""
    recipe, progress, accelerator = run.recipe, run.progress, run.accelerator
    factor = rate_factor(recipe.optimizer, step=progress.step, share=share)
    for group in run.optimizer.param_groups:
        group["lr"] = recipe.optimizer.learning_rate * factor * group["scale"]
    names = recipe.decoders
    if recipe.train.take_turns:
        names = (names[progress.step % len(names)],)
    run.objective.train()
    for _ in range(recipe.run.accumulate):
        with _timed(run, "wait for clips"):
            batch = _to_device(next(batches), run.device)
        for failure in batch.failures:
            progress.skipped += 1
            _log.warning("skipped a clip: %s", failure)
        stage = recipe.stages[batch.stage]
        modules = [run.objective] if run.discriminator is None else [run.objective, run.discriminator]
        with accelerator.accumulate(*modules):
            with _timed(run, "forward"):
                outcome: Outcome = run.objective(batch, stage, names)
                loss, adversarial = _with_adversary(run, outcome)
            _check_finite(loss, batch, step=progress.step)
            with _timed(run, "backward"):
                accelerator.backward(loss)
            with _timed(run, "update"):
                _update(run, run.optimizer, run.objective, clip_norm=recipe.optimizer.clip_norm, batch=batch)
            if adversarial:
                with _timed(run, "discriminator"):
                    adversarial |= _teach_discriminator(run, batch, outcome)
        parts = {"loss": loss.detach(), **outcome.parts, **adversarial}
        for name, value in parts.items():
            run.sums[name] = run.sums.get(name, 0.0) + float(value)
        run.counted += 1
    if run.average is not None:
        with _timed(run, "average"):
            _follow(run.average, run.model, decay=recipe.optimizer.ema, step=progress.step)


def _with_adversary(run: _Run, outcome: Outcome) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss with the adversarial part, and that part's terms; none of it before ``gan.start``."""
    gan = run.recipe.gan
    if run.discriminator is None or run.progress.step < gan.start:
        return outcome.loss, {}
    loss = outcome.loss
    parts: dict[str, Tensor] = {}
    run.discriminator.requires_grad_(False)
    for name, decoded in outcome.decoded.items():
        wrong = -run.discriminator(decoded.float()).mean()
        weight = adaptive_weight(outcome.reconstruction[name], wrong, last_layer(run.model, name))
        loss = loss + gan.weight * weight * wrong / len(outcome.decoded)
        parts |= {f"{name}/adversarial": wrong.detach(), f"{name}/adaptive weight": weight}
    run.discriminator.requires_grad_(True)
    return loss, parts


def _teach_discriminator(run: _Run, batch: Batch, outcome: Outcome) -> dict[str, Tensor]:
    gan = run.recipe.gan
    for group in run.discriminator_optimizer.param_groups:
        group["lr"] = gan.learning_rate * discriminator_factor(gan, step=run.progress.step)
    real = batch.video.float() / 127.5 - 1
    losses = []
    for decoded in outcome.decoded.values():
        judged = hinge_loss(run.discriminator(decoded.detach().float()), real=False)
        losses.append(0.5 * (hinge_loss(run.discriminator(real), real=True) + judged))
    loss = torch.stack(losses).mean()
    run.accelerator.backward(loss)
    _update(run, run.discriminator_optimizer, run.discriminator, clip_norm=gan.clip_norm, batch=batch)
    return {"discriminator": loss.detach()}


def _update(run: _Run, optimizer: Any, module: Any, *, clip_norm: float, batch: Batch) -> None:
    if run.accelerator.sync_gradients:
        norm = run.accelerator.clip_grad_norm_(module.parameters(), clip_norm or math.inf)
        _check_finite(norm, batch, step=run.progress.step)  # the gradients of all processes are in it
    optimizer.step()
    optimizer.zero_grad()


def _check_finite(value: Tensor, batch: Batch, *, step: int) -> None:
    if not torch.isfinite(value).all():
        raise ReducioError(
            f"the loss isn't finite at step {step}; its clips: {', '.join(batch.names)}. The last checkpoint is kept"
        )


@torch.no_grad()
def _follow(average: nn.Module, model: nn.Module, *, decay: float, step: int) -> None:
    weight = 1 - min(decay, (2 + step) / (11 + step))
    for target, source in zip(average.parameters(), model.parameters(), strict=True):
        if source.requires_grad:
            target.lerp_(source, weight)


def _to_device(batch: Batch, device: torch.device) -> Batch:
    return replace(
        batch,
        video=batch.video.to(device, non_blocking=True),
        keyframe=batch.keyframe.to(device, non_blocking=True),
        keyframe_index=batch.keyframe_index.to(device, non_blocking=True),
    )


@contextmanager
def _timed(run: _Run, name: str) -> Iterator[None]:
    """Adds the time of a part of the step; accelerators are waited for only where somebody asked (``profile``)."""
    began = time.perf_counter()
    yield
    if run.profile and run.device.type == "cuda":
        torch.cuda.synchronize(run.device)
    run.times[name] = run.times.get(name, 0.0) + time.perf_counter() - began


# ---------------------------------------------------------------------- between steps


def _validate(run: _Run) -> bool:
    """Measure, log, draw; whether it is the best so far. Only the first process does it; the others wait."""
    better = False
    names = run.recipe.decoders
    codec = cast(CodecModel, run.shown)
    if run.accelerator.is_main_process:
        run.shown.eval()
        run.last = validate(codec, run.clips, decoders=names, device=run.device, autocast=run.accelerator.autocast)
        values = run.last.log()
        run.monitor.log(run.progress.step, minutes=run.progress.seconds / 60, **values)
        _log.info("step %d: %s", run.progress.step, json.dumps(values))
        clip = run.clips[len(run.clips) // 2]
        shown = decode_all(codec, clip, decoders=names, device=run.device, autocast=run.accelerator.autocast)
        run.monitor.picture(run.progress.step, strip(clip, clip[codec.default_keyframe_index], shown))
        psnr = run.last.decoders[names[0]]
        better = run.progress.best is None or psnr > run.progress.best
        run.progress.best = psnr if better else run.progress.best
    run.accelerator.wait_for_everyone()
    if run.accelerator.num_processes > 1:
        better = bool(run.accelerator.gather(torch.tensor([better], device=run.device))[0])
    return better


def _write(run: _Run, folder: Path) -> None:
    """Model, optimisers and random states, by accelerate; the average beside them."""
    run.accelerator.wait_for_everyone()
    run.accelerator.save_state(str(folder))
    if run.average is not None and run.accelerator.is_main_process:
        save_file({key: value.contiguous() for key, value in run.average.state_dict().items()}, folder / _AVERAGE_FILE)


def _load(run: _Run, folder: Path) -> None:
    try:
        run.accelerator.load_state(str(folder))
        if run.average is not None:
            run.average.load_state_dict(load_file(folder / _AVERAGE_FILE))
            for target, source in zip(run.average.buffers(), run.model.buffers(), strict=True):
                target.copy_(source)
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        raise ReducioError(f"the checkpoint {folder} can't be read: {str(error).splitlines()[0]}") from error


@contextmanager
def _signals() -> Iterator[list[int]]:
    """A list that a SIGTERM or Ctrl-C puts its number in: the step in hand is finished, and a checkpoint written."""
    caught: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        if caught:  # the second time means now
            raise KeyboardInterrupt
        caught.append(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        for number in before:
            signal.signal(number, note)
    except ValueError:  # not the main thread: whoever runs it there has its own way to end it
        before = {}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _finish(run: _Run, out: Path, *, statistics: Iterator[Tensor]) -> Path:
    """The model folder and the learning curve."""
    recipe = run.recipe
    objective = run.accelerator.unwrap_model(run.objective)
    results = ""
    if run.last is not None:
        gains = ", ".join(f"{name} {psnr - run.last.copied:+.2f} dB" for name, psnr in run.last.decoders.items())
        results = (
            f"Over repeating the key frame ({run.last.copied:.2f} dB) on {len(run.clips)} validation clips: {gains}."
        )
    folder = export(
        run.shown,
        out / "model",
        recipe=recipe,
        widths=cast(Tensor, objective.widths),
        clips=islice(statistics, recipe.export.table_clips),
        card=card_text(recipe, command="reducio-codec train", results=results),
    )
    plot_curve(out)
    return folder
