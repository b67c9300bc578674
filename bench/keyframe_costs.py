"""What key frames cost, and what they save: the numbers in ``reducio_codec/coding/keyframes.py``.

    python -m bench.keyframe_costs --data VIDEOS -o bench/results/keyframe-costs.json    # codes them, and fits
    python -m bench.keyframe_costs -o bench/results/keyframe-costs.json                  # fits again

Videos of training, not of ``val``: what is fitted here decides how others are coded.
"""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from bench.json_files import write_json
from bench.protocol import SampleSet
from bench.rd import protocol
from reducio_codec.clips.spans import ClipSpan, spread
from reducio_codec.codec import ReducioCodec
from reducio_codec.coding.keyframes import COUNTS, unexplained

QUALITIES = (3, 10, 25, 50)
_DISTANCES = (1, 2, 4, 8)
_FURTHER = 1.6
_SPAN = ClipSpan(start=0, frames=16, lead=0)


def measure(codec: ReducioCodec, frames: NDArray[np.uint8]) -> Iterator[dict[str, Any]]:
    """For each quality and number: bits per pixel of key frames, and of each clip the mean squared error of the frames that
    aren't key frames and of those that are."""
    pixels = frames.size // 3
    for quality in QUALITIES:
        for count in COUNTS:
            file = io.BytesIO()
            report = codec.compress(
                list(frames), file, rate=16, keyframes=count, keyframe_quality=quality, latent_step=0.5
            )
            with codec.open_file(file) as video:
                decoded = np.concatenate(
                    [video.decode_clip(index, decoder="attention") for index in range(video.clips)]
                )
            errors = np.square(decoded.astype(np.int32) - frames).mean((1, 2, 3)).reshape(-1, 16)
            keys = list(spread(_SPAN, count))
            others = [frame for frame in range(16) if frame not in keys]
            clips = [[float(clip[others].mean()) if others else None, float(clip[keys].mean())] for clip in errors]
            bits = 8 * report.keyframe_bytes / pixels
            yield {"quality": quality, "count": count, "bits": bits, "error": float(errors.mean()), "clips": clips}


def left(motion: list[float], distance: float) -> float:
    """Unexplained over so many frames, as the encoder guesses it."""
    known = [*motion, _FURTHER * motion[-1]]
    return float(np.interp(distance, [0, *_DISTANCES, 16], [0, *known]))


def fit(videos: list[dict[str, Any]]) -> dict[str, float]:
    """The numbers, by least squares of logarithms."""
    found: dict[str, float] = {}
    missed: list[tuple[float, float, float]] = []
    for video in videos:
        for row in video["rows"]:
            keys = spread(_SPAN, row["count"])
            apart = [min(abs(frame - key) for key in keys) for frame in range(16) if frame not in keys]
            for motion, (other, key) in zip(video["motion"], row["clips"], strict=True):
                if other is not None:
                    missed.append((float(np.mean([left(motion, distance) for distance in apart])), key, other))
    unknown, key, other = (np.array(column) for column in zip(*missed, strict=True))
    found["missed factor"], found["missed power"] = _solve(
        lambda p: np.log(key + p[0] * unknown ** p[1]) - np.log(other), (0.5, 1.0)
    )
    rows = [row for video in videos for row in video["rows"]]
    found["error at 0"], found["error fall"] = _line(
        [row["quality"] for row in rows], [np.log(np.median([key for _, key in row["clips"]])) for row in rows]
    )
    steps: list[tuple[list[tuple[int, float]], float, int]] = []
    slopes: dict[float, list[float]] = defaultdict(list)
    for video in videos:
        table = {(row["quality"], row["count"]): row for row in video["rows"]}
        for quality in QUALITIES:
            for few, many in pairwise(COUNTS):
                parts = [
                    (sign * count, left(motion, 16 / count))
                    for sign, count in ((1, many), (-1, few))
                    for motion in video["motion"]
                ]
                steps.append((parts, table[quality, many]["bits"] - table[quality, few]["bits"], quality))
        for low, high in pairwise(QUALITIES):
            a, b = table[low, 16], table[high, 16]
            slopes[(low + high) / 2].append((a["error"] - b["error"]) / (b["bits"] - a["bits"]))

    def bits(p: NDArray[np.float64]) -> list[float]:
        return [
            (np.exp(p[0] + p[1] * quality) * np.mean([2 * n * e ** p[2] for n, e in parts]) / 16 - wanted) / (abs(wanted) + 0.002)
            for parts, wanted, quality in steps
        ]  # fmt: skip

    found["bits at 0"], found["bits growth"], found["bits power"] = _solve(bits, (-5.0, 0.04, 0.4))
    points = [(quality, float(np.log(value))) for quality, values in slopes.items() for value in values]
    found["slope at 0"], found["slope fall"] = _line(*map(list, zip(*points, strict=True)))
    return {name: round(value, 4) for name, value in found.items()}


def _solve(residual: Callable[[Any], Any], start: tuple[float, ...]) -> list[float]:
    return [float(value) for value in least_squares(residual, start).x]


def _line(x: list[float], y: list[Any]) -> tuple[float, float]:
    slope, offset = np.polyfit(x, y, 1)
    return float(offset), float(slope)


@click.command()
@click.option("--data", type=click.Path(path_type=Path, file_okay=False, exists=True), help="Folder of videos.")
@click.option("--every", default=30, show_default=True, help="Take one video in so many.")
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
def main(data: Path | None, every: int, out: Path) -> None:
    if data is not None:
        codec, videos = ReducioCodec.from_pretrained("reducio-lite"), []
        for sample in list(SampleSet(folder=data, protocol=protocol()))[::every]:
            frames = sample.pixels[: len(sample.pixels) // 16 * 16]
            motion = [unexplained(frames[start : start + 16]) for start in range(0, len(frames), 16)]
            videos.append({"video": sample.video, "motion": motion, "rows": list(measure(codec, frames))})
            click.echo(sample.video)
        write_json(out, {"model": codec.model_hash, "videos": videos})
    stored = json.loads(out.read_text(encoding="utf-8"))
    for name, value in fit(stored["videos"]).items():
        click.echo(f"{name} {value}")


if __name__ == "__main__":
    main()
