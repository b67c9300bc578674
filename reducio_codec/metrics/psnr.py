"""PSNR in three definitions, which differ by up to 4.5 dB on the same output: always named, never just "PSNR".

- *paper*: per frame on [0, 1] floats, mean over frames (key frame included), then over clips;
- *pooled*: one error over all frames of a clip, then mean over clips;
- *pooled without key frame*: the same over the frames that are not the key frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from reducio_codec.errors import InputError

PEAK = 255.0
FLOOR = 1e-8
"""The least error on [0, 1], so that equal pictures score 80 dB and not infinity. The paper's definition adds it instead."""


@dataclass(frozen=True, kw_only=True)
class Psnr:
    """Means over clips, in dB."""

    paper: float
    pooled: float
    pooled_without_keyframe: float | None
    """None where no clip has a frame besides its key frame."""


@dataclass
class PsnrMeter:
    """Takes clip after clip, gives their :class:`Psnr`; holds three numbers a clip."""

    _paper: list[float] = field(default_factory=list)
    _pooled: list[float] = field(default_factory=list)
    _others: list[float] = field(default_factory=list)

    def add(self, reference: NDArray[np.uint8], decoded: NDArray[np.uint8], *, keyframe: int | Sequence[int]) -> None:
        """One clip: ``(T, H, W, 3)`` uint8 each; ``keyframe`` is the key frame's place, 0 to T-1, or those of any number."""
        check_bytes(reference, decoded, name="clips")
        errors = np.array([squared_error(a, b) for a, b in zip(reference, decoded, strict=True)])  # (T,)
        self._paper.append(float(np.mean(-10 * np.log10(errors + FLOOR))))
        self._pooled.append(decibels(float(errors.mean())))
        others = np.delete(errors, np.array(keyframe, dtype=np.intp))
        if others.size:
            self._others.append(decibels(float(others.mean())))

    def result(self) -> Psnr:
        """Means over the clips so far."""
        if not self._pooled:
            raise InputError("no clip was added; PSNR needs at least one")
        return Psnr(
            paper=float(np.mean(self._paper)),
            pooled=float(np.mean(self._pooled)),
            pooled_without_keyframe=float(np.mean(self._others)) if self._others else None,
        )


def squared_error(reference: NDArray[np.uint8], decoded: NDArray[np.uint8]) -> float:
    """Mean squared error of two uint8 arrays of one shape, on [0, 1]. Summed as integers: the same on every machine."""
    difference = reference.astype(np.int32) - decoded
    return int(np.sum(difference * difference, dtype=np.int64)) / (difference.size * PEAK**2)


def psnr(reference: NDArray[np.uint8], decoded: NDArray[np.uint8]) -> float:
    """dB of two uint8 arrays of one shape, one error over all of it; 80 where they are equal."""
    check_bytes(reference, decoded, name="pictures")
    return decibels(squared_error(reference, decoded))


def check_bytes(reference: NDArray[np.uint8], decoded: NDArray[np.uint8], *, name: str) -> None:
    """InputError unless both are uint8 arrays of one shape: floats would be cut off without a word."""
    if any(not isinstance(x, np.ndarray) or x.dtype != np.uint8 for x in (reference, decoded)):
        found = " and ".join(f"{type(x).__name__} of {getattr(x, 'dtype', '?')}" for x in (reference, decoded))
        raise InputError(
            f"{name} are {found}; allowed: uint8 arrays (of floats in [-1, 1], io.pixels.to_bytes(x).numpy() makes them)"
        )
    if reference.shape != decoded.shape:
        raise InputError(f"{name} are {reference.shape} and {decoded.shape}; both must be of one shape")


def decibels(error: float) -> float:
    """PSNR of a mean squared error on [0, 1]; 80 for none. An error on [-1, 1] is four times as large."""
    return float(-10 * np.log10(max(error, FLOOR)))
