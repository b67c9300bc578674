"""Training of a codec, as a task of the engine."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from reducio_codec.io.strips import strip
from reducio_codec.models.contract import CodecModel
from reducio_codec.models.factory import training_of
from reducio_codec.models.lite.model import ReducioLite
from reducio_codec.train.adversary import Adversary
from reducio_codec.train.clip_loss import ClipLoss, Outcome
from reducio_codec.train.data import held_out_clips, scan_videos, statistics_clips
from reducio_codec.train.export import card_text, export
from reducio_codec.train.first_weights import build_model, kept_tables, start_from_clips, start_from_files
from reducio_codec.train.loading import Batch, ClipDataset, collate
from reducio_codec.train.losses import PerceptualLoss, perceptual_loss
from reducio_codec.train.recipe import Recipe, to_document
from reducio_codec.train.sampling import ClipSampler
from reducio_codec.train.validate import Validation, decode_all, validate
from reducio_codec.training.checkpoint import Position
from reducio_codec.training.held_out import HeldOutClip
from reducio_codec.training.loop import RunReport, run_task
from reducio_codec.training.run import Run
from reducio_codec.training.run_log import Curve
from reducio_codec.training.scan import CACHE_FOLDER, ScanResult
from reducio_codec.training.schedule import share_done
from reducio_codec.training.store import open_store
from reducio_codec.training.task import Cost, Setting, Verdict

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class TrainReport(RunReport):
    """How a call of ``train`` ended."""

    validation: Validation | None = None
    skipped: list[tuple[str, str]] = field(default_factory=list)
    """(video, reason) that couldn't be used."""


def train(
    recipe: Recipe,
    *,
    data: str | Path,
    val: str | Path | None,
    out: str | Path,
    cache: str | Path | None = None,
    profile: bool = False,
    export: bool = False,
) -> TrainReport:
    """Train, or go on with the run in ``out``; the finished model is ``out/model``.

    Args:
        data, val: folders of videos, or CSV or JSONL files that list them.
        cache: where decoded videos are kept; ``out/cache`` unless given.
        profile: run a few steps, save nothing, and report where the time goes.
        export: train nothing, and write ``out/model`` from the last checkpoint of a run that was interrupted.

    Raises:
        InputError: the data, the recipe, or what is in ``out`` doesn't allow it.
        ReducioError: a loss that isn't finite, a full disk, a dead worker; the last checkpoint is kept.
    """
    out = Path(out)
    cache = out / CACHE_FOLDER if cache is None else Path(cache)
    task = CodecTask(recipe, data=data, val=val, cache=cache)
    report = run_task(task, out=out, report=TrainReport(), cache=cache, profile=profile, export=export)
    report.validation, report.skipped = task.last, task.skipped
    return report


