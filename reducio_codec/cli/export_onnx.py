"""``reducio-codec export-onnx``: a model as ONNX graphs."""

from __future__ import annotations

from pathlib import Path

import click

from reducio_codec.cli.group import show_information, traceback_option
from reducio_codec.cli.paths import STORED


@click.command()
@click.argument("model", metavar="MODEL")
@click.option("-o", "--out", "folder", required=True, metavar="DIR", type=STORED, help="A new or an empty folder.")
@click.option(
    "--graph",
    "graphs",
    multiple=True,
    metavar="NAME",
    help="Only this one, a decoder's name or 'encoder'; may be repeated.  [default: all]",
)
@click.option(
    "--tile", type=int, default=256, show_default=True, help="Side of the encoder's pictures, a multiple of 32 pixels."
)
@traceback_option
def command(model: str, folder: Path, graphs: tuple[str, ...], tile: int) -> None:
    """Write a model as ONNX graphs, for browsers and other runtimes.

    MODEL is a bundled name (see 'models'), a model folder, or org/name on the hub. DIR gets a graph for each decoder, which
    takes pictures of any size, the encoder for one size, and model.json, which says what they are.
    """
    from reducio_codec.integrations.onnx import export_onnx

    show_information()
    for path in export_onnx(model, folder, graphs=graphs or None, tile=tile):
        click.echo(f"{path}: {path.stat().st_size / 1000:,.0f} kB")
