"""Several frames of a file at once, by number or by time, called as in torchcodec."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reducio_codec.errors import FrameIndexError, InputError


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameBatch:
    """n frames, in the order in which they were asked for."""

    data: Tensor
    """``(n, H, W, 3)`` uint8."""
    pts_seconds: Tensor
    """``(n,)`` float64: when each begins to be shown, counted from the video's first frame."""
    duration_seconds: Tensor
    """``(n,)`` float64: how long each is shown."""

    def __len__(self) -> int:
        return len(self.data)


def batch_of(frames: NDArray[np.uint8], numbers: Sequence[int], times: NDArray[np.float64]) -> FrameBatch:
    """Frames ``(n, H, W, 3)`` with their numbers; ``times`` as ``RdcVideo.frame_times``."""
    places = np.asarray(numbers, np.int64)
    begin = times[places]
    return FrameBatch(
        data=torch.from_numpy(frames),
        pts_seconds=torch.from_numpy(begin),
        duration_seconds=torch.from_numpy(times[places + 1] - begin),
    )


def seconds_of(ticks: Sequence[int], *, time_base: Fraction) -> NDArray[np.float64]:
    """Times in seconds, the first one 0. Those that were lost are guessed, and a guess may fall behind what was shown: each is a
    tick behind the one before at least."""
    rising = accumulate(ticks, lambda last, time: max(time, last + 1))
    # of whole numbers, so that frame 1 of 30 a second begins at what Python calls 1 / 30
    return np.array([(time - ticks[0]) * time_base.numerator / time_base.denominator for time in rising])


def numbers_at(seconds: Sequence[Any], times: NDArray[np.float64]) -> list[int]:
    """The frame that is shown at each of these times; ``times`` as ``RdcVideo.frame_times``."""
    found = []
    for second in seconds:
        try:
            time = math.nan if isinstance(second, bool | str | bytes) else float(second)
        except (TypeError, ValueError, OverflowError, RuntimeError):
            time = math.nan
        if math.isnan(time):
            raise InputError(f"second {second!r} was asked for; allowed: a number")
        if not 0 <= time < times[-1]:
            raise FrameIndexError(f"second {time:g} was asked for; the video lasts from 0 to below {times[-1]:g} s")
        found.append(int(np.searchsorted(times[:-1], time, side="right")) - 1)
    return found


def listed(values: Iterable[Any], *, name: str) -> list[Any]:
    """What was given for several values, as a list."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InputError(f"{name} is {values!r}; allowed: a list, a range, an array or a tensor of numbers")
    try:
        return list(values)
    except TypeError:  # an array or tensor of no axis
        raise InputError(f"{name} is {values!r}, a single number; give a list of one") from None
