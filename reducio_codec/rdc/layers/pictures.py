"""PICTURE: the coded picture of one frame, a reference that clips are decoded from.

    frame number (varint) | 0, or how many frames before it the picture lies that it follows (varint) | the picture's bytes

Pictures that were coded together, each predicted from those before it, follow one another, with no other between: a sequence.
Each has a record of its own, beside the clip that it lies in, so that damage costs the pictures behind it in its sequence and
no other. A picture may lie anywhere, in any clip, and a clip may have none or many.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from reducio_codec.errors import FormatError
from reducio_codec.rdc.layers.layer import Clip, Layer, Limits
from reducio_codec.rdc.ranges import MAX_SEQUENCE
from reducio_codec.rdc.varint import read_varint, write_varint


@dataclass(kw_only=True)
class PictureGroup:
    """The pictures of a sequence, in order of time and of coding."""

    frames: list[int] = field(default_factory=list)
    """The frame of the video that each shows."""
    places: list[tuple[int, int]] = field(default_factory=list)
    """(offset, bytes) of each in the file."""


def pack(frame: int, coded: bytes, *, after: int | None) -> bytes:
    """The picture of a frame; ``after`` is the frame of the picture that it follows in a sequence."""
    assert after is None or after < frame
    out = bytearray()
    write_varint(out, frame)
    write_varint(out, 0 if after is None else frame - after)
    return bytes(out) + coded


class Pictures(Layer):
    """Concealed by :meth:`nearest`: another frame's picture is shown."""

    KIND: ClassVar[int] = 1
    NAME: ClassVar[str] = "pictures"

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self.declared: dict[int, int] = {}
        """How many pictures lie in a clip, by its number, where its own record says so."""
        self.frames: list[int] = []
        """Frames with a readable picture, in order."""
        self._records: dict[int, tuple[int, tuple[int, int]]] = {}  # frame -> distance, place in the file
        self._groups: dict[int, tuple[PictureGroup, int]] = {}

    def group(self, frame: int) -> tuple[PictureGroup, int]:
        """The sequence that the picture of ``frame`` lies in, and its place there; FormatError if there is none."""
        if frame not in self._groups:
            raise FormatError(f"frame {frame}: its picture is damaged or missing")
        return self._groups[frame]

    def inside(self, clip: Clip) -> tuple[int, ...]:
        """Frames of a clip with a readable picture."""
        first = bisect_left(self.frames, clip.start)
        return tuple(self.frames[first : bisect_left(self.frames, clip.start + clip.frames)])

    def nearest(self, frame: int) -> Iterator[int]:
        """Frames with a readable picture, the nearest first, of two as near the earlier."""
        behind = bisect_left(self.frames, frame)
        before = behind - 1
        while before >= 0 or behind < len(self.frames):
            earlier = before >= 0 and (
                behind == len(self.frames) or frame - self.frames[before] <= self.frames[behind] - frame
            )
            yield self.frames[before if earlier else behind]
            before, behind = (before - 1, behind) if earlier else (before, behind + 1)

    def forget(self, frame: int) -> None:
        """Leave out a picture that turned out not to decode, and those behind it in its sequence."""
        group, place = self.group(frame)
        for lost in group.frames[place:]:
            if self._groups.pop(lost, None) is not None:
                del self.frames[bisect_left(self.frames, lost)]

    def take(self, payload: bytes, *, offset: int) -> None:
        frame, place = read_varint(payload, 0)
        distance, place = read_varint(payload, place)
        if frame >= self.limits.frames or distance > frame or place == len(payload):
            raise FormatError(f"a picture record says what can't be: frame {frame}, {len(payload) - place} bytes")
        if distance and self.limits.header.keyframe_codec != "avif":
            raise FormatError(f"frame {frame}: its picture follows another, which only avif allows")
        if frame in self._records:
            raise FormatError(f"frame {frame} has a second picture, which is ignored")
        self._records[frame] = distance, (offset + place, len(payload) - place)

    def settle(self) -> Sequence[str]:
        problems = []
        for frame in sorted(self._records):
            distance, place = self._records[frame]
            group, number = self._groups.get(frame - distance, (None, 0)) if distance else (PictureGroup(), -1)
            if group is None:
                continue  # what it follows is lost, and so is it
            # Could sequences lie between one another, a reader would hold a decoder for each, or begin anew at each picture.
            between = bool(distance) and next(reversed(self._groups)) != frame - distance
            if between or len(group.frames) == MAX_SEQUENCE:
                problems.append(f"frame {frame}: its picture follows that of frame {frame - distance}, which can't be")
                continue
            group.frames.append(frame)
            group.places.append(place)
            self._groups[frame] = group, number + 1
        self._records.clear()
        self.frames = list(self._groups)
        return problems

    def lacks(self, clip: Clip) -> str | None:
        expected, found = self.declared.get(clip.index, 1), len(self.inside(clip))
        if found >= expected:
            return None
        return "its picture is damaged or missing" if expected == 1 else f"{found} of its {expected} pictures are left"
