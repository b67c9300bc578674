"""``reducio-codec roundtrip``: compress a video, decompress it, and show what it cost and what is left."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reducio_codec.cli.group import traceback_option, warn
from reducio_codec.cli.options import (
    codec_options,
    coding_options,
    force_option,
    model_option,
    needed_decoders,
    open_codec,
    references_option,
)
from reducio_codec.cli.paths import STORED, VIDEO, check_new
from reducio_codec.cli.profile import profile_option, profiled
from reducio_codec.cli.progress import progress_bar

if TYPE_CHECKING:
    from rich.table import Table

    from reducio_codec.measure.roundtrip import Quality, Roundtrip

EXAMPLE = Path(__file__).resolve().parents[1] / "assets" / "flower.mp4"
"""The clip that ships inside the package; its licence lies beside it."""

FOLDER = Path("roundtrip")


@click.command()
@click.argument("source", metavar="[IN]", type=VIDEO, required=False)
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=STORED,
    help="Folder for the results.  [default: roundtrip, where older results are replaced]",
)
@model_option
@click.option("--decoder", help="One of the model's decoders.  [default: the model's choice]")
@coding_options
@references_option
@codec_options
@profile_option
@force_option
@traceback_option
def command(
    source: Path | None,
    output: Path | None,
    model: str,
    decoder: str | None,
    references: int | None,
    coding: dict[str, Any],
    profile: bool,
    force: bool,
    **run: Any,
) -> None:
    """Compress IN (default: the bundled clip), decompress it, and measure both.

    Prints rate, quality and speed beside what the key frames alone would give. Writes the .rdc file, the decoded video, a
    video with source and result side by side, and a PNG strip of the clip with the most motion.
    """
    from reducio_codec.measure.roundtrip import output_paths, roundtrip

    video = EXAMPLE if source is None else source
    folder = FOLDER if output is None else output
    check_new(*output_paths(folder, source=video), force=force or output is None)
    codec = open_codec(model, decoders=needed_decoders(decoder), **run)
    with profiled(profile) as show, progress_bar("encoding", "decoding") as (encoding, decoding):
        result = roundtrip(
            codec, video, folder, decoder=decoder, references=references, progress=encoding, decoding=decoding, **coding
        )
    show(result.file.frames)
    _show(result, title=video.name, model=codec.model_id)


def _show(result: Roundtrip, *, title: str, model: str) -> None:
    from rich.console import Console

    file = result.file
    console = Console(width=None if Console().is_terminal else 120)
    click.echo(f"{title}: {file.width}x{file.height}, {file.frames} frames, {file.clips} clips")
    console.print(_table(result, model=model))
    click.echo(
        f"file {file.bytes:,} bytes: key frames {file.keyframe_bytes:,}, latent {file.latent_bytes:,}, "
        f"container {file.container_bytes:,}, sound {file.audio_bytes:,}"
    )
    memory = "not known here" if result.peak_memory is None else f"{result.peak_memory / 1e6:.0f} MB, the whole process"
    click.echo(
        f"encode {file.frames_per_second:.1f} frames/s (reading and writing included), "
        f"decode {result.decode_fps:.1f} frames/s, peak memory {memory}"
    )
    for path in result.outputs:
        click.echo(f"  {path}")
    if file.missed is not None:
        warn(file.missed)


def _table(result: Roundtrip, *, model: str) -> Table:
    from rich.table import Table

    file = result.file
    table = Table(caption="rates: key frames, latent and container, no sound; PSNR in dB, mean over clips")
    for heading in (
        "",
        "bytes",
        "kbit/s",
        "bpp",
        "PSNR pooled\nw/o key frame",
        "PSNR\npooled",
        "PSNR\npaper",
        "SSIM",
    ):
        table.add_column(heading, justify="left" if not heading else "right")
    share = (file.video_bytes - file.latent_bytes) / file.video_bytes
    rows: tuple[tuple[str, float, Quality], ...] = (
        (f"{model} ({result.decoder})", 1.0, result.decoded),
        ("repeat the key frame", share, result.copied),  # the same file without its latent
    )
    for name, part, quality in rows:
        psnr = quality.psnr
        table.add_row(
            name,
            f"{file.video_bytes * part:,.0f}",
            f"{file.kbits_per_second * part:.2f}",
            f"{file.bpp * part:.5f}",
            "-" if psnr.pooled_without_keyframe is None else f"{psnr.pooled_without_keyframe:.2f}",
            f"{psnr.pooled:.2f}",
            f"{psnr.paper:.2f}",
            "-" if quality.ssim is None else f"{quality.ssim:.4f}",
        )
    return table
