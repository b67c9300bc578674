"""The clips that every method gets, and the protocol that says how they were made.

Each video of a folder: the shorter side resized to 256 pixels (bilinear, antialiased, on floats, rounded once), the
middle 256 x 256, cut into consecutive clips of 16 frames; frames after the last whole clip are left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterator
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from reducio_codec.config import CLIP_LENGTH
from reducio_codec.errors import InputError, ReducioError
from reducio_codec.io.files import VIDEO_SUFFIXES
from reducio_codec.io.video import open_video

KEYFRAME = (CLIP_LENGTH - 1) // 2
"""The frame that "PSNR without key frame" leaves out, for every method alike, whatever it codes first."""

Unit = Literal["clip", "video"]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What has to be equal for two results to stand in one table."""

    name: str
    """Kind and version, as ``reconstruction/1``. The version grows when the same name would give other numbers."""
    unit: Unit
    """What is coded in one go: each clip alone, or all clips of a video one after the other."""
    size: int = 256
    frames: int = CLIP_LENGTH
    resize: str = "shorter side, bilinear, antialiased, then the middle"
    keyframe_left_out: int = KEYFRAME

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Frames that are coded in one go."""

    name: str
    video: str
    """Which video it is from: samples of one video are alike."""
    rate: Fraction
    pixels: NDArray[np.uint8]
    """(N*16, 256, 256, 3)."""

    @property
    def digest(self) -> str:
        """Of the pixels: two methods are compared only on the very same frames."""
        return hashlib.sha256(self.pixels.tobytes()).hexdigest()[:16]

    def clips(self) -> list[NDArray[np.uint8]]:
        """The 16-frame clips of which measurements are taken."""
        return list(self.pixels.reshape(-1, CLIP_LENGTH, *self.pixels.shape[1:]))


@dataclass
class SampleSet:
    """The samples of a folder, decoded as they are asked for."""

    folder: Path
    protocol: Protocol
    limit: int | None = None
    """Only so many videos, the first ones by name."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Videos that couldn't be used, and why; filled while iterating."""

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            raise InputError(f"{self.folder} isn't a folder; --data needs a folder of videos")
        self.videos = sorted(path for path in self.folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
        self.videos = self.videos[: self.limit]
        if not self.videos:
            raise InputError(f"{self.folder} has no video; suffixes that count: {', '.join(sorted(VIDEO_SUFFIXES))}")

    def __iter__(self) -> Iterator[Sample]:
        return self.of_videos(None)

    def of_videos(self, wanted: Container[str] | None) -> Iterator[Sample]:
        """The samples of these videos, or of all; the others aren't decoded."""
        for path in self.videos:
            name = "__".join(path.relative_to(self.folder).parts)
            if wanted is not None and name not in wanted:
                continue
            try:
                frames, rate = read_frames(path, size=self.protocol.size)
            except ReducioError as error:
                self.skipped[name] = str(error)
                continue
            whole = len(frames) // CLIP_LENGTH * CLIP_LENGTH
            if not whole:
                self.skipped[name] = f"has {len(frames)} frames; a clip has {CLIP_LENGTH}"
                continue
            if self.protocol.unit == "video":
                yield Sample(name=name, video=name, rate=rate, pixels=frames[:whole])
                continue
            for start in range(0, whole, CLIP_LENGTH):
                clip = frames[start : start + CLIP_LENGTH]
                yield Sample(name=f"{name}@{start:05d}", video=name, rate=rate, pixels=clip)


def read_frames(path: Path, *, size: int) -> tuple[NDArray[np.uint8], Fraction]:
    """All frames of a video at ``size``: ``(T, size, size, 3)`` uint8, and frames per second."""
    with open_video(path) as reader:
        frames = [fit(frame.rgb, size=size) for frame in reader]
        rate = reader.info.rate
    return np.stack(frames) if frames else np.empty((0, size, size, 3), np.uint8), rate


def fit(picture: NDArray[np.uint8], *, size: int) -> NDArray[np.uint8]:
    """``(H, W, 3)`` uint8 to ``(size, size, 3)``: the shorter side becomes ``size``, then the middle is cut out."""
    height, width = picture.shape[:2]
    scale = size / min(height, width)
    target = (max(size, round(height * scale)), max(size, round(width * scale)))
    if target != (height, width):
        values = torch.from_numpy(picture).permute(2, 0, 1)[None].float()  # (1, 3, H, W)
        values = functional.interpolate(values, target, mode="bilinear", antialias=True, align_corners=False)
        picture = values[0].round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    top, left = (target[0] - size) // 2, (target[1] - size) // 2
    return np.ascontiguousarray(picture[top : top + size, left : left + size])
