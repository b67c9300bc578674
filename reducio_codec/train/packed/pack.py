"""Videos to a folder that is small enough to send along, and that a machine without FFmpeg can read.

    python -m reducio_codec.train.packed.pack VIDEOS --out PACK

Each scene becomes an AVIF image sequence, which Pillow reads everywhere: 1,305 s of 512x288 take 62 MB at quality 60, 87 MB
at 70 (36 to 40 dB to the video), 98 MB as the corpus has them; written at 140 and read at 900 frames a second and core.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
from PIL import Image

from reducio_codec.config import CLIP_LENGTH
from reducio_codec.io.files import atomic_write
from reducio_codec.training.manifest import find_videos
from reducio_codec.training.scan import ScanOptions, scan
from reducio_codec.training.store import DiskStore


def pack_videos(source: str | Path, out: Path, *, side: int = 256, quality: int = 60) -> list[Path]:
    """Every scene of 16 frames or more as one file in ``out``.

    Args:
        source: a folder of videos, or a list of them (see ``train.manifest``).
        side: the shorter side is reduced to it.
        quality: of AVIF, 0 to 100.
    """
    out.mkdir(parents=True, exist_ok=True)
    options = ScanOptions(frame_rate=16.0, stored_side=side, store=True, find_cuts=True)
    written = []
    for path in find_videos(source):
        with tempfile.TemporaryDirectory(prefix="reducio-pack-") as cache:
            videos = scan([path], cache=Path(cache), options=options).videos
            store = DiskStore(videos)
            for first, last in videos[0].scenes:
                if last - first < CLIP_LENGTH:
                    continue
                target = out / f"{path.stem}_{first:05d}.avif"
                written.append(target)
                frames = [Image.fromarray(frame) for frame in store.frames(0, range(first, last)).numpy()]
                with atomic_write(target) as file:
                    frames[0].save(
                        file, "AVIF", save_all=True, append_images=frames[1:], quality=quality, speed=8,
                        subsampling="4:2:0",
                    )  # fmt: skip
    return written


@click.command()
@click.argument("videos")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option("--side", default=256, show_default=True, help="The shorter side is reduced to it.")
@click.option("--quality", default=60, show_default=True, help="Of AVIF, 0 to 100.")
def main(videos: str, out: Path, side: int, quality: int) -> None:
    written = pack_videos(videos, out, side=side, quality=quality)
    click.echo(f"{len(written)} scenes, {sum(path.stat().st_size for path in written) / 1e6:.1f} MB in {out}")


if __name__ == "__main__":
    main()
