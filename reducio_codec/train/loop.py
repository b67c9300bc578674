"""The training loop: set up, steps, and what happens between them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from reducio_codec.io.strips import strip
from reducio_codec.models.contract import CodecModel
from reducio_codec.models.factory import training_of
from reducio_codec.models.lite.model import ReducioLite
from reducio_codec.train.checkpoint import Checkpoints, Progress, check_folder, nothing_left, read_progress
from reducio_codec.train.export import card_text, export
from reducio_codec.train.live import place, shown_progress
from reducio_codec.train.loading import ClipDataset, PlannedBatches, load_batches
from reducio_codec.train.monitor import plot_curve
from reducio_codec.train.recipe import Recipe
from reducio_codec.train.recipe_file import to_document
from reducio_codec.train.run import load_state, write_state
from reducio_codec.train.running import RunReport, is_better, run_steps, signals
from reducio_codec.train.sampling import ClipSampler
from reducio_codec.train.scan import CACHE_FOLDER, ScanResult
from reducio_codec.train.schedule import share_done, stage_number
from reducio_codec.train.session import (
    Session,
    codec_accelerator,
    held_out_clips,
    scan_videos,
    set_up,
    statistics_clips,
)
from reducio_codec.train.start import build_model, kept_tables, start_from_clips, start_from_files
from reducio_codec.train.steps import take_step
from reducio_codec.train.store import open_store
from reducio_codec.train.validate import Validation, decode_all, validate

_log = logging.getLogger(__name__)

PROFILE_STEPS = 20


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
    out, cache = Path(out), Path(out) / CACHE_FOLDER if cache is None else Path(cache)
    accelerator = codec_accelerator(recipe)
    checkpoints = Checkpoints(out)
    model = build_model(recipe)
    with accelerator.main_process_first(), nothing_left(out, cache=cache):
        if accelerator.is_main_process and not profile:
            check_folder(out, to_document(recipe))
        folder = None if profile else checkpoints.find()
        widths = start_from_files(model, recipe) if folder is None else torch.ones(recipe.model.latent_channels)
        found, held_out = scan_videos(recipe, data, val, cache=cache)
    progress = Progress() if folder is None else read_progress(folder)
    store = open_store(found.videos, storage=recipe.data.storage, device=accelerator.device)
    sampler = ClipSampler(
        found.videos,
        data=recipe.data,
        keyframe=recipe.keyframe,
        seed=recipe.run.seed,
        keyframe_index=model.default_keyframe_index,
        random_keyframe=training_of(recipe.model).random_keyframe,
    )
    statistics = partial(statistics_clips, sampler, store, side=recipe.stages[-1].side)
    clips = [] if held_out is None else held_out_clips(recipe, held_out)
    _tell_start(found, held_out, clips=len(clips), step=progress.step)
    if recipe.start.flow and folder is None:
        widths = start_from_clips(cast(ReducioLite, model), recipe, clips=statistics())
    session = set_up(
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
        load_state(session, folder)
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
    report = TrainReport(skipped=found.skipped)
    with signals() as stopped, shown_progress(main=accelerator.is_main_process) as show:
        run_steps(
            session,
            take_step=lambda share: take_step(session, batches, share=share),
            validate=partial(_validate, session) if session.clips else None,
            write_state=partial(write_state, session),
            batch_size=partial(_batch_size, recipe),
            profile_steps=PROFILE_STEPS,
            stopped=stopped,
            show=show,
        )
        report.note(session, stopped)
    report.validation = session.last
    if report.finished:
        session.gather()
        if accelerator.is_main_process:
            report.model = _finish(session, out, statistics=statistics())
    session.monitor.close()
    return report


def _tell_start(found: ScanResult, held_out: ScanResult | None, *, clips: int, step: int) -> None:
    told = f"learns from {_count(found)}"
    if held_out is not None:
        told += f", validates on {clips} clip{'s' if clips != 1 else ''} of {_count(held_out)}"
    _log.info(told)
    if step:
        _log.info("goes on after step %d", step)


def _count(found: ScanResult) -> str:
    return f"{len(found.videos)} video{'s' if len(found.videos) != 1 else ''}"


def _stage_at(recipe: Recipe, progress: Progress, step: int) -> tuple[int, int, int]:
    ahead = replace(progress, step=step) if recipe.run.steps else progress
    number = stage_number(recipe, share_done(recipe.run, ahead))
    stage = recipe.stages[number]
    return number, stage.batch, stage.side


def _batch_size(recipe: Recipe, share: float) -> int:
    return recipe.stages[stage_number(recipe, share)].batch


def _validate(session: Session) -> bool:
    """Measure, log, draw; whether it is the best so far."""
    names = session.recipe.decoders
    codec = cast(CodecModel, session.shown)
    session.shown.eval()
    session.last = validate(
        codec, session.clips, decoders=names, device=session.device, autocast=session.accelerator.autocast
    )
    progress = session.progress
    session.monitor.log(progress.step, minutes=progress.seconds / 60, **session.last.log())
    _log.info("%s: %s", place(progress.step, progress.seconds), session.last.words())
    clip = session.clips[len(session.clips) // 2]
    shown = decode_all(codec, clip, decoders=names, device=session.device, autocast=session.accelerator.autocast)
    session.monitor.picture(progress.step, strip(clip.frames, clip.frames[clip.keyframe_index], shown))
    return is_better(progress, session.last.decoders[names[0]])


def _finish(session: Session, out: Path, *, statistics: Iterator[Tensor]) -> Path:
    """The model folder and the learning curve."""
    recipe = session.recipe
    objective = session.accelerator.unwrap_model(session.objective)
    results = ""
    if session.last is not None:
        gains = ", ".join(
            f"{name} {psnr - session.last.copied:+.2f} dB" for name, psnr in session.last.decoders.items()
        )
        copied, count = session.last.copied, len(session.clips)
        results = f"Over repeating the key frame ({copied:.2f} dB) on {count} validation clips: {gains}."
    folder = export(
        cast(CodecModel, session.shown),
        out / "model",
        recipe=recipe,
        widths=cast(Tensor, objective.widths),
        clips=islice(statistics, recipe.export.table_clips),
        card=card_text(recipe, command="reducio-codec train", results=results),
        tables=kept_tables(recipe),
    )
    plot_curve(out)
    return folder
