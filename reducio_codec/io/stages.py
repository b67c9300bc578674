"""Where the time of a run goes, by stage. Nothing is measured, and next to nothing spent, unless a :class:`Stopwatch` runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, TypeVar, get_args

Stage = Literal["reading", "network", "blending", "key frames", "colour", "writing", "waiting"]
Item = TypeVar("Item")
STAGES: tuple[Stage, ...] = get_args(Stage)


class Stopwatch:
    """Adds up the seconds of each stage that is passed through while it runs, ``with Stopwatch() as watch:``.

    Seconds of a clock on the wall. Those of a stage within another count for the inner one alone; threads that are started in
    the context of the caller are measured too, and what they do at the same time counts for each.
    """

    def __init__(self) -> None:
        self.seconds: dict[Stage, float] = dict.fromkeys(STAGES, 0.0)
        self._adding = threading.Lock()

    def add(self, stage: Stage, seconds: float) -> None:
        """More seconds of a stage, from any thread."""
        with self._adding:
            self.seconds[stage] += seconds

    def __enter__(self) -> Stopwatch:
        self._began = time.perf_counter()
        self._token = _running.set(_Running(self))
        return self

    def __exit__(self, *_: object) -> None:
        _running.reset(self._token)

    def so_far(self) -> float:
        """Seconds since the beginning of the block."""
        return time.perf_counter() - self._began


class _Running:
    """What a thread is at: a stage of a stopwatch, or none."""

    def __init__(self, watch: Stopwatch, stage: Stage | None = None) -> None:
        self.watch, self.stage, self.since = watch, stage, time.perf_counter()
        self.thread = threading.get_ident()

    def charge(self) -> None:
        """Add the time since the last call, or leave it out and begin anew where no stage is."""
        now = time.perf_counter()
        if self.stage is not None:
            self.watch.add(self.stage, now - self.since)
        self.since = now


_running: ContextVar[_Running | None] = ContextVar("stopwatch", default=None)


@contextmanager
def stage(name: Stage) -> Iterator[None]:
    """What is done in this block belongs to that stage; generators mustn't yield within it."""
    outer = _running.get()
    if outer is None:
        yield
        return
    if outer.thread != threading.get_ident():  # where this thread was started, which goes on by itself
        outer = _Running(outer.watch)
    outer.charge()
    inner = _Running(outer.watch, name)
    token = _running.set(inner)
    try:
        yield
    finally:
        inner.charge()
        _running.reset(token)
        outer.since = time.perf_counter()


def timed(items: Iterable[Item], name: Stage) -> Iterator[Item]:
    """The same items; what is done to get each belongs to that stage."""
    source = iter(items)
    while True:
        with stage(name):
            try:
                item = next(source)
            except StopIteration:
                return
        yield item
        del item  # not to be held while the next one is made
