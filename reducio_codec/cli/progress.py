"""A progress bar for a person who waits: on stderr, and only where that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_NAME = 40
"""Characters of a file's name beside its bar."""

Report = Callable[[int, int | None], None]
"""Called with frames done and, where it is known, frames in all."""


@contextmanager
def progress_bar(*labels: str) -> Iterator[tuple[Report | None, ...]]:
    """Gives a function for each label, to call after each step; None instead where nobody looks.

    A label's bar appears with its first step.
    """
    with _bars() as bar:
        if bar is None:
            yield (None,) * len(labels)
        else:
            yield tuple(_reporter(bar, label, shown=place == 0) for place, label in enumerate(labels))


class FolderBars:
    """A bar for the files that are done, and one for each that is in work."""

    def __init__(self, bar: Progress, *, files: int) -> None:
        self._bar = bar
        self._files = bar.add_task("files", total=files)
        self._open: dict[str, TaskID] = {}

    def advance(self, name: str, done: int, total: int | None) -> None:
        """So many frames of a file are done."""
        if name not in self._open:
            shown = name if len(name) <= _NAME else f"...{name[-_NAME + 3 :]}"
            self._open[name] = self._bar.add_task(shown.replace("[", "\\["), total=None)
        self._bar.update(self._open[name], completed=done, total=total)

    def finish(self, name: str) -> None:
        """A file is done, for good or bad."""
        if name in self._open:
            self._bar.remove_task(self._open.pop(name))
        self._bar.advance(self._files)


@contextmanager
def folder_bars(*, files: int) -> Iterator[FolderBars | None]:
    """Bars for a folder; None where nobody looks."""
    with _bars() as bar:
        yield None if bar is None else FolderBars(bar, files=files)


@contextmanager
def _bars() -> Iterator[Progress | None]:
    """An empty set of bars; None where nobody looks."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # what is printed meanwhile goes above the bars, where both are on the same terminal, else to where it belongs
    seen = sys.stdout is not None and sys.stdout.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=seen) as bar:
        yield bar


def _reporter(bar: Progress, label: str, *, shown: bool) -> Report:
    task = bar.add_task(label, total=None, visible=shown, start=shown)

    def report(done: int, total: int | None) -> None:
        bar.start_task(task)
        bar.update(task, completed=done, total=total, visible=True)

    return report
