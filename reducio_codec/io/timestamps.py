"""Presentation times of decoded frames: kept exactly when they increase, mended when they don't."""

from __future__ import annotations

import logging
from fractions import Fraction

logger = logging.getLogger(__name__)


class PtsRepair:
    """Gives every frame a pts larger than the one before it; good times pass through unchanged.

    Three faults occur in real files, each with its own cure:

    - no time at all (AVI keeps none): the decoding time if that is later than the last frame, else one frame step on;
    - a repeated or slightly earlier time: half a step after the last frame, so that the next good time still fits;
    - a jump back of a second or more (recordings joined end to end): everything from there on is shifted.
    """

    def __init__(self, *, name: str, time_base: Fraction, rate: Fraction) -> None:
        self._name = name
        self.step = max(1, round(1 / (rate * time_base)))
        """One frame at the given rate."""
        self._second = max(self.step + 1, round(1 / time_base))
        self.shift = 0
        """What is added to the file's own times, since a jump back."""
        self._last: int | None = None
        self.repaired = 0
        """Faults met so far; frames that merely follow a jump don't count."""

    def __call__(self, pts: int | None, *, dts: int | None = None) -> int:
        """The next frame's pts, in units of the time base."""
        if pts is not None and (self._last is None or pts + self.shift > self._last):
            self._last = pts + self.shift
            return self._last
        self._count()
        self._last = self._mend(pts, dts)
        return self._last

    def _mend(self, pts: int | None, dts: int | None) -> int:
        if self._last is None:
            return 0 if dts is None else dts
        if pts is None:
            later = dts is not None and dts + self.shift > self._last
            return dts + self.shift if dts is not None and later else self._last + self.step
        if self._last - (pts + self.shift) >= self._second:
            self.shift = self._last + self.step - pts
            return self._last + self.step
        return self._last + max(1, self.step // 2)

    def _count(self) -> None:
        if self.repaired == 0:
            logger.warning("%s: frame times are missing, repeated or go backwards; they are mended", self._name)
        self.repaired += 1
