"""Frame times in a file: a constant rate costs nothing, anything else a few bits a frame, and all are exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from reducio_codec.errors import FormatError

_LARGEST = 1 << 62
"""Times beyond it don't fit into the 64 bits that video files have for them."""


@dataclass(frozen=True, kw_only=True)
class Clock:
    """A guess at every frame's time, in units of a time base: ``start`` plus a constant, maybe fractional, step."""

    start: int
    step: Fraction

    def __call__(self, frame: int) -> int:
        """Time of frame number ``frame``, rounded as Matroska rounds to its milliseconds."""
        return self.start + (2 * frame * self.step.numerator + self.step.denominator) // (2 * self.step.denominator)

    def range(self, first: int, count: int) -> list[int]:
        """Times of ``count`` frames from number ``first`` on."""
        return [self(frame) for frame in range(first, first + count)]


def fit_clock(times: Sequence[int], *, time_base: Fraction, rate: Fraction) -> Clock:
    """The clock whose guesses of a video's first ``times`` need least mending: the file's rate or its first step."""
    clocks = [Clock(start=times[0], step=1 / (rate * time_base))]
    if len(times) > 1:
        clocks.append(Clock(start=times[0], step=Fraction(times[1] - times[0])))
    return min(clocks, key=lambda clock: len(pack_times(times, clock.range(0, len(times)))))


def pack_times(times: Sequence[int], guesses: Sequence[int]) -> bytes:
    """How far each time is from its guess, as variable-length integers: one byte for a small difference.

    Empty if all guesses are right: then there is nothing to store.
    """
    if list(times) == list(guesses):
        return b""
    packed = bytearray()
    for time, guess in zip(times, guesses, strict=True):
        difference = time - guess
        number = 2 * difference if difference >= 0 else -2 * difference - 1
        while number > 127:
            packed.append(128 | number & 127)
            number >>= 7
        packed.append(number)
    return bytes(packed)


def unpack_times(data: bytes, guesses: Sequence[int]) -> list[int]:
    """The inverse of :func:`pack_times`; FormatError unless ``data`` holds exactly one number a guess."""
    times: list[int] = []
    number = shift = 0
    for byte in data:
        number |= (byte & 127) << shift
        shift += 7
        if byte > 127 and shift < 70:
            continue
        if byte > 127 or len(times) == len(guesses):
            raise FormatError(f"frame times are damaged: {len(data)} bytes for {len(guesses)} frames")
        times.append(guesses[len(times)] + (number // 2 if number % 2 == 0 else -(number + 1) // 2))
        number = shift = 0
    if shift or len(times) != len(guesses):
        raise FormatError(f"frame times are damaged: {len(times)} of {len(guesses)} frames have one")
    falling = any(later <= earlier for earlier, later in pairwise(times))
    if falling or max(map(abs, times)) > _LARGEST:
        raise FormatError("frame times are damaged: they don't increase")
    return times
