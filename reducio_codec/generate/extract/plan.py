"""Every sample of a set of videos, in order, with a name that no other sample has; and how they fall into shards."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from reducio_codec.config import CLIP_LENGTH
from reducio_codec.errors import InputError, VideoError
from reducio_codec.generate.buckets import Size, nearest_bucket
from reducio_codec.generate.extract.options import ExtractOptions
from reducio_codec.training.scan import Video

_HASHED_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One clip of one video, cropped and resized."""

    key: str
    """Its name in a shard."""
    video: int
    """Place in the list of videos."""
    frames: tuple[int, ...]
    """16, ascending, as counted by ``Video``."""
    top: int
    left: int
    height: int
    width: int
    """Of the crop, in stored pixels."""
    size: Size
    """Height and width that the crop is resized to."""
    flip: bool


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Samples of one tar file, and the videos that they come from."""

    name: str
    samples: tuple[Sample, ...]
    """``video`` counts in ``videos``."""
    videos: tuple[Video, ...]


def video_id(video: Video) -> str:
    """16 hex digits of a hash over name, length and beginning of the file: the same wherever it lies."""
    try:
        with video.path.open("rb") as file:
            length = os.fstat(file.fileno()).st_size
            head = file.read(_HASHED_BYTES)
    except OSError as error:
        raise VideoError(f"{video.path} can't be read: {error.strerror}") from error
    name = Path(video.name).as_posix()
    return hashlib.sha256(f"{name}\n{length}\n".encode(errors="surrogateescape") + head).hexdigest()[:16]


def plan_samples(videos: Sequence[Video], options: ExtractOptions) -> list[Sample]:
    """All samples. The same videos and options give the same list.

    Raises:
        InputError: a video is listed twice.
    """
    samples: list[Sample] = []
    seen: dict[str, str] = {}
    for number, video in enumerate(videos):
        name = video_id(video)
        if name in seen:
            raise InputError(f"{video.name} and {seen[name]} are one video; list it once")
        seen[name] = video.name
        rng = np.random.default_rng((options.seed, int(name, 16)))
        for start, step in _clips(video, options):
            for crop in range(options.crops):
                box, size = _crop(video.shape[1], video.shape[2], options, rng)
                for flip in (False, True) if options.flip else (False,):
                    samples.append(
                        Sample(
                            key=f"{name}-{start:07d}-{step:02d}-{crop:02d}{'m' if flip else ''}",
                            video=number,
                            frames=tuple(range(start, start + step * CLIP_LENGTH, step)),
                            top=box[0],
                            left=box[1],
                            height=box[2],
                            width=box[3],
                            size=size,
                            flip=flip,
                        )
                    )
    return samples


def plan_shards(videos: Sequence[Video], samples: Sequence[Sample], *, count: int) -> list[Shard]:
    """Shards of ``count`` samples, one after another: a shard's samples come from few videos."""
    shards = []
    for number, first in enumerate(range(0, len(samples), count)):
        part = samples[first : first + count]
        used = sorted({sample.video for sample in part})
        place = {video: index for index, video in enumerate(used)}
        shards.append(
            Shard(
                name=f"{number:06d}.tar",
                samples=tuple(replace(sample, video=place[sample.video]) for sample in part),
                videos=tuple(videos[video] for video in used),
            )
        )
    return shards


def digest(samples: Sequence[Sample]) -> str:
    """Identity of a plan: 16 hex digits."""
    return hashlib.sha256("\n".join(sample.key for sample in samples).encode()).hexdigest()[:16]


def _clips(video: Video, options: ExtractOptions) -> Iterator[tuple[int, int]]:
    """(first frame, frame step) of every clip."""
    for first, last in video.scenes:
        for step in options.frame_steps:
            length = step * (CLIP_LENGTH - 1) + 1
            for start in range(first, last - length + 1, step * options.distance):
                yield start, step


def _crop(
    height: int, width: int, options: ExtractOptions, rng: np.random.Generator
) -> tuple[tuple[int, int, int, int], Size]:
    """(top, left, height, width) of a crop, and the size that it is resized to."""
    size = nearest_bucket(height, width, sample_size=options.size) if options.buckets else (options.size, options.size)
    scale = min(height / size[0], width / size[1]) * rng.uniform(options.crop_range[0], options.crop_range[1])
    high, wide = (max(1, min(most, round(scale * side))) for most, side in zip((height, width), size, strict=True))
    if options.crop == "centre":
        return ((height - high) // 2, (width - wide) // 2, high, wide), size
    top, left = int(rng.integers(height - high + 1)), int(rng.integers(width - wide + 1))
    return (top, left, high, wide), size
