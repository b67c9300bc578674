"""Clips for training: a folder of videos, decoded once into one uint8 file, sampled by motion."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from reducio_codec.config import CLIP_LENGTH
from reducio_codec.errors import InputError

_log = logging.getLogger(__name__)
_SUFFIXES = {".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".gif"}


@dataclass(frozen=True, kw_only=True)
class Video:
    """One decoded video."""

    name: str
    frames: npt.NDArray[np.uint8]
    """(T, H, W, 3)."""
    motion: npt.NDArray[np.float32]
    """(T - 15,): mean absolute difference, in grey levels, between the key frame and the rest of each possible clip."""


def load_videos(folder: str | Path, *, cache: str | Path) -> list[Video]:
    """Decodes every video of a folder into ``cache`` (a pair of files, reused next time) and maps it into memory.

    Videos that can't be read or have fewer than 16 frames are skipped and named in the log.

    Raises:
        InputError: the folder has no usable video.
    """
    folder, cache = Path(folder), Path(cache)
    index = cache.with_suffix(".json")
    if not index.exists():
        _decode_all(sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES), cache, index)
    entries = json.loads(index.read_text())
    if not entries:
        raise InputError(f"{folder}: no video with at least {CLIP_LENGTH} frames")
    pixels = np.memmap(cache, dtype=np.uint8, mode="r")
    return [
        Video(
            name=entry["name"],
            frames=pixels[entry["offset"] : entry["offset"] + int(np.prod(entry["shape"]))].reshape(entry["shape"]),
            motion=np.array(entry["motion"], dtype=np.float32),
        )
        for entry in entries
    ]


def _decode_all(paths: Sequence[Path], cache: Path, index: Path) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    entries, offset = [], 0
    with cache.open("wb") as out:
        for path in paths:
            try:
                with av.open(str(path)) as container:
                    frames: npt.NDArray[np.uint8] = np.stack(
                        [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
                    )
            except (av.FFmpegError, ValueError, IndexError) as error:
                _log.warning("skipped %s: %s", path, error)
                continue
            if len(frames) < CLIP_LENGTH:
                _log.warning("skipped %s: %d frames, a clip has %d", path, len(frames), CLIP_LENGTH)
                continue
            out.write(frames.tobytes())
            motion = [round(_motion(frames[i : i + CLIP_LENGTH]), 3) for i in range(len(frames) - CLIP_LENGTH + 1)]
            entries.append({"name": path.name, "offset": offset, "shape": frames.shape, "motion": motion})
            offset += frames.size
    temporary = index.with_suffix(".tmp")
    temporary.write_text(json.dumps(entries))
    temporary.replace(index)


def _motion(clip: npt.NDArray[np.uint8]) -> float:
    small = clip[:, ::8, ::8, 1].astype(np.int16)
    return float(np.abs(small - small[(CLIP_LENGTH - 1) // 2]).mean())


class ClipSampler:
    """Random crops of random clips. Batch ``step`` depends on the seed and the step alone, so a resumed run sees what an
    uninterrupted one would have seen.

    Clips with much motion come more often (weight: motion to the power 0.5, between a third and three times the median),
    since nearly still ones teach nothing after the first minutes.
    """

    def __init__(self, videos: Sequence[Video], *, seed: int = 0) -> None:
        self.videos = videos
        self.seed = seed
        self._starts = [(i, start) for i, video in enumerate(videos) for start in range(len(video.motion))]
        motion = np.concatenate([video.motion for video in videos])
        weight = np.sqrt(np.clip(motion / np.median(motion), 1 / 9, 9))
        self._cumulative = np.cumsum(weight / weight.sum())

    def batch(self, step: int, *, size: int, side: int) -> Tensor:
        """(size, 3, 16, side, side) float in [-1, 1]: resized crops, mirrored and played backwards at random."""
        rng = np.random.default_rng((self.seed, step))
        return torch.stack([self._clip(rng, side) for _ in range(size)])

    def _clip(self, rng: np.random.Generator, side: int) -> Tensor:
        index, start = self._starts[min(int(np.searchsorted(self._cumulative, rng.random())), len(self._starts) - 1)]
        frames = self.videos[index].frames
        stride = 2 if rng.random() < 0.15 and start + 2 * CLIP_LENGTH - 1 <= len(frames) else 1
        height, width = frames.shape[1:3]
        crop = min(round(side * rng.uniform(0.95, 1.6)), height, width)
        top, left = rng.integers(height - crop + 1), rng.integers(width - crop + 1)
        clip = frames[start : start + stride * CLIP_LENGTH : stride, top : top + crop, left : left + crop]
        if rng.random() < 0.5:
            clip = clip[:, :, ::-1]
        if rng.random() < 0.5:
            clip = clip[::-1]
        x = torch.from_numpy(np.ascontiguousarray(clip)).permute(0, 3, 1, 2).float()  # (16, 3, crop, crop)
        x = F.interpolate(x, (side, side), mode="bilinear", antialias=True, align_corners=False)
        return (x / 127.5 - 1).clamp(-1, 1).transpose(0, 1)
