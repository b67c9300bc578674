"""What tiles lose: whole pictures against smaller tiles, one key frame a clip.

    python -m bench.tile_sizes VIDEO... -o bench/results/tile-sizes.json

The same tiles at both ends. PSNR is pooled over all frames, as they are shown; bytes are the file's.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from bench.json_files import write_json
from bench.machine import describe
from reducio_codec.codec import ReducioCodec
from reducio_codec.io.video import read_clip
from reducio_codec.metrics.psnr import psnr

PROTOCOL = "tile-sizes/1"
DECODERS = ("linear", "attention")


def code(codec: ReducioCodec, frames: NDArray[np.uint8]) -> dict[str, Any]:
    """Bytes of a file of those frames (T, H, W, 3), and PSNR in dB of what each decoder makes of it."""
    file = io.BytesIO()
    codec.compress(iter(frames), file, rate=16, keyframes=1)
    row: dict[str, Any] = {"bytes": len(file.getvalue())}
    with codec.open_file(file) as video:
        for name in DECODERS:
            shown = np.concatenate([video.shown_clip(clip, decoder=name) for clip in range(video.clips)])
            row[name] = round(psnr(frames, shown), 2)
    return row


@click.command()
@click.argument("videos", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--model", default="reducio-lite", show_default=True, help="A name or a folder.")
@click.option(
    "--tile-size", "sizes", multiple=True, type=int, default=[384, 1920], show_default=True, help="Repeatable."
)
@click.option("--frames", default=32, show_default=True, help="The first of each video.")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="JSON to write.")
def main(videos: tuple[Path, ...], model: str, sizes: tuple[int, ...], frames: int, out: Path) -> None:
    codecs = {size: ReducioCodec.from_pretrained(model, tile_size=size, dtype="auto") for size in sizes}
    rows = []
    for path in videos:
        video = read_clip(path, frames=frames)
        size = f"{video.shape[2]}x{video.shape[1]}"
        for tile, codec in codecs.items():
            rows.append({"video": path.stem, "size": size, "tile_size": tile, **code(codec, video)})
            click.echo(json.dumps(rows[-1]))
    model_hash = next(iter(codecs.values())).model_hash
    write_json(out, {"protocol": PROTOCOL, "model": model_hash, "frames": frames, "rows": rows, "machine": describe()})


def tile_words(data: dict[str, Any]) -> str:
    """What was measured."""
    return (
        f"Tiles of several sizes: model {data['model']}, the first {data['frames']} frames of each video, one key frame a "
        "clip; PSNR in dB over all frames."
    )


def tile_table(data: dict[str, Any]) -> list[list[str]]:
    """A row a video and size of tiles."""
    table = [["video", "size", "tiles, px", "bytes", *(f"`{name}`" for name in DECODERS)]]
    for row in data["rows"]:
        decoded = [f"{row[name]:.2f}" for name in DECODERS]
        table.append([row["video"], row["size"], str(row["tile_size"]), f"{row['bytes']:,}", *decoded])
    return table


if __name__ == "__main__":
    main()
