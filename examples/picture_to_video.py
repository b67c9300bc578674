"""Pictures to short videos, by the bundled generator.

    pip install 'reducio-codec[generate]'
    python examples/picture_to_video.py photo.jpg other.jpg --out made --decoder sharp

Each picture becomes a second of video around it, photo.mp4. The generator is small and briefly trained: it moves what
is there. `--model runs/dit` takes one that you have trained.
"""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path

from reducio_codec.generate import ReducioDiTPipeline
from reducio_codec.io.writer import VideoWriter

RATE = 16
"""Frames a second that generators here are trained at."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("made"), help="a folder")
    parser.add_argument("--model", default="reducio-dit-small", help="name or folder of the generator")
    parser.add_argument("--decoder", help="of its codec; by default its choice")
    parser.add_argument("--seconds", type=float, default=1.0, help="more than one is made clip after clip")
    parser.add_argument("--height", type=int, help="of the video; with --width, or neither")
    parser.add_argument("--width", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()

    pipeline = ReducioDiTPipeline.from_pretrained(options.model, device=options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(options.pictures):
        video = pipeline(  # (T, H, W, 3) uint8; frame 7 is the picture itself
            image=picture,
            seed=options.seed + number,
            seconds=options.seconds,
            height=options.height,
            width=options.width,
            decoder=options.decoder,
        )
        _, height, width, _ = video.shape
        target = options.out / f"{picture.stem}.mp4"
        with VideoWriter(
            target, width=width, height=height, time_base=Fraction(1, RATE), rate=Fraction(RATE)
        ) as writer:
            for time, frame in enumerate(video):
                writer.write(frame, time, duration=1)
        print(f"{target}: {len(video)} frames of {width}x{height}")


if __name__ == "__main__":
    main()
