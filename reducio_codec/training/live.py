"""What a person sees while a run goes on: a progress bar on a terminal, elsewhere a message a minute that it lives."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

MESSAGE_SECONDS = 60.0
"""Least time between two messages."""
BAR_SECONDS = 2.0
"""Least time between two texts of a bar: each reads the device."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a run is after a step."""

    step: int
    seconds: float
    """Of training, over all resumes."""
    share: float
    """Of the run that is done, 0 to 1."""
    clips_per_second: float
    mean_loss: Callable[[], float]
    """Reads the device, which then has to finish what it does: for those who show it, not for every step."""

    def speed(self) -> str:
        return f"{self.clips_per_second:.1f} clips/s, loss {self.mean_loss():.4g}"


Show = Callable[[Standing], None]
"""Called after each step."""


@contextmanager
def shown_progress(*, main: bool) -> Iterator[Show]:
    """A bar on stderr where that is a terminal, messages otherwise; nothing in processes other than the first."""
    if not main:
        yield lambda _: None
        return
    if not sys.stderr.isatty():
        yield Messages()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("training"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
               TextColumn("{task.fields[text]}"))  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=300) as bar:
        yield _Bar(bar, bar.add_task("training", total=1.0, text=""))


class _Bar:
    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar, self._task = bar, task
        self._moved = False
        self._told = -math.inf

    def __call__(self, at: Standing) -> None:
        if not self._moved:  # a run that goes on starts somewhere: that way wasn't made in a second
            self._bar.reset(self._task, completed=at.share)  # type: ignore[arg-type]  # a float does
            self._moved = True
        self._bar.update(self._task, completed=at.share)
        now = time.monotonic()
        if now - self._told >= BAR_SECONDS:
            self._told = now
            self._bar.update(self._task, text=f"step {at.step}, {at.speed()}")


class Messages:
    """Logs where a run is, at most once in ``MESSAGE_SECONDS``."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._first: tuple[float, float] | None = None
        """When the first step was done, and the share then."""

    def __call__(self, at: Standing) -> None:
        now = time.monotonic()
        left = ""
        if self._first is None:
            self._first = now, at.share
        elif at.share > self._first[1]:
            pace = (now - self._first[0]) / (at.share - self._first[1])
            left = f", {duration(pace * (1 - at.share))} left"
        if now - self._last >= MESSAGE_SECONDS:
            self._last = now
            _log.info("%s: %d%% done%s, %s", place(at.step, at.seconds), 100 * at.share, left, at.speed())


def place(step: int, seconds: float) -> str:
    """How a message about a run begins."""
    return f"step {step}, {seconds / 60:.1f} min"


def duration(seconds: float) -> str:
    """``50 s``, ``12 min``, ``3 h 05 min``."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
