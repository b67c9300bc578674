"""The README's first picture: frames of a clip, its one key frame, and what decoders make of that and of the latent.

python -m bench.first_minute VIDEO -o bench/results/strips/first-minute.webp
"""

from __future__ import annotations

import io
from pathlib import Path

import click
import numpy as np
from PIL import Image

from reducio_codec.codec import ReducioCodec
from reducio_codec.io.files import atomic_write
from reducio_codec.io.video import read_clip

_FRAMES = (1, 3, 5, 7, 9, 11, 13)
_KEY = 7
_DECODERS = ("attention", "sharp")
_PAPER = 235
_WIDTH = 1260


@click.command()
@click.argument("video", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--clip", default=1, show_default=True, help="Which clip of 16 frames, from 0.")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True)
def main(video: Path, clip: int, out: Path) -> None:
    codec, file = ReducioCodec.from_pretrained("reducio-lite"), io.BytesIO()
    frames = read_clip(video)[: 16 * (clip + 2)]
    codec.compress(list(frames), file, rate=16, keyframes=1)
    source = frames[16 * clip : 16 * clip + 16]
    with codec.open_file(file) as opened:
        record = opened.record(clip)
        key = np.full_like(source, _PAPER)
        key[_KEY] = opened.keyframe(record)
        rows = [source, key, *(opened.shown_clip(clip, decoder=name) for name in _DECODERS)]
    whole = np.concatenate([np.concatenate([row[frame] for frame in _FRAMES], 1) for row in rows], 0)
    picture = Image.fromarray(whole)
    picture = picture.resize((_WIDTH, round(picture.height * _WIDTH / picture.width)), Image.Resampling.LANCZOS)
    with atomic_write(out) as written:
        picture.save(written, "WEBP", quality=80, method=6)
    click.echo(f"key frame and {len(record.latent or b'')} bytes of motion")


if __name__ == "__main__":
    main()
