"""What ``encode`` and ``decode`` do with a folder: many files by several processes, told as they are done."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reducio_codec.cli.group import explain, say, shows_tracebacks, warn
from reducio_codec.cli.options import Function
from reducio_codec.cli.paths import STANDARD
from reducio_codec.cli.progress import folder_bars
from reducio_codec.cli.wording import spell
from reducio_codec.errors import InputError

if TYPE_CHECKING:
    from reducio_codec.folders.pool import Work
    from reducio_codec.folders.tree import Plan

_MOST_JOBS = 8
"""Processes unless ``--jobs`` says otherwise: each holds a model and a few clips."""


def jobs_option(function: Function) -> Function:
    """``--jobs``, for a folder."""
    return click.option(
        "--jobs",
        metavar="N",
        type=click.IntRange(1),
        help="Files of a folder that are worked on at once, by a process each; the CPU's cores are shared out among them.  "
        f"[default: one for each core, at most {_MOST_JOBS}; 1 on another device]",
    )(function)


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def share_cores(jobs: int | None, *, files: int, device: str) -> tuple[int, int | None]:
    """How many processes, and how many threads each of them gets; None where the user's OMP_NUM_THREADS says it."""
    processes = jobs or (min(cores(), _MOST_JOBS) if device == "cpu" else 1)
    processes = max(1, min(processes, files))
    return processes, None if os.environ.get("OMP_NUM_THREADS") else max(1, cores() // processes)


def check_folders(source: Path, out: Path | None, *, files: Sequence[str]) -> Path:
    """The folder to write to, which isn't the name of a file: none that ends as ``files`` do."""
    if out is None or out == STANDARD:
        raise InputError(f"{source} is a folder; give -o FOLDER for what is made of its files")
    if out.exists() and not out.is_dir():
        raise InputError(f"{source} is a folder, and {out} is not; -o has to name a folder, too")
    if out.suffix.lower() in files and not out.exists():
        raise InputError(f"{source} is a folder, but {out} is the name of a file; -o has to name a folder, too")
    return out


def run_folder(
    plan: Plan, *, start: Callable[[], Work], processes: int, out: Path, summary: Callable[[Any], str]
) -> int:
    """Do what is to do and tell of each file; the exit code. ``summary``: what is told of a job's result."""
    from reducio_codec.folders.pool import Advanced, Failed, Finished, run_jobs

    command = click.get_current_context().command
    failures = [(name, spell(reason, command)) for name, reason in plan.refused]
    written, total = 0, len(plan.todo)
    with folder_bars(files=total) as bars, closing(run_jobs(plan.todo, start=start, processes=processes)) as events:
        for event in events:
            name = event.job.name
            if isinstance(event, Advanced):
                if bars is not None:
                    bars.advance(name, event.done, event.total)
            elif isinstance(event, Finished | Failed):
                if bars is not None:
                    bars.finish(name)
                if isinstance(event, Finished):
                    written += 1
                    line = f"[{written}/{total}] {event.job.target}: {summary(event.result)}"
                    click.echo(line, file=sys.stdout)  # named: above the bars
                else:
                    failures.append((name, explain(event.error, command)[0]))
                    say(f"failed: {name}")
                    if shows_tracebacks() and event.trace:
                        say(event.trace)
            else:
                warn(event.message if name in event.message else f"{name}: {event.message}")
    there = f", {len(plan.done)} were there already" if plan.done else ""
    click.echo(f"{out}: {written} written{there}")
    if not failures:
        return 0
    say(f"error: {len(failures)} of {plan.files} failed:")
    for name, reason in failures:
        say(f"  {reason}" if name in reason else f"  {name}: {reason}")
    return 1
