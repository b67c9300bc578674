"""The engine of every training: set up, steps, and what happens between them: validation, checkpoints, log, signals."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar, cast

import torch

from reducio_codec.errors import InputError
from reducio_codec.training.acceleration import accelerated
from reducio_codec.training.checkpoint import Checkpoints, Position, check_folder, nothing_left, read_position
from reducio_codec.training.live import Show, Standing, place, shown_progress
from reducio_codec.training.options import RunOptions
from reducio_codec.training.run import Run, follow, load_state, set_rate, update, write_state
from reducio_codec.training.run_log import plot_curve
from reducio_codec.training.scan import CACHE_FOLDER
from reducio_codec.training.schedule import share_done
from reducio_codec.training.task import Setting, Task
from reducio_codec.weights.layout import MODEL_FOLDER

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class RunReport:
    """How a call ended."""

    step: int = 0
    minutes: float = 0.0
    model: Path | None = None
    """The exported folder, where the run is finished."""
    stopped_by: int | None = None
    """Number of the signal that ended it early, after a checkpoint."""
    profile: dict[str, float] = field(default_factory=dict)
    """Seconds of a step, by what it does; only with ``profile``."""

    @property
    def finished(self) -> bool:
        return self.stopped_by is None and not self.profile


Report = TypeVar("Report", bound=RunReport)


def run_task(
    task: Task, *, out: Path, report: Report, cache: Path | None = None, profile: bool = False, export: bool = False
) -> Report:
    """Train, or go on with the run in ``out``; the finished model is ``out/model``.

    Args:
        report: is filled in.
        cache: where the task keeps what it has made of its data; ``out/cache`` unless given.
        profile: run a few steps, save nothing, and report where the time goes.
        export: train nothing, and write ``out/model`` from the last checkpoint of a run that was interrupted.

    Raises:
        InputError: the data, the recipe, or what is in ``out`` doesn't allow it.
        ReducioError: a loss that isn't finite, a full disk, a dead worker; the last checkpoint is kept.
    """
    with accelerated(task.options, task.learning, unused=task.unused) as accelerator:
        checkpoints = Checkpoints(out)
        options = _options(task, accelerator)
        with nothing_left(out, cache=out / CACHE_FOLDER if cache is None else cache):
            document = None
            if accelerator.is_main_process and not profile:
                document = dict(task.document())
                check_folder(out, document)
            folder = None if profile else checkpoints.find()
            if export and folder is None:
                raise InputError(f"{out} has no checkpoint that a model could be written from")
            setting = Setting(
                accelerator=accelerator,
                checkpoints=checkpoints,
                position=Position() if folder is None else read_position(folder),
                fresh=folder is None,
                profile=profile,
                document=document,
                options=options,
                learning=task.learning,
            )
            run = task.build(setting)
        if export:
            load_state(run, cast(Path, folder))
            _note(report, run, [])
            _finish(task, run, report)
            return report
        if run.position.step:
            _log.info("goes on after step %d", run.position.step)
        run.log = setting.open_log()
        if folder is not None:
            load_state(run, folder)
        try:
            with signals() as stopped, shown_progress(main=accelerator.is_main_process) as show:
                _run_steps(task, run, stopped=stopped, show=show)
            _note(report, run, stopped)
            if report.finished:
                _finish(task, run, report)
                if accelerator.is_main_process:
                    plot_curve(out, task.curve)
        finally:
            run.log.close()
    return report


def _finish(task: Task, run: Run, report: RunReport) -> None:
    """Write the model as it is now."""
    run.gather()
    if run.accelerator.is_main_process:
        report.model = task.finish(run, run.checkpoints.out / MODEL_FOLDER)


def _options(task: Task, accelerator: Any) -> RunOptions:
    """Those of the task, for the processes at hand."""
    batch, processes = task.batch_size(0.0), accelerator.num_processes
    options = task.options.for_processes(processes, batch=batch)
    accelerator.gradient_accumulation_steps = options.accumulate
    if task.options.total_batch and accelerator.is_main_process:
        _log.info(
            "a step has %d clips: batches of %d, %d processes, %d added up",
            task.options.total_batch,
            batch,
            processes,
            options.accumulate,
        )
    return options


def _note(report: RunReport, run: Run, stopped: list[int]) -> None:
    """Where the run is."""
    position = run.position
    report.step, report.minutes = position.step, position.seconds / 60
    report.stopped_by = stopped[0] if stopped else None
    if run.profile:
        report.profile = {name: seconds / max(1, position.step) for name, seconds in run.times.items()}


def _run_steps(task: Task, run: Run, *, stopped: list[int], show: Show) -> None:
    """Steps until the run is done or ``stopped`` has a signal; ``show`` is told after each where the run is."""
    options, position = run.options, run.position
    begun = time.monotonic() - position.seconds
    saved = validated = position.seconds
    speed = _Speed(run)
    while True:
        position.seconds, stop = _agree(run, time.monotonic() - begun, bool(stopped))
        share = share_done(options, position)
        ended = share >= 1 or stop or (run.profile and position.step >= task.profile_steps)
        due = position.step == 0 or _is_due(options.validate_steps, options.validate_minutes, position, since=validated)
        better = False
        if not run.profile and task.validates and ((ended and not stop) or due):
            run.finite.read()
            better = _agree_on_best(task, run)
            validated = position.seconds
        due = _is_due(options.checkpoint_steps, options.checkpoint_minutes, position, since=saved)
        if not run.profile and (ended or better or due):
            run.finite.read()
            run.checkpoints.save(position, partial(write_state, run), best=better, main=run.accelerator.is_main_process)
            saved = position.seconds
        if ended:
            run.finite.read()
            return
        take_step(task, run, share=share)
        position.step += 1
        show(speed.after_step(task.batch_size(share)))


def take_step(task: Task, run: Run, *, share: float) -> None:
    """One step of all optimisers. The device isn't read: what it still computes is queued."""
    set_rate(run, share=share)
    run.loss.train()
    for _ in range(run.options.accumulate):
        with run.timed("wait for clips"):
            batch = next(run.batches).to(run.device)
        with run.accelerator.accumulate(run.loss, *run.others):
            with run.timed("forward"), run.accelerator.autocast():
                cost = task.step(run, batch)
            run.finite.note(cost.loss, step=run.position.step, names=batch.names)
            with run.timed("backward"):
                run.accelerator.backward(cost.loss)
            with run.timed("update"):
                update(run, run.optimizer, run.loss, clip_norm=run.learning.clip_norm, names=batch.names)
            parts = {"loss": cost.loss, **cost.parts, **(cost.then() if cost.then is not None else {})}
        run.means.add(parts)
    follow(run)


