"""The training loop: set up, steps, and what happens between them."""

from __future__ import annotations

import json
import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import cast

import torch
from torch import Tensor

from reducio_codec.models.interface import CodecModel
from reducio_codec.pictures import strip
from reducio_codec.train.checkpoint import Checkpoints, Progress, claim_folder, read_progress
from reducio_codec.train.export import card_text, export
from reducio_codec.train.loading import Batch, ClipDataset, PlannedBatches, load_batches
from reducio_codec.train.monitor import Bar, plot_curve, progress_bar, summary
from reducio_codec.train.recipe import Recipe
from reducio_codec.train.recipe_file import to_document
from reducio_codec.train.sampling import ClipSampler
from reducio_codec.train.schedule import share_done, stage_number
from reducio_codec.train.session import (
    Session,
    held_out_clips,
    load_state,
    make_accelerator,
    scan_videos,
    set_up,
    statistics_clips,
    write_state,
)
from reducio_codec.train.start import build_model, kept_tables, start
from reducio_codec.train.steps import take_step
from reducio_codec.train.store import open_store
from reducio_codec.train.validate import Validation, decode_all, validate

_log = logging.getLogger(__name__)

PROFILE_STEPS = 20


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
    accelerator = make_accelerator(recipe)
    checkpoints = Checkpoints(out)
    with accelerator.main_process_first():
        if accelerator.is_main_process:
            claim_folder(out, to_document(recipe))
        found = scan_videos(recipe, data, cache=cache)
        held_out = None if val is None else scan_videos(recipe, val, cache=cache)
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
    statistics = partial(statistics_clips, sampler, store, side=recipe.stages[-1].side)
    widths = torch.ones(recipe.model.latent_channels) if folder else start(model, recipe, clips=statistics())
    clips = [] if held_out is None else held_out_clips(recipe, held_out)
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
    report = TrainReport(step=0, minutes=0.0, validation=None, model=None, skipped=found.skipped)
    with _signals() as stopped, progress_bar(main=accelerator.is_main_process) as bar:
        _steps(session, batches, stopped=stopped, bar=bar)
        report.stopped_by = stopped[0] if stopped else None
    report.step, report.minutes, report.validation = progress.step, progress.seconds / 60, session.last
    if profile:
        steps = max(1, progress.step)
        report.profile = {name: seconds / steps for name, seconds in session.times.items()}
    elif report.stopped_by is None and accelerator.is_main_process:
        report.model = _finish(session, out, statistics=statistics())
    session.monitor.close()
    return report


def _stage_at(recipe: Recipe, progress: Progress, step: int) -> tuple[int, int, int]:
    ahead = replace(progress, step=step) if recipe.run.steps else progress
    number = stage_number(recipe, share_done(recipe.run, ahead))
    stage = recipe.stages[number]
    return number, stage.batch, stage.side


def _steps(session: Session, batches: Iterator[Batch], *, stopped: list[int], bar: Bar) -> None:
    recipe, progress = session.recipe, session.progress
    begun = time.monotonic() - progress.seconds
    saved = validated = progress.seconds
    logged_at = time.monotonic()
    while True:
        progress.seconds, stop = _agree(session, time.monotonic() - begun, bool(stopped))
        share = share_done(recipe.run, progress)
        ended = share >= 1 or stop or (session.profile and progress.step >= PROFILE_STEPS)
        due = progress.step == 0 or _is_due(
            recipe.run.validate_steps, recipe.run.validate_minutes, progress, since=validated
        )
        if not session.profile and session.clips and ((ended and not stop) or due):
            better = _validate(session)
            validated = progress.seconds
        else:
            better = False
        due = _is_due(recipe.run.checkpoint_steps, recipe.run.checkpoint_minutes, progress, since=saved)
        if not session.profile and (ended or better or due):
            session.checkpoints.save(
                progress, partial(write_state, session), best=better, main=session.accelerator.is_main_process
            )
            saved = progress.seconds
        if ended:
            return
        take_step(session, batches, share=share)
        progress.step += 1
        if progress.step % recipe.run.log_steps == 0:
            means = {name: value / session.counted for name, value in session.sums.items()}
            clips = (
                session.counted * recipe.stages[stage_number(recipe, share)].batch * session.accelerator.num_processes
            )
            rate = clips / (time.monotonic() - logged_at)
            session.monitor.log(progress.step, minutes=progress.seconds / 60, **means, clips_per_second=rate)
            bar.update(share, summary(means, rate=rate))
            session.sums, session.counted, logged_at = {}, 0, time.monotonic()


def _agree(session: Session, seconds: float, stop: bool) -> tuple[float, bool]:
    """All processes go by the first one's clock, and stop together."""
    if session.accelerator.num_processes == 1:
        return seconds, stop
    values = torch.tensor([seconds, float(stop)], dtype=torch.float64, device=session.device)
    everyone = session.accelerator.gather(values).view(-1, 2)
    return float(everyone[0, 0]), bool(everyone[:, 1].any())


def _is_due(steps: int, minutes: float, progress: Progress, *, since: float) -> bool:
    by_steps = steps > 0 and progress.step > 0 and progress.step % steps == 0
    return by_steps or (minutes > 0 and progress.seconds - since >= 60 * minutes)


def _validate(session: Session) -> bool:
    """Measure, log, draw; whether it is the best so far. Only the first process does it; the others wait."""
    better = False
    names = session.recipe.decoders
    codec = cast(CodecModel, session.shown)
    if session.accelerator.is_main_process:
        session.shown.eval()
        session.last = validate(
            codec, session.clips, decoders=names, device=session.device, autocast=session.accelerator.autocast
        )
        values = session.last.log()
        session.monitor.log(session.progress.step, minutes=session.progress.seconds / 60, **values)
        _log.info("step %d: %s", session.progress.step, json.dumps(values))
        clip = session.clips[len(session.clips) // 2]
        shown = decode_all(codec, clip, decoders=names, device=session.device, autocast=session.accelerator.autocast)
        session.monitor.picture(session.progress.step, strip(clip.frames, clip.frames[clip.keyframe_index], shown))
        psnr = session.last.decoders[names[0]]
        better = session.progress.best is None or psnr > session.progress.best
        session.progress.best = psnr if better else session.progress.best
    session.accelerator.wait_for_everyone()
    if session.accelerator.num_processes > 1:
        better = bool(session.accelerator.gather(torch.tensor([better], device=session.device))[0])
    return better


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
        session.shown,
        out / "model",
        recipe=recipe,
        widths=cast(Tensor, objective.widths),
        clips=islice(statistics, recipe.export.table_clips),
        card=card_text(recipe, command="reducio-codec train", results=results),
        tables=kept_tables(recipe),
    )
    plot_curve(out)
    return folder
