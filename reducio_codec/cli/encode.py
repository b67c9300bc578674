"""``reducio-codec encode``: a video to an .rdc file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from reducio_codec.cli.group import traceback_option, warn
from reducio_codec.cli.options import (
    codec_options,
    coding_options,
    force_option,
    model_option,
    open_codec,
    references_option,
)
from reducio_codec.cli.paths import RDC, STANDARD, VIDEO, beside, check_new, standard_output
from reducio_codec.cli.progress import progress_bar


@click.command()
@click.argument("source", metavar="IN", type=VIDEO)
@click.option(
    "-o",
    "--output",
    metavar="OUT.rdc",
    type=RDC,
    help="File to write, - for standard output.  [default: IN with the suffix .rdc]",
)
@model_option
@coding_options
@click.option("--decoder", help="The decoder that --effort, targets and --keyframe best are for.")
@references_option
@codec_options
@force_option
@traceback_option
def command(
    source: Path,
    output: Path | None,
    model: str,
    coding: dict[str, Any],
    decoder: str | None,
    references: int | None,
    force: bool,
    **run: Any,
) -> None:
    """Compress IN (a video, a GIF, or a folder of pictures) into an .rdc file."""
    target = beside(source, ".rdc") if output is None else output
    check_new(target, force=force)
    destination = standard_output() if target == STANDARD else target
    codec = open_codec(model, **run)
    with progress_bar("encoding") as (report,):
        result = codec.compress(source, destination, decoder=decoder, references=references, progress=report, **coding)
    sound = f" (and {result.audio_bytes:,} bytes of sound)" if result.audio_bytes else ""
    click.echo(
        f"{target}: {result.frames} frames, {result.video_bytes:,} bytes{sound}, "
        f"{result.kbits_per_second:.1f} kbit/s, {result.bpp:.4f} bits per pixel "
        f"({result.bpp_without_keyframe:.4f} without key frames), {result.frames_per_second:.1f} frames/s",
        err=target == STANDARD,
    )
    if result.missed is not None:
        warn(result.missed)
