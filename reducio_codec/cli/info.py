"""``reducio-codec info``: where the bytes of a file go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reducio_codec.cli.group import traceback_option, warn
from reducio_codec.cli.paths import RDC, STANDARD, standard_input

if TYPE_CHECKING:
    from reducio_codec.rdc.info import MediaInfo, RdcInfo


@click.command()
@click.argument("file", metavar="FILE", type=RDC)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: bytes, seconds, kbit/s, bits per pixel.")
@traceback_option
def command(file: Path, as_json: bool) -> int:
    """Show what is in an .rdc file (- for standard input) or a video, and what its parts cost.

    A damaged file is shown as far as it is intact; then comes what is damaged, and exit code 1.
    """
    from reducio_codec.rdc.info import RdcInfo, describe_file, describe_rdc

    if file == STANDARD:
        with standard_input() as spool:
            found: RdcInfo | MediaInfo = describe_rdc(spool)
    else:
        found = describe_file(file)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
    elif isinstance(found, RdcInfo):
        _show_rdc(found)
    else:
        _show_video(found)
    damage = found.damage if isinstance(found, RdcInfo) else ()
    for line in damage:
        warn(line)
    return 1 if damage else 0


def _show_rdc(info: RdcInfo) -> None:
    from rich.console import Console
    from rich.table import Table

    click.echo(
        f"{info.width}x{info.height}, {info.frames} frames, {info.clips} clips, {info.keyframes} key frames, "
        f"{float(info.rate):.5g} frames/s, {info.duration_s:.2f} s"
    )
    click.echo(
        f"model {info.model} {info.model_version} (latent space {info.latent_space}), "
        f"key frames {info.keyframe_codec}, latent step {_range(info.latent_step_range)}"
    )
    if info.references > 1:
        click.echo(f"{info.references} references, cuts before {len(info.cuts)} of {info.clips} clips")
    table = Table()
    for heading in ("", "bytes", "share", "kbit/s", "bits per pixel"):
        table.add_column(heading, justify="left" if not heading else "right")
    sums = {
        "whole file": info.total,
        "without sound": info.video,
        "without sound and key frames": info.without_keyframe,
    }
    for rows in (info.parts, sums):
        for name, part in rows.items():
            table.add_row(name, f"{part.bytes:,}", f"{part.share:.1%}", f"{part.kbit_s:.2f}", f"{part.bpp:.5f}")
        table.add_section()
    Console(width=None if Console().is_terminal else 100).print(table)


def _show_video(info: MediaInfo) -> None:
    frames = "?" if info.frames is None else str(info.frames)
    seconds = "? s" if info.duration_s is None else f"{info.duration_s:.2f} s"
    turned = f", turned by {info.rotation} degrees" if info.rotation else ""
    sound = ", sound" if info.has_audio else ""
    click.echo(
        f"{info.codec}, {info.width}x{info.height}{turned}, {frames} frames, {float(info.rate):.5g} frames/s, "
        f"{seconds}{sound}"
    )
    rates = [] if info.kbit_s is None else [f"{info.kbit_s:.1f} kbit/s"]
    rates += [] if info.bpp is None else [f"{info.bpp:.4f} bits per pixel"]
    click.echo(", ".join([f"{info.bytes:,} bytes", *rates]))


def _range(values: tuple[float, float]) -> str:
    low, high = values
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
