"""Frame times in a file: a constant rate costs nothing, what differs from it is stored, and all are exact."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from reducio_codec.rdc.header import RdcHeader

_LARGEST = (1 << 31) - 1
"""Of a rate's two numbers, for containers and players."""


@dataclass(frozen=True, kw_only=True)
class Clock:
    """A guess at every frame's time, in ticks of a time base: ``start`` plus a constant, maybe fractional, step."""

    start: int
    step: Fraction

    def __call__(self, frame: int) -> int:
        """Time of frame number ``frame``; halves are rounded up, as Matroska rounds to its milliseconds."""
        return self.start + (2 * frame * self.step.numerator + self.step.denominator) // (2 * self.step.denominator)

    def times(self, first: int, count: int) -> list[int]:
        """Times of ``count`` frames from number ``first`` on."""
        return [self(frame) for frame in range(first, first + count)]

    def end(self, frame: int, *, time: int) -> int:
        """When frame number ``frame``, which is shown from ``time`` on, ends unless the file says otherwise."""
        return time + max(1, self(frame + 1) - self(frame))


def clock_of_header(header: RdcHeader) -> Clock:
    """What a reader takes the times to be that a file doesn't store."""
    if header.rate:
        return clock_of_rate(header.rate, start=header.start, time_base=header.time_base)
    return Clock(start=header.start, step=Fraction(header.frame_duration or 1))


def mean_rate(frames: int, *, seconds: Fraction, time_base: Fraction, nominal: Fraction) -> Fraction:
    """Frames per second by their own times; the nominal rate, which is exact, where it says the same to a tick. Its two
    numbers have 31 bits, unless it is no rate that a fraction of them comes near.

    Args:
        seconds: from the first frame to the end of the last, above 0.
    """
    if abs(frames / nominal - seconds) <= time_base:
        return near_rate(nominal)
    rate = frames / seconds
    return near_rate(rate.limit_denominator(100_000) or rate)


def near_rate(rate: Fraction) -> Fraction:
    """A rate from 1 / (2^31 - 1) to 2^31 - 1 in two numbers of 31 bits: itself, or else what they come near."""
    if max(rate.numerator, rate.denominator) <= _LARGEST:
        return rate
    if rate < 1:
        return 1 / (1 / rate).limit_denominator(max(1, _LARGEST // math.ceil(1 / rate)))
    return rate.limit_denominator(max(1, _LARGEST // math.ceil(rate)))


def clock_of_rate(rate: Fraction, *, start: int, time_base: Fraction) -> Clock:
    """A clock of ``rate`` frames per second."""
    return Clock(start=start, step=1 / (rate * time_base))


def fit_clock(times: Sequence[int], *, time_base: Fraction, rate: Fraction) -> Clock | None:
    """The clock that guesses all of a video's first ``times`` right, or None if they vary.

    Tried are the file's rate, which may be wrong, and the step between the first two frames.
    """
    clocks = [clock_of_rate(rate, start=times[0], time_base=time_base)]
    if len(times) > 1:
        clocks.append(Clock(start=times[0], step=Fraction(times[1] - times[0])))
    return next((clock for clock in clocks if clock.times(0, len(times)) == list(times)), None)