class CodecTask:
    """Encoder and decoders, on clips of videos."""

    curve = Curve(shown=re.compile("val/.*/gain"), label="dB over repeating the key frame")
    profile_steps = 20

    def __init__(self, recipe: Recipe, *, data: str | Path, val: str | Path | None, cache: Path) -> None:
        self.options, self.learning = recipe.run, recipe.optimizer
        # decoders that rest at a step, and a frozen part, leave parameters without a gradient
        self.unused = recipe.train.take_turns or bool(recipe.gan.weight)
        self.validates = val is not None
        self.last: Validation | None = None
        self.skipped: list[tuple[str, str]] = []
        self._recipe, self._data, self._val, self._cache = recipe, data, val, cache
        self._clips: list[HeldOutClip] = []
        self._adversary: Adversary | None = None
        self._statistics: Callable[[], Iterator[Tensor]]

    def document(self) -> dict[str, Any]:
        return to_document(self._recipe)

    def build(self, setting: Setting) -> Run:
        recipe = self._recipe
        model = build_model(recipe)
        can = training_of(recipe.model)
        widths = torch.ones(recipe.model.latent_channels)
        with setting.accelerator.main_process_first():
            if setting.fresh:
                widths = start_from_files(model, recipe)
            found, held_out = scan_videos(recipe, self._data, self._val, cache=self._cache)
        self.skipped = found.skipped
        store = open_store(found.videos, storage=recipe.data.storage, device=setting.device)
        sampler = ClipSampler(
            found.videos,
            data=recipe.data,
            keyframe=recipe.keyframe,
            seed=recipe.run.seed,
            keyframe_index=model.default_keyframe_index,
            random_keyframe=can.random_keyframe,
        )
        self._statistics = partial(statistics_clips, sampler, store, side=recipe.stages[-1].side)
        if held_out is not None:
            self._clips = held_out_clips(recipe, held_out, keyframe_index=model.default_keyframe_index)
        _tell_data(found, held_out, clips=len(self._clips))
        if recipe.start.flow and setting.fresh:
            widths = start_from_clips(cast(ReducioLite, model), recipe, clips=self._statistics())
        batches = setting.batches(
            ClipDataset(sampler, store, codec=recipe.keyframe.codec),
            stage_at=partial(_stage_at, recipe, setting.position),
            workers=recipe.data.workers,
            collate=collate,
        )
        _freeze(model, recipe)
        model.gradient_checkpointing = recipe.run.gradient_checkpointing
        run = setting.make_run(
            model,
            partial(_make_loss, model, recipe, widths=widths, device=setting.device),
            layers=can.block,
            batches=batches,
        )
        if recipe.gan.weight:
            self._adversary = Adversary(recipe.gan, run, seed=recipe.run.seed)
        return run

    def batch_size(self, share: float) -> int:
        return self._recipe.stages[self._recipe.stage_number(share)].batch

    def step(self, run: Run, batch: Batch) -> Cost:
        recipe, names, step = self._recipe, self._recipe.decoders, run.position.step
        if recipe.train.take_turns:
            names = (names[step % len(names)],)
        for failure in batch.failures:
            run.position.skipped += 1
            _log.warning("skipped a clip: %s", failure)
        outcome: Outcome = run.loss(batch, recipe.stages[batch.stage], names)
        if self._adversary is None or not self._adversary.counts(step):
            return Cost(loss=outcome.loss, parts=outcome.parts)
        loss, parts = self._adversary.judge(run, outcome)
        learn = partial(self._adversary.learn, run, batch, outcome.decoded)
        return Cost(loss=loss, parts={**outcome.parts, **parts}, then=learn)

    def validate(self, run: Run) -> Verdict:
        names, codec = self._recipe.decoders, cast(CodecModel, run.shown)
        autocast = run.accelerator.autocast
        self.last = validate(codec, self._clips, decoders=names, device=run.device, autocast=autocast)
        clip = self._clips[len(self._clips) // 2]
        shown = decode_all(codec, clip, decoders=names, device=run.device, autocast=autocast)
        return Verdict(
            value=self.last.decoders[names[0]],
            log=self.last.log(),
            words=self.last.words(),
            strip=strip(clip.frames, clip.frames[clip.keyframe_index], shown),
        )

    def finish(self, run: Run, folder: Path) -> Path:
        recipe, last = self._recipe, self.last
        loss = run.accelerator.unwrap_model(run.loss)
        results = ""
        if last is not None:
            gains = ", ".join(f"{name} {psnr - last.copied:+.2f} dB" for name, psnr in last.decoders.items())
            clips = f"{len(self._clips)} validation clips"
            results = f"Over repeating the key frame ({last.copied:.2f} dB) on {clips}: {gains}."
        return export(
            cast(CodecModel, run.shown),
            folder,
            dtype=recipe.export.dtype,
            widths=cast(Tensor, loss.widths),
            clips=islice(self._statistics(), recipe.export.table_clips),
            card=card_text(recipe, folder, command="reducio-codec train", results=results),
            tables=kept_tables(recipe),
        )


def _make_loss(model: CodecModel, recipe: Recipe, *, widths: Tensor, device: torch.device) -> ClipLoss:
    perceptual: dict[str, PerceptualLoss] = {
        name: perceptual_loss(name, trunk=recipe.loss.lpips_trunk, device=device) for name in recipe.perceptual_losses
    }
    return ClipLoss(model, recipe, widths=widths, perceptual=perceptual)


def _freeze(model: nn.Module, recipe: Recipe) -> None:
    """Parts that don't learn get no gradients."""
    everything = set(recipe.decoders) == set(recipe.model.decoders)
    for name, parameter in model.named_parameters():
        part, _, rest = name.partition(".")
        if part == "decoders":
            learns = rest.split(".")[0] in recipe.decoders
        elif part in training_of(recipe.model).shared:
            learns = everything and part not in recipe.train.freeze
        else:
            learns = "encoder" not in recipe.train.freeze
        parameter.requires_grad_(learns)


def _tell_data(found: ScanResult, held_out: ScanResult | None, *, clips: int) -> None:
    told = f"learns from {_count(found)}"
    if held_out is not None:
        told += f", validates on {clips} clip{'s' if clips != 1 else ''} of {_count(held_out)}"
    _log.info(told)


def _count(found: ScanResult) -> str:
    return f"{len(found.videos)} video{'s' if len(found.videos) != 1 else ''}"


def _stage_at(recipe: Recipe, position: Position, step: int) -> tuple[int, int, int]:
    """Number, batch and side of the stage at a step."""
    ahead = replace(position, step=step) if recipe.run.steps else position
    number = recipe.stage_number(share_done(recipe.run, ahead))
    stage = recipe.stages[number]
    return number, stage.batch, stage.side
