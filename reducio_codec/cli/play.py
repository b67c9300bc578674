"""``reducio-codec play``: an .rdc file decoded into a player that is installed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import click

from reducio_codec.cli.group import main, traceback_option, warn
from reducio_codec.cli.options import codec_options, model_of, needed_decoders, open_codec, references_option
from reducio_codec.cli.paths import RDC, STANDARD, standard_input
from reducio_codec.errors import MissingDependencyError, ReducioError

_Y4M = "yuv4mpegpipe"

PLAYERS = {
    "ffplay": ("-loglevel", "error", "-autoexit", "-f", _Y4M, "-window_title", "{name}", "-i", "-"),
    "mpv": ("--really-quiet", "--demuxer=lavf", f"--demuxer-lavf-format={_Y4M}", "--title={name}", "-"),
}
"""Program -> its arguments, for Y4M on standard input. The first that is installed is taken."""

_INSTEAD = {"decode": "writes a video", "view": "shows the file in a browser"}
"""Commands for who has no player, and what they do."""


@click.command()
@click.argument("source", metavar="FILE.rdc", type=RDC)
@click.option("-m", "--model", help="Name or folder of the model.  [default: the bundled one that the file names]")
@click.option("--decoder", help="One of the model's decoders.  [default: the model's choice]")
@click.option(
    "--on-error",
    type=click.Choice(["raise", "conceal"]),
    default="conceal",
    show_default=True,
    help="A damaged clip: stop, or repeat the nearest key frame in its place and say so.",
)
@references_option
@codec_options
@traceback_option
def command(
    source: Path,
    model: str | None,
    decoder: str | None,
    references: int | None,
    on_error: Any,
    **run: Any,
) -> None:
    """Show FILE.rdc (- for standard input) in ffplay or mpv, whichever is installed, at its frame rate and without sound.

    It is decoded as it is shown. Closing the window ends it.
    """
    player = find_player()
    if player is None:
        others = [name for name in main.list_commands(click.get_current_context()) if name in _INSTEAD]
        instead = ", ".join(f"'{name}' {_INSTEAD[name]}" for name in others)
        raise MissingDependencyError(f"no player is installed (looked for {' and '.join(PLAYERS)}); {instead}")
    with standard_input() if source == STANDARD else nullcontext(source) as origin:
        codec = open_codec(model_of(origin) if model is None else model, decoders=needed_decoders(decoder), **run)
        with _playing(player, name=source.name) as window:
            report = codec.decompress(origin, window, decoder=decoder, references=references, on_error=on_error)
            for problem in report.problems:
                warn(problem)


def find_player() -> list[str] | None:
    """The command of a player that is installed, less the title of its window."""
    for program, arguments in PLAYERS.items():
        path = shutil.which(program)
        if path is not None:
            return [path, *arguments]
    return None


@contextmanager
def _playing(player: list[str], *, name: str) -> Iterator[BinaryIO]:
    """The player's standard input; at the end waits until its window is closed. That may be sooner: then nothing more is read."""
    process = subprocess.Popen(
        [part.replace("{name}", name) for part in player], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    assert process.stdin is not None
    try:
        with suppress(BrokenPipeError):
            yield cast(BinaryIO, process.stdin)
        with suppress(BrokenPipeError):
            process.stdin.close()
        code = process.wait()
    except BaseException:
        process.terminate()
        with suppress(BrokenPipeError):
            process.stdin.close()
        process.wait()
        raise
    if code:
        raise ReducioError(f"{player[0]} ended with exit code {code}")
