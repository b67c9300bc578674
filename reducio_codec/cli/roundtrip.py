"""``reducio-codec roundtrip``: compress a video, decompress it, and show what it cost and what is left."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reducio_codec.cli.group import traceback_option
from reducio_codec.cli.options import check_new, codec_options, force_option, model_option, open_codec, rate_options
from reducio_codec.cli.progress import progress_bar

if TYPE_CHECKING:
    from reducio_codec.roundtrip import Quality, Roundtrip

EXAMPLE = "flower.mp4"


@click.command()
@click.argument("source", metavar="[IN]", type=click.Path(path_type=Path), required=False)
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=click.Path(path_type=Path),
    default=Path("roundtrip"),
    show_default=True,
    help="Folder to write into.",
)
@click.option("--decoder", help="One of the model's decoders.  [default: the model's choice, warp for reducio-lite]")
@model_option
@rate_options
@codec_options
@force_option
@traceback_option
def command(
    source: Path | None,
    output: Path,
    decoder: str | None,
    model: str,
    quality: int,
    step: float,
    keyframe_codec: str,
    force: bool,
    **run: Any,
) -> None:
    """Compress IN (without IN: a clip that ships with the package), decompress it, and measure both."""
    from reducio_codec.roundtrip import output_paths, roundtrip

    with as_file(files("reducio_codec") / "assets" / EXAMPLE) as example:
        video = example if source is None else source
        check_new(*output_paths(output, name=video.stem or video.name), force=force or source is None)
        codec = open_codec(model, decoders=None if decoder is None else (decoder,), **run)
        with progress_bar("encoding") as progress:
            found = roundtrip(
                codec,
                video,
                output,
                decoder=decoder,
                keyframe_quality=quality,
                keyframe_codec=keyframe_codec,
                latent_step=step,
                progress=progress,
            )
    _show(found, model=codec.model_id)


def _show(found: Roundtrip, *, model: str) -> None:
    from rich.console import Console
    from rich.table import Table

    file = found.file
    table = Table(title=f"{file.width}x{file.height}, {file.frames} frames, {float(file.duration):.2f} s")
    table.add_column("")
    table.add_column(f"{model} ({found.decoder})", justify="right")
    table.add_column("repeat the key frame", justify="right")
    alone = file.video_bytes - file.latent_bytes
    share = alone / file.video_bytes
    rows = [
        ("bytes", f"{file.video_bytes:,}", f"{alone:,}"),
        ("kbit/s", f"{file.kbits_per_second:.1f}", f"{file.kbits_per_second * share:.1f}"),
        ("bpp (bits per pixel)", f"{file.bpp:.4f}", f"{file.bpp * share:.4f}"),
        ("bpp without key frames", f"{file.bpp_without_keyframe:.4f}", ""),
        *_quality_rows(found.decoded, found.copied),
        ("encode, frames/s", f"{file.frames_per_second:.1f}", ""),
        ("decode, frames/s", f"{found.decode_fps:.1f}", ""),
        ("peak memory, MiB", "unknown" if found.peak_memory is None else f"{found.peak_memory / 2**20:.0f}", ""),
    ]
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    for path in found.outputs:
        click.echo(path)


def _quality_rows(decoded: Quality, copied: Quality) -> list[tuple[str, str, str]]:
    def text(value: float | None, digits: int) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    return [
        ("PSNR paper, dB", text(decoded.psnr.paper, 2), text(copied.psnr.paper, 2)),
        ("PSNR pooled, dB", text(decoded.psnr.pooled, 2), text(copied.psnr.pooled, 2)),
        (
            "PSNR without key frame, dB",
            text(decoded.psnr.pooled_without_keyframe, 2),
            text(copied.psnr.pooled_without_keyframe, 2),
        ),
        ("SSIM", text(decoded.ssim, 4), text(copied.ssim, 4)),
    ]
