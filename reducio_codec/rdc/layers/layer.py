"""What a kind of layer is: one class for each, in one module, registered in ``rdc.layers``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from reducio_codec.errors import FormatError
from reducio_codec.rdc.header import RdcHeader
from reducio_codec.rdc.records import LEAST_RECORD
from reducio_codec.rdc.varint import read_varint

_LEAST_CLIP = LEAST_RECORD + 2
"""Bytes of the smallest latent record."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Where a clip lies in the video."""

    index: int
    start: int
    """Its first frame's number in the video."""
    frames: int
    """Real frames, 1 to 16."""
    known: bool
    """False where the file has lost the clip's own record: start and length follow from the clips around, as far as they do."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a file may claim, given its size: whatever is kept of it stays in proportion to its bytes."""

    header: RdcHeader
    clips: int
    """The most clips that so many bytes can hold."""

    @classmethod
    def of_file(cls, header: RdcHeader, *, size: int) -> Self:
        """Of a file of ``size`` bytes."""
        return cls(header=header, clips=size // _LEAST_CLIP + 1)

    @property
    def frames(self) -> int:
        return 16 * self.clips

    def clip_number(self, payload: bytes) -> tuple[int, int]:
        """The clip number that a payload begins with, and the place behind it; FormatError for one that can't be."""
        number, place = read_varint(payload, 0)
        if number >= self.clips:
            raise FormatError(f"a record claims clip {number}; the file's bytes hold at most {self.clips} clips")
        return number, place


class Layer(ABC):
    """The records of one kind in one file: how they are unpacked and checked, what a clip lacks without them.

    Each module has its way of packing as a function ``pack``. How a missing one is made up for is the layer's own method.
    """

    KIND: ClassVar[int]
    """The record type in files: assigned once, never reused."""
    NAME: ClassVar[str]
    """What reports call it."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits

    @abstractmethod
    def take(self, payload: bytes, *, offset: int) -> None:
        """Note an intact record, whose payload starts at byte ``offset``; FormatError if it says what can't be."""

    def settle(self) -> Sequence[str]:
        """What is wrong with the layer as a whole, in words; called once all records are noted."""
        return ()

    def lacks(self, clip: Clip) -> str | None:
        """What is damaged or missing of a clip, in words."""
        return None
