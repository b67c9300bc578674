"""``--profile``: where a command's time goes, as a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from reducio_codec.io.stages import Stopwatch

profile_option = click.option(
    "--profile", is_flag=True, help="Show where the time goes: reading, network, blending, key frames, colour, writing."
)


@contextmanager
def profiled(wanted: bool, *, err: bool = False) -> Iterator[Callable[[int], Any]]:
    """Gives a function to call with the number of frames when all is done, which prints the table if that is ``wanted``."""
    if not wanted:
        yield lambda _frames: None
        return
    watch = Stopwatch()

    def show(frames: int) -> None:
        for line in table(watch, frames=frames):
            click.echo(line, err=err)

    with watch:
        yield show


def table(watch: Stopwatch, *, frames: int) -> list[str]:
    """Lines: each stage's seconds on the clock, share of the whole, and milliseconds a frame."""
    total = watch.so_far()
    rows = [*watch.seconds.items(), ("together", total)]
    lines = [f"{'':<12}{'seconds':>9}{'share':>8}{'ms a frame':>12}"]
    for name, seconds in rows:
        lines.append(f"{name:<12}{seconds:>9.2f}{seconds / total:>8.0%}{1000 * seconds / frames:>12.1f}")
    beside = sum(watch.seconds.values()) > total
    lines.append(
        "tiles, and writing, run beside one another, and count for each"
        if beside
        else "the rest of the time is in no stage"
    )
    return lines
