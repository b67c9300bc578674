"""``reducio-codec encode``: a video to an .rdc file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from reducio_codec.cli.group import traceback_option
from reducio_codec.cli.options import (
    STANDARD,
    check_new,
    codec_options,
    force_option,
    model_option,
    open_codec,
    rate_options,
    standard_output,
)
from reducio_codec.cli.progress import progress_bar
from reducio_codec.cli.report import describe_rate


@click.command()
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    metavar="OUT.rdc",
    type=click.Path(path_type=Path),
    help="File to write, - for standard output.  [default: IN with the suffix .rdc]",
)
@model_option
@rate_options
@codec_options
@force_option
@traceback_option
def command(
    source: Path,
    output: Path | None,
    model: str,
    quality: int,
    step: float,
    keyframe_codec: Any,
    force: bool,
    **run: Any,
) -> None:
    """Compress IN (a video, a GIF, or a folder of pictures) into an .rdc file."""
    target = source.with_suffix(".rdc") if output is None else output
    check_new(target, force=force)
    destination = standard_output() if target == STANDARD else target
    codec = open_codec(model, **run)
    with progress_bar("encoding") as report:
        result = codec.compress(
            source,
            destination,
            keyframe_quality=quality,
            keyframe_codec=keyframe_codec,
            latent_step=step,
            progress=report,
        )
    click.echo(f"{target}: {describe_rate(result)}", err=target == STANDARD)