class _Speed:
    """Mean losses and clips a second: written to the log every ``log_steps``, and known in between for who watches."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._since = time.monotonic()
        self._logged: tuple[float, float] | None = None
        """Clips a second, and the mean loss."""

    def after_step(self, batch: int) -> Standing:
        """Where the run is; ``batch`` is that of a process."""
        run, position = self._run, self._run.position
        due = position.step % run.options.log_steps == 0
        if due or self._logged is None:  # before the first line of the log, means of what there is
            clips = run.means.batches * batch * run.accelerator.num_processes
            rate = clips / max(time.monotonic() - self._since, 1e-9)
        else:
            rate = self._logged[0]
        if due:
            run.finite.read()
            means = run.means.read()
            run.log.values(position.step, minutes=position.seconds / 60, **means, clips_per_second=rate)
            self._logged = rate, means["loss"]
            self._since = time.monotonic()
            run.means.clear()
        return Standing(
            step=position.step,
            seconds=position.seconds,
            share=share_done(run.options, position),
            clips_per_second=rate,
            mean_loss=self._mean_loss,
        )

    def _mean_loss(self) -> float:
        return self._run.means.read()["loss"] if self._logged is None else self._logged[1]


def _agree(run: Run, seconds: float, stop: bool) -> tuple[float, bool]:
    """All processes go by the first one's clock, and stop together."""
    if run.accelerator.num_processes == 1:
        return seconds, stop
    values = torch.tensor([seconds, float(stop)], dtype=torch.float64, device=run.device)
    everyone = run.accelerator.gather(values).view(-1, 2)
    return float(everyone[0, 0]), bool(everyone[:, 1].any())


def _agree_on_best(task: Task, run: Run) -> bool:
    """Only the first process validates; the others wait."""
    run.gather()
    better = _validate(task, run) if run.accelerator.is_main_process else False
    run.accelerator.wait_for_everyone()
    if run.accelerator.num_processes > 1:
        better = bool(run.accelerator.gather(torch.tensor([better], device=run.device))[0])
    return better


def _validate(task: Task, run: Run) -> bool:
    """Measure, log, draw; whether it is the best so far."""
    position = run.position
    run.shown.eval()
    verdict = task.validate(run)
    run.log.values(position.step, minutes=position.seconds / 60, **verdict.log)
    _log.info("%s: %s", place(position.step, position.seconds), verdict.words)
    if verdict.strip is not None:
        run.log.picture(position.step, verdict.strip)
    better = position.best is None or verdict.value > position.best
    position.best = verdict.value if better else position.best
    return better


def _is_due(steps: int, minutes: float, position: Position, *, since: float) -> bool:
    by_steps = steps > 0 and position.step > 0 and position.step % steps == 0
    return by_steps or (minutes > 0 and position.seconds - since >= 60 * minutes)


@contextmanager
def signals() -> Iterator[list[int]]:
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
