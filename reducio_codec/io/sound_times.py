"""Times of a sound's packets: in order, and beside the picture where recordings are joined end to end."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
from av.audio.stream import AudioStream

from reducio_codec.io.extent import moves


class SoundTimes:
    """Gives every packet a time that doesn't fall; good times pass through unchanged.

    Where they jump back by a second or more, the next recording begins: it moves as far as its picture moves (see
    ``Extent.moves``), and packets that would be heard over the end of the one before are left out.
    """

    def __init__(self, path: Path, *, has_picture: bool) -> None:
        self._path, self._has_picture = path, has_picture
        self._moves: list[Fraction] | None = None  # of the picture, in seconds, by recording
        self._joins = 0
        self._shift = 0
        self._last: int | None = None
        self._end = 0
        self._from: int | None = None

    def __call__(self, packet: av.Packet[AudioStream]) -> int | None:
        """Its time in its own ticks; None where it is to be left out."""
        given = packet.pts if packet.pts is not None else packet.dts
        time = self._end if given is None else given + self._shift
        if self._last is not None and time < self._last:
            tick = Fraction(packet.time_base)
            if given is not None and (self._last - time) * tick >= 1:
                self._shift = self._next_shift(given, tick=tick)
                self._from = self._end
                time = given + self._shift
            elif self._from is None:
                time = self._last
        if self._from is not None and time < self._from:
            return None
        self._from, self._last, self._end = None, time, time + (packet.duration or 0)
        return time

    def _next_shift(self, given: int, *, tick: Fraction) -> int:
        if self._moves is None:
            self._moves = moves(self._path) if self._has_picture else []
        self._joins += 1
        if self._joins <= len(self._moves):
            return round(self._moves[self._joins - 1] / tick)
        return self._end - given  # the picture doesn't jump: one sound behind the other
