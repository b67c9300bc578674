"""``reducio-codec roundtrip`` with its defaults on some videos: README.md's first table and bench/README.md's strips.

python -m bench.roundtrips FOLDER/VIDEO.mp4 ... -o bench/results
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from PIL import Image

from bench.json_files import write_json
from bench.machine import describe
from reducio_codec.codec import ReducioCodec
from reducio_codec.io.files import atomic_write
from reducio_codec.measure.roundtrip import Quality, roundtrip

PROTOCOL = "roundtrips/1"
STRIP_WIDTH = 1280


def name_of(video: Path) -> str:
    """A video's folder and its name without the number that some collections put before it."""
    return f"{video.parent.name}/{re.sub(r'^[0-9]+_', '', video.stem)}"


def strip_name(name: str) -> str:
    return name.replace("/", "-") + ".webp"


def measure(codec: ReducioCodec, video: Path, *, strip: Path) -> dict[str, Any]:
    """A row of the table; the strip of pictures goes to ``strip``."""
    with tempfile.TemporaryDirectory() as folder:
        result = roundtrip(codec, video, folder)
        with Image.open(result.outputs[-1]) as picture:
            size = STRIP_WIDTH, round(picture.height * STRIP_WIDTH / picture.width)
            smaller = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    with atomic_write(strip) as file:
        smaller.save(file, "WEBP", quality=80, method=6)
    return {
        "video": name_of(video),
        "size": [result.file.width, result.file.height],
        "kbps": result.file.kbits_per_second,
        "bpp": result.file.bpp,
        "decoder": result.decoder,
        "decoded": _quality(result.decoded),
        "copied": _quality(result.copied),
    }


def _quality(quality: Quality) -> dict[str, float | None]:
    psnr = quality.psnr
    return {"without key frame": psnr.pooled_without_keyframe, "pooled": psnr.pooled, "paper": psnr.paper,
            "ssim": quality.ssim}  # fmt: skip


@click.command()
@click.argument("videos", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--model", default="reducio-lite", show_default=True, help="A name or a folder.")
@click.option("-o", "--results", type=click.Path(path_type=Path, file_okay=False), required=True,
              help="roundtrips.json and strips/ go there; those in bench/results are README.md's.")  # fmt: skip
def main(videos: Sequence[Path], model: str, results: Path) -> None:
    codec = ReducioCodec.from_pretrained(model)
    (results / "strips").mkdir(parents=True, exist_ok=True)
    rows = []
    for video in videos:
        rows.append(measure(codec, video, strip=results / "strips" / strip_name(name_of(video))))
        click.echo(f"{rows[-1]['video']}: {rows[-1]['decoded']['pooled']:.2f} dB at {rows[-1]['kbps']:.2f} kbit/s")
    write_json(
        results / "roundtrips.json",
        {"protocol": PROTOCOL, "model": codec.model_hash, "rows": rows, "machine": describe()},
    )


if __name__ == "__main__":
    main()
