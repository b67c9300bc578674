"""Training of a transformer, as a task of the engine."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from reducio_codec.errors import InputError
from reducio_codec.generate.config import DiTConfig
from reducio_codec.generate.dit import ReducioDiT
from reducio_codec.generate.folder import save_dit
from reducio_codec.generate.latent_motion import LatentMotion
from reducio_codec.generate.motions import quantiles_of
from reducio_codec.generate.train.first_weights import bound_config, build_model, load_teacher, start, teacher_id
from reducio_codec.generate.train.recipe import DitRecipe
from reducio_codec.generate.train.samples import Entry, LatentBatch, LatentDataset, Samples, collate
from reducio_codec.generate.train.validate import (
    VALIDATION_SEED,
    Generator,
    load_codec,
    make_loss,
    spread,
    validation_loss,
)
from reducio_codec.io.strips import clip_strip
from reducio_codec.training.loop import RunReport, run_task
from reducio_codec.training.run import Run
from reducio_codec.training.run_log import Curve
from reducio_codec.training.task import Cost, Setting, Verdict
from reducio_codec.weights.card import ModelCard
from reducio_codec.weights.layout import model_name

_log = logging.getLogger(__name__)

_USE = (
    "from reducio_codec.generate import ReducioDiTPipeline\n\n"
    'video = ReducioDiTPipeline.from_pretrained("path/to/this/folder"{codec})(image="photo.jpg")'
)


PICTURE_ENCODER_M = 632
"""Millions of parameters that make the semantic tokens (Sec. 3.2), beside the model."""


@dataclass(kw_only=True)
class DitReport(RunReport):
    """How a call of ``train_dit`` ended."""

    values: dict[str, float] | None = None
    """Of the last validation."""


def train_dit(
    recipe: DitRecipe,
    *,
    latents: Sequence[str | Path],
    val: Sequence[str | Path] = (),
    out: str | Path,
    profile: bool = False,
    export: bool = False,
) -> DitReport:
    """Train, or go on with the run in ``out``; the finished model is ``out/model``.

    Args:
        latents, val: folders of shards.
        profile: run a few steps, save nothing, and report where the time goes.
        export: train nothing, and write ``out/model`` from the last checkpoint of a run that was interrupted.

    Raises:
        InputError: the shards, the recipe, or what is in ``out`` doesn't allow it.
        ReducioError: a loss that isn't finite, a full disk, a damaged shard; the last checkpoint is kept.
    """
    task = GeneratorTask(recipe, latents=[Path(folder) for folder in latents], val=[Path(folder) for folder in val])
    report = run_task(task, out=Path(out), report=DitReport(), profile=profile, export=export)
    report.values = task.values
    return report


class GeneratorTask:
    """A transformer, on latents in shards."""

    curve = Curve(shown=re.compile("val/.*"), label="validation: loss, motion over the real clips'")
    profile_steps = 5
    unused = True

    def __init__(self, recipe: DitRecipe, *, latents: Sequence[Path], val: Sequence[Path]) -> None:
        self.options, self.learning = recipe.run, recipe.optimizer
        self.validates = bool(val)
        self.values: dict[str, float] | None = None
        self._recipe = recipe
        self._samples = Samples(latents)
        self._held_out = Samples(val) if val else None
        self._config = bound_config(recipe.model, self._samples.index)
        for samples in (self._samples, self._held_out):
            if samples is not None:
                _check_samples(samples, self._config)
        self._entries: list[Entry] = []
        self._teacher: ReducioDiT | None = None
        self._motion: LatentMotion | None = None
        self._generator: Generator | None = None

    def document(self) -> dict[str, Any]:
        return {**self._recipe.to_document(), "shards": self._samples.identity, **teacher_id(self._recipe)}

    def build(self, setting: Setting) -> Run:
        recipe, config = self._recipe, self._config
        self._teacher = load_teacher(recipe, config, device=setting.device)
        model = build_model(config, seed=recipe.run.seed)
        if setting.fresh:
            start(model, recipe)
        model.gradient_checkpointing = recipe.run.gradient_checkpointing
        dataset = LatentDataset(
            self._samples,
            motion_power=recipe.data.motion_power,
            seed=recipe.run.seed,
            in_memory=recipe.data.storage == "memory",
            steps=recipe.loss.teacher_batches if config.distilled_steps else 0,
        )
        batches = setting.batches(
            dataset, stage_at=lambda _step: (0, recipe.data.batch, 0), workers=recipe.data.workers, collate=collate
        )
        if config.motion_unit or recipe.loss.channels == "pixels":
            codec = load_codec(self._samples, config=config, device=setting.device)
            self._motion = LatentMotion(codec.model, unit=config.motion_unit, side=config.sample_size)
        make = partial(make_loss, model, recipe, seed=recipe.run.seed, teacher=self._teacher, motion=self._motion)
        run = setting.make_run(model, make, layers="Block", batches=batches)
        if self._held_out is not None and setting.first and not setting.profile:
            self._entries = spread(self._held_out.entries, recipe.validation.samples)
            if recipe.validation.clips:
                self._generator = Generator(self._held_out, recipe.validation, config=config, device=setting.device)
        told = f", validates on {len(self._entries)}" if self._entries else ""
        _log.info("learns from %d samples%s", len(self._samples.entries), told)
        return run

    def batch_size(self, share: float) -> int:
        return self._recipe.data.batch

    def step(self, run: Run, batch: LatentBatch) -> Cost:
        loss: torch.Tensor = run.loss(batch).mean()
        return Cost(loss=loss)

    def validate(self, run: Run) -> Verdict:
        assert self._held_out is not None
        model, autocast = cast(ReducioDiT, run.shown), run.accelerator.autocast
        loss = validation_loss(
            make_loss(model, self._recipe, seed=VALIDATION_SEED, teacher=self._teacher, motion=self._motion).eval(),
            self._held_out,
            self._entries,
            batch=self._recipe.data.batch,
            device=run.device,
            autocast=autocast,
        )
        self.values = {"val/loss": round(loss, 5)}
        strip = None
        if self._generator is not None:
            found = self._generator(model, autocast=autocast)
            self.values["val/motion"] = round(found.motion(self._held_out.index.keyframe_index), 4)
            rows = {}
            for number, (made, real) in enumerate(zip(found.made, found.real, strict=True)):
                rows[f"clip {number}: real motion, as the codec shows it"] = real
                rows[f"clip {number}: generated"] = made
            strip = clip_strip(rows)
        return Verdict(value=-loss, log=self.values, words=_words(self.values), strip=strip)

    def finish(self, run: Run, folder: Path) -> Path:
        export, model = self._recipe.export, cast(ReducioDiT, run.shown)
        if model.config.motion_unit and not model.config.motion_quantiles:
            assert self._motion is not None
            model.config = replace(model.config, motion_quantiles=quantiles_of(self._samples.motions(self._motion)))
        results = f"Validation: {json.dumps(self.values)}." if self.values else ""
        card = ModelCard(
            name=export.name or model_name(folder),
            licence=export.licence,
            summary=f"Reducio-DiT for latents of {model.config.latent_space}. {parameters_in_words(model)}",
            use=_USE.format(codec="" if model.config.codec else ", codec=..."),
            source=f"Trained by `reducio-codec train-dit` for {run.position.step} steps. {results}",
        ).text()
        return save_dit(model, folder, card=card, dtype=export.dtype)


def parameters_in_words(model: ReducioDiT) -> str:
    """How many, in which parts; for a model of the paper's size beside the paper's number."""
    counts = {name.replace("_", " "): count / 1e6 for name, count in model.parameter_counts().items()}
    parts = ", ".join(f"{name} {millions:.1f}" for name, millions in counts.items() if millions)
    total = sum(counts.values())
    words = f"{total:.1f} M parameters: {parts}."
    if (model.config.depth, model.config.width) != (DiTConfig.depth, DiTConfig.width):
        return words
    with_pictures = (total + PICTURE_ENCODER_M) / 1000
    return (
        f"{words} The paper says 1.2 B in total and not of what; with the picture half of OpenCLIP's ViT-H "
        f"({PICTURE_ENCODER_M} M) these are {with_pictures:.2f} B."
    )


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


def _words(values: dict[str, float]) -> str:
    """A validation in one line for people."""
    motion = f", motion {values['val/motion']:.2f} of the real clips'" if "val/motion" in values else ""
    return f"validation loss {values['val/loss']:g}{motion}"
