"""A progress bar for a person who waits: on stderr, and only where that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

Report = Callable[[int, int | None], None]
"""Called with frames done and, where it is known, frames in all."""


@contextmanager
def progress_bar(*labels: str) -> Iterator[tuple[Report | None, ...]]:
    """Gives a function for each label, to call after each step; None instead where nobody looks.

    A label's bar appears with its first step.
    """
    if not sys.stderr.isatty():
        yield (None,) * len(labels)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield tuple(_reporter(bar, label, shown=place == 0) for place, label in enumerate(labels))


def _reporter(bar: Progress, label: str, *, shown: bool) -> Report:
    task = bar.add_task(label, total=None, visible=shown, start=shown)

    def report(done: int, total: int | None) -> None:
        bar.start_task(task)
        bar.update(task, completed=done, total=total, visible=True)

    return report
