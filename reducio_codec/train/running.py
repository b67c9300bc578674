"""From the first step of a call to its last: validation, checkpoints and the log between steps, and signals."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import torch

from reducio_codec.train.checkpoint import Progress
from reducio_codec.train.live import Show, Standing
from reducio_codec.train.run import Run
from reducio_codec.train.schedule import share_done


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

    def note(self, run: Run, stopped: list[int]) -> None:
        """Where the run is."""
        progress = run.progress
        self.step, self.minutes = progress.step, progress.seconds / 60
        self.stopped_by = stopped[0] if stopped else None
        if run.profile:
            self.profile = {name: seconds / max(1, progress.step) for name, seconds in run.times.items()}

    @property
    def finished(self) -> bool:
        return self.stopped_by is None and not self.profile


def run_steps(
    run: Run,
    *,
    take_step: Callable[[float], None],
    validate: Callable[[], bool] | None,
    write_state: Callable[[Path], None],
    batch_size: Callable[[float], int],
    profile_steps: int,
    stopped: list[int],
    show: Show,
) -> None:
    """Steps until the run is done or ``stopped`` has a signal.

    Args:
        take_step: one step of all optimisers; the argument of it and of ``batch_size`` is the share of the run done.
        validate: whether this is the best so far. None: nothing to validate on.
        write_state: all that a checkpoint has beside ``run.progress``.
        batch_size: clips of a process's batch.
        show: told after each step where the run is.
    """
    options, progress = run.options, run.progress
    begun = time.monotonic() - progress.seconds
    saved = validated = progress.seconds
    speed = _Speed(run)
    while True:
        progress.seconds, stop = _agree(run, time.monotonic() - begun, bool(stopped))
        share = share_done(options, progress)
        ended = share >= 1 or stop or (run.profile and progress.step >= profile_steps)
        due = progress.step == 0 or _is_due(options.validate_steps, options.validate_minutes, progress, since=validated)
        better = False
        if not run.profile and validate is not None and ((ended and not stop) or due):
            better = _agree_on_best(run, validate)
            validated = progress.seconds
        due = _is_due(options.checkpoint_steps, options.checkpoint_minutes, progress, since=saved)
        if not run.profile and (ended or better or due):
            run.checkpoints.save(progress, write_state, best=better, main=run.accelerator.is_main_process)
            saved = progress.seconds
        if ended:
            return
        take_step(share)
        progress.step += 1
        show(speed.after_step(batch_size(share)))


class _Speed:
    """Mean losses and clips a second: written to the log every ``log_steps``, and known in between for who watches."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._since = time.monotonic()
        self._logged: tuple[float, dict[str, float]] | None = None

    def after_step(self, batch: int) -> Standing:
        """Where the run is; ``batch`` is that of a process."""
        run, progress = self._run, self._run.progress
        due = progress.step % run.options.log_steps == 0
        if due or self._logged is None:  # before the first line of the log, means of what there is
            means = {name: value / run.counted for name, value in run.sums.items()}
            clips = run.counted * batch * run.accelerator.num_processes
            rate = clips / (time.monotonic() - self._since)
        else:
            rate, means = self._logged
        if due:
            run.monitor.log(progress.step, minutes=progress.seconds / 60, **means, clips_per_second=rate)
            self._logged = rate, means
            run.sums, run.counted, self._since = {}, 0, time.monotonic()
        return Standing(
            step=progress.step,
            seconds=progress.seconds,
            share=share_done(run.options, progress),
            clips_per_second=rate,
            losses=means,
        )


def _agree(run: Run, seconds: float, stop: bool) -> tuple[float, bool]:
    """All processes go by the first one's clock, and stop together."""
    if run.accelerator.num_processes == 1:
        return seconds, stop
    values = torch.tensor([seconds, float(stop)], dtype=torch.float64, device=run.device)
    everyone = run.accelerator.gather(values).view(-1, 2)
    return float(everyone[0, 0]), bool(everyone[:, 1].any())


def _agree_on_best(run: Run, validate: Callable[[], bool]) -> bool:
    """Only the first process validates; the others wait."""
    run.gather()
    better = validate() if run.accelerator.is_main_process else False
    run.accelerator.wait_for_everyone()
    if run.accelerator.num_processes > 1:
        better = bool(run.accelerator.gather(torch.tensor([better], device=run.device))[0])
    return better


def _is_due(steps: int, minutes: float, progress: Progress, *, since: float) -> bool:
    by_steps = steps > 0 and progress.step > 0 and progress.step % steps == 0
    return by_steps or (minutes > 0 and progress.seconds - since >= 60 * minutes)


def is_better(progress: Progress, value: float) -> bool:
    """Whether ``value`` is the highest so far; it is noted."""
    better = progress.best is None or value > progress.best
    progress.best = value if better else progress.best
    return better


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
