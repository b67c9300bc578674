"""``reducio-codec decode``: an .rdc file to a video."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from reducio_codec.cli.group import traceback_option, warn
from reducio_codec.cli.options import (
    codec_options,
    force_option,
    model_of,
    needed_decoders,
    open_codec,
    references_option,
)
from reducio_codec.cli.paths import NEW_VIDEO, RDC, STANDARD, beside, check_new, standard_input
from reducio_codec.cli.progress import progress_bar
from reducio_codec.errors import InputError


@click.command()
@click.argument("source", metavar="IN.rdc", type=RDC)
@click.option(
    "-o",
    "--output",
    metavar="OUT.mp4",
    type=NEW_VIDEO,
    help="Video to write, .mp4 or .mkv.  [default: IN with the suffix .decoded.mp4, .decoded.mkv with --lossless]",
)
@click.option("-m", "--model", help="Name or folder of the model.  [default: the bundled one that the file names]")
@click.option("--decoder", help="One of the model's decoders.  [default: the model's choice]")
@click.option("--lossless", is_flag=True, help="Write FFV1 in Matroska: exactly what the decoder computed.")
@click.option(
    "--on-error",
    type=click.Choice(["raise", "conceal"]),
    default="raise",
    show_default=True,
    help="A damaged clip: stop, or repeat the nearest key frame in its place and say so.",
)
@references_option
@codec_options
@force_option
@traceback_option
def command(
    source: Path,
    output: Path | None,
    model: str | None,
    decoder: str | None,
    references: int | None,
    lossless: bool,
    on_error: Any,
    force: bool,
    **run: Any,
) -> None:
    """Decompress an .rdc file (- for standard input) into a video."""
    if output is None and source == STANDARD:
        raise InputError("standard input has no name to derive the output's from; give -o OUT.mp4")
    suffix = ".decoded.mkv" if lossless else ".decoded.mp4"
    target = beside(source, suffix) if output is None else output
    check_new(target, force=force)
    with standard_input() if source == STANDARD else nullcontext(source) as origin:
        codec = open_codec(model_of(origin) if model is None else model, decoders=needed_decoders(decoder), **run)
        with progress_bar("decoding") as (progress,):
            report = codec.decompress(
                origin,
                target,
                decoder=decoder,
                references=references,
                lossless=lossless,
                on_error=on_error,
                progress=progress,
            )
    for problem in report.problems:
        warn(problem)
    click.echo(f"{target}: {report.frames} frames")
