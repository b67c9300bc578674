"""Quality over time: by a frame's distance from its key frame (a file's saw tooth), and what changes where clips meet."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from reducio_codec.errors import InputError
from reducio_codec.metrics.psnr import check_bytes, psnr


@dataclass(frozen=True, kw_only=True)
class AtDistance:
    """Frames that lie equally far from their key frame."""

    distance: int
    """In frames; negative before the key frame."""
    value: float
    """Mean over the frames."""
    frames: int


@dataclass
class ByDistance:
    """Takes the values of a video's frames, gives means by distance; holds two numbers a distance."""

    _sums: dict[int, float] = field(default_factory=dict)
    _counts: dict[int, int] = field(default_factory=dict)

    def add(self, values: NDArray[np.floating], *, keyframes: Sequence[int]) -> None:
        """A video: ``(T,)`` values, and the places of its key frames, 0 to T-1.

        A frame belongs to the key frame that is nearest, and to the earlier of two that are.
        """
        for value, distance in zip(values, distances(len(values), keyframes=keyframes), strict=True):
            self._sums[distance] = self._sums.get(distance, 0.0) + float(value)
            self._counts[distance] = self._counts.get(distance, 0) + 1

    def result(self) -> list[AtDistance]:
        """By distance, from the furthest before a key frame to the furthest behind it. InputError without a frame."""
        if not self._counts:
            raise InputError("no frame was added; quality over time needs at least one")
        return [
            AtDistance(distance=distance, value=self._sums[distance] / count, frames=count)
            for distance, count in sorted(self._counts.items())
        ]


def distances(length: int, *, keyframes: Sequence[int]) -> list[int]:
    """Of each of ``length`` frames from the nearest key frame, negative before it."""
    if not keyframes or any(not 0 <= place < length for place in keyframes):
        raise InputError(f"key frames are {list(keyframes)}; allowed: one or more from 0 to {length - 1}")
    places = np.array(sorted(set(keyframes)))
    offsets = np.arange(length)[:, None] - places  # (T, key frames)
    nearest = np.abs(offsets).argmin(1)  # the first of equal ones
    return [int(offset) for offset in offsets[np.arange(length), nearest]]


def saw_tooth(table: Sequence[AtDistance]) -> float | None:
    """Mean of the inner four frames less that of the outer four: two on each side of the key frame, and the two furthest.

    The key frame itself counts for neither. None where a side has fewer than four frames, so that both would share some.
    """
    before = [row for row in table if row.distance < 0]
    behind = [row for row in table if row.distance > 0]
    if min(len(before), len(behind)) < 4:
        return None
    outer, inner = [*before[:2], *behind[-2:]], [*before[-2:], *behind[:2]]
    return float(np.mean([row.value for row in inner]) - np.mean([row.value for row in outer]))


def psnr_by_frame(reference: NDArray[np.uint8], decoded: NDArray[np.uint8]) -> NDArray[np.float64]:
    """dB of each frame: ``(T, H, W, 3)`` uint8 each to ``(T,)``; equal frames have 80."""
    check_bytes(reference, decoded, name="clips")
    return np.array([psnr(a, b) for a, b in zip(reference, decoded, strict=True)])  # (T,)


def changes(frames: NDArray[np.uint8], *, joins: Iterable[int]) -> tuple[float, float]:
    """Mean absolute difference of consecutive frames, in grey levels: at joins of clips, elsewhere.

    Args:
        frames: (T, H, W, 3) uint8.
        joins: first frames of the clips behind the first, 1 to T-1; one or more, and not all.
    """
    places = sorted(set(joins))
    if not places or places[0] < 1 or places[-1] >= len(frames) or len(places) >= len(frames) - 1:
        raise InputError(f"joins are {places}; allowed: one or more, but not all, of 1 to {len(frames) - 1}")
    difference = np.array(
        [np.abs(after.astype(np.int16) - before).mean() for before, after in itertools.pairwise(frames)]
    )  # (T - 1,)
    behind = np.array(places) - 1
    return float(difference[behind].mean()), float(np.delete(difference, behind).mean())
