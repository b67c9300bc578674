"""LATENT: a clip's motion, and where the clip lies.

    clip number (varint) | flags (u8) | what the flags announce, in this order | the latent's bytes

    flags    frames - 1 (4 bits)
             16: a quantiser step of its own (varint, 1/1024; otherwise the header's)
             32: its first frame's number isn't 16 * clip number (signed varint: how far it is from that)
             64: where its frames lie among the model's 16 (u8: copies of the first frame before them; otherwise half of
                 those that are missing, rounded down)
             128: how many pictures lie in the clip (varint; otherwise 1)

No bytes stand for a latent of zeros. How the others are coded: ``rdc.entropy``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from reducio_codec.config import CLIP_LENGTH
from reducio_codec.errors import FormatError
from reducio_codec.rdc.layers.layer import Clip, Layer, Limits
from reducio_codec.rdc.ranges import STEPS
from reducio_codec.rdc.varint import read_signed, read_varint, write_signed, write_varint

_STEP, _START, _LEAD, _PICTURES = 16, 32, 64, 128


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentRecord:
    """What a record says, and where its latent lies."""

    number: int
    start: int
    frames: int
    lead: int
    """Copies of the first frame before it, of the 16 frames that a model sees."""
    step: int
    """Of the quantiser, in 1/1024."""
    pictures: int
    """How many pictures the file has of this clip's frames."""
    place: tuple[int, int] = (0, 0)
    """(offset, bytes) of the latent in the file."""


def usual_lead(frames: int) -> int:
    """Where a clip's frames lie among 16 unless it says otherwise."""
    return (CLIP_LENGTH - frames) // 2


def pack(record: LatentRecord, latent: bytes, *, step: int) -> bytes:
    """A clip's record; ``step`` is the header's."""
    out, rest, flags = bytearray(), bytearray(), record.frames - 1
    write_varint(out, record.number)
    if record.step != step:
        flags |= _STEP
        write_varint(rest, record.step)
    if record.start != CLIP_LENGTH * record.number:
        flags |= _START
        write_signed(rest, record.start - CLIP_LENGTH * record.number)
    if record.lead != usual_lead(record.frames):
        flags |= _LEAD
        rest.append(record.lead)
    if record.pictures != 1:
        flags |= _PICTURES
        write_varint(rest, record.pictures)
    out.append(flags)
    return bytes(out + rest) + latent


class Latents(Layer):
    """Concealed by the clip's pictures, or the nearest: each frame shows one."""

    KIND: ClassVar[int] = 2
    NAME: ClassVar[str] = "latent"

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self.found: dict[int, LatentRecord] = {}

    def take(self, payload: bytes, *, offset: int) -> None:
        record, place = _unpack(payload, limits=self.limits)
        if record.number in self.found:
            raise FormatError(f"clip {record.number} has a second latent record, which is ignored")
        self.found[record.number] = replace(record, place=(offset + place, len(payload) - place))

    def lacks(self, clip: Clip) -> str | None:
        return None if clip.known else "its latent record is damaged or missing"


def _unpack(payload: bytes, *, limits: Limits) -> tuple[LatentRecord, int]:
    """What a record says, and where the latent begins; FormatError for what can't be."""
    number, place = limits.clip_number(payload)
    if place >= len(payload):
        raise FormatError(f"clip {number}: its latent record holds no length")
    flags, place = payload[place], place + 1
    frames = flags % 16 + 1
    step, start, lead, pictures = limits.header.step, CLIP_LENGTH * number, usual_lead(frames), 1
    if flags & _STEP:
        step, place = read_varint(payload, place)
    if flags & _START:
        moved, place = read_signed(payload, place)
        start += moved
    if flags & _LEAD:
        lead, place = (payload[place] if place < len(payload) else CLIP_LENGTH), place + 1
    if flags & _PICTURES:
        pictures, place = read_varint(payload, place)
    for name, value, low, high in (
        ("a quantiser step of", step, *STEPS),
        ("a first frame of", start, number, CLIP_LENGTH * number),
        ("a first place of", lead, 0, CLIP_LENGTH - frames),
        ("a number of pictures of", pictures, 0, frames),
    ):
        if not low <= value <= high:
            raise FormatError(f"clip {number}: its latent record claims {name} {value}; allowed: {low} to {high}")
    return LatentRecord(number=number, start=start, frames=frames, lead=lead, step=step, pictures=pictures), place
