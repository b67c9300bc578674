"""Reads ``.rdc`` files: one pass over the records when a file is opened, then any clip by itself.

An hour is some 50 MB, so a pass costs little, and it finds damage wherever it is.
"""

from __future__ import annotations

import struct
import tempfile
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import BinaryIO, TypeVar, cast

from reducio_codec.errors import FormatError, InputError
from reducio_codec.rdc.header import MAGIC, MAX_HEADER, VERSION, RdcHeader
from reducio_codec.rdc.layers import LAYERS
from reducio_codec.rdc.layers.audio import Audio
from reducio_codec.rdc.layers.cuts import Cut, Cuts
from reducio_codec.rdc.layers.index import Index
from reducio_codec.rdc.layers.latent import Latents, usual_lead
from reducio_codec.rdc.layers.layer import Clip, Layer, Limits
from reducio_codec.rdc.layers.pictures import PictureGroup, Pictures
from reducio_codec.rdc.layers.times import Times
from reducio_codec.rdc.records import Record, Scanner
from reducio_codec.rdc.timeline import lay_out
from reducio_codec.rdc.varint import read_varint

L = TypeVar("L", bound=Layer)


@dataclass(frozen=True, kw_only=True)
class ClipRecord:
    """One clip as it lies in the file."""

    index: int
    start: int
    """Its first frame's number in the video."""
    frames: int
    """Real frames, 1 to 16."""
    lead: int
    """Copies of the first frame before it, of the 16 frames that a model sees."""
    latent: bytes | None
    """None where its record is damaged or missing; no bytes for a latent of zeros."""
    step: int
    """Of the latent's quantiser, in 1/1024."""
    references: tuple[int, ...]
    """Its frames that the file has a picture of, by their number in the video."""
    timestamps: tuple[int, ...] | None
    """In ticks, where the file has them; None where they follow from ``start`` and ``frame_duration``."""
    damage: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Beside:
    """The pictures next to a clip, by their frames' numbers; None where there is none, or a scene change between."""

    before: int | None
    after: int | None
    lost: tuple[str, ...]
    """What would be there but is damaged or missing, in words."""


class RdcReader:
    """Reads a file object; one that can't seek is copied to a temporary file first.

    Raises:
        FormatError: not an ``.rdc`` file, written by a newer version, or its header is damaged. Damage behind the header
            is listed in ``damage`` and in each clip's own list instead.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file if file.seekable() else _spool(file)
        self._file.seek(0, 2)
        self._size = self._file.tell()
        self.header, self._body = read_header(self._file, size=self._size)
        self.damage: list[str] = []
        """What is wrong with the file as a whole."""
        self.unknown: dict[int, int] = {}
        """Records of kinds that this program doesn't know, which it skips: how many of each."""
        limits = Limits.of_file(self.header, size=self._size)
        self._layers = {layer.KIND: layer(limits) for layer in LAYERS}
        self._bytes = {layer.NAME: 0 for layer in LAYERS}
        self._scan()
        self._settle()

    # ------------------------------------------------------------------ what is there

    @property
    def clips(self) -> int:
        """Number of clips: those found, and those that must have been between or, by the index, behind them."""
        return len(self._clips)

    @property
    def frames(self) -> int:
        """Frames of the video."""
        return self._clips[-1].start + self._clips[-1].frames if self._clips else 0

    @property
    def end(self) -> int | None:
        """When the last picture stops being shown, in ticks, where the file says it."""
        return self.layer(Index).end

    @property
    def pictures(self) -> Pictures:
        """Pictures by frame."""
        return self.layer(Pictures)

    @property
    def cuts(self) -> dict[int, Cut]:
        """Clips that a scene change keeps apart from the clip before, by number."""
        return {index: cut for index, cut in sorted(self.layer(Cuts).found.items()) if index < self.clips}

    def cut(self, index: int) -> Cut:
        """Between clip ``index`` and the one before it."""
        return self.layer(Cuts).found.get(index, Cut.NONE)

    def layer(self, kind: type[L]) -> L:
        """What the file has of one kind of record."""
        return cast(L, self._layers[kind.KIND])

    def byte_report(self) -> dict[str, int]:
        """Bytes of the file by what they are for; they add up to its size."""
        known = {name: size for name, size in self._bytes.items() if size}
        return {**known, "container": self._size - sum(known.values())}

    # ------------------------------------------------------------------ clips

    def span(self, index: int) -> Clip:
        """Where a clip lies; InputError beyond the end."""
        if not 0 <= index < self.clips:
            raise InputError(f"clip {index} was asked for; the file has clips 0 to {self.clips - 1}")
        return self._clips[index]

    def clip_at(self, frame: int) -> int:
        """The clip that shows a frame of the video."""
        return bisect_right(self._starts, frame) - 1

    def read_clip(self, index: int) -> ClipRecord:
        """One clip, wherever it lies; InputError beyond the end."""
        clip = self.span(index)
        record = self.layer(Latents).found.get(index) if clip.known else None
        lost = [lack for layer in self._layers.values() if (lack := layer.lacks(clip)) is not None]
        return ClipRecord(
            index=index,
            start=clip.start,
            frames=clip.frames,
            lead=usual_lead(clip.frames) if record is None else record.lead,
            latent=None if record is None else self._read(*record.place),
            step=self.header.step if record is None else record.step,
            references=self.pictures.inside(clip),
            timestamps=self.layer(Times).of(clip),
            damage=tuple(f"clip {index}: {lack}" for lack in lost),
        )

    def __iter__(self) -> Iterator[ClipRecord]:
        for index in range(self.clips):
            yield self.read_clip(index)

    def beside(self, index: int) -> Beside:
        """The pictures beside a clip that it may be decoded with: the last before and the first behind, up to the next cut.

        One that is damaged isn't replaced by another further away, of which the encoder knew nothing.
        """
        lost: list[str] = []
        before, after = self._last_with_pictures[index], self._next_with_pictures[index + 1]
        found: list[int | None] = [None, None]
        if before >= 0 and self._no_cut(before, index, Cut.BACKWARD):
            found[0] = self._picture_of(before, lost, last=True)
        if after < self.clips and self._no_cut(index, after, Cut.FORWARD):
            found[1] = self._picture_of(after, lost, last=False)
        return Beside(before=found[0], after=found[1], lost=tuple(lost))

    def read_pictures(self, group: PictureGroup) -> list[bytes]:
        """The coded pictures of a group."""
        return [self._read(*place) for place in group.places]

    def audio(self) -> Iterator[bytes]:
        """The audio track's pieces, in order."""
        for place in self.layer(Audio).pieces():
            yield self._read(*place)

    # ------------------------------------------------------------------ opening

    def _scan(self) -> None:
        scanner = Scanner(self._file, start=self._body, size=self._size)
        for record in scanner:
            self._take(self._layers.get(record.kind), record)
        self.damage = scanner.damage + self.damage
        for layer in self._layers.values():
            self.damage += layer.settle()

    def _take(self, layer: Layer | None, record: Record) -> None:
        name = "unknown" if layer is None else layer.NAME
        self._bytes[name] = self._bytes.get(name, 0) + len(record.payload)
        if layer is None:
            self.unknown[record.kind] = self.unknown.get(record.kind, 0) + 1
            return
        try:
            layer.take(record.payload, offset=record.offset)
        except FormatError as error:
            self.damage.append(str(error))

    def _settle(self) -> None:
        """Bring together what the layers say of clips."""
        latents, pictures = self.layer(Latents), self.pictures
        pictured = pictures.frames[-1] + 1 if pictures.frames else 0
        self._clips, problems = lay_out(latents.found, count=self.layer(Index).count, pictured=pictured)
        self.damage += problems
        self._starts = [clip.start for clip in self._clips]
        beyond = [frame for frame in pictures.frames if frame >= self.frames]
        if beyond:
            self.damage.append(f"frame {beyond[0]} has a picture; the video has {self.frames} frames")
        pictures.declared = {clip.index: latents.found[clip.index].pictures for clip in self._clips if clip.known}
        # a clip whose record is lost counts as having pictures, since most have
        numbers = [clip.index if pictures.declared.get(clip.index, 1) else -1 for clip in self._clips]
        self._last_with_pictures = [-1, *accumulate(numbers, max)]
        behind = [number if number >= 0 else self.clips for number in reversed(numbers)]
        self._next_with_pictures = [*reversed(list(accumulate(behind, min))), self.clips]
        self._cut_numbers = {
            flag: sorted(number for number, cut in self.cuts.items() if cut & flag)
            for flag in (Cut.BACKWARD, Cut.FORWARD)
        }

    def _no_cut(self, earlier: int, later: int, flag: Cut) -> bool:
        """Whether no clip behind ``earlier`` up to ``later`` is kept from the one before in this direction."""
        numbers = self._cut_numbers[flag]
        return bisect_right(numbers, later) == bisect_left(numbers, earlier + 1)

    def _picture_of(self, index: int, lost: list[str], *, last: bool) -> int | None:
        clip = self._clips[index]
        inside = self.pictures.inside(clip)
        lack = self.pictures.lacks(clip)
        if lack is not None:
            lost.append(f"clip {index}: {lack}")
            return None
        return inside[-1 if last else 0] if inside else None

    def _read(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(length)


def read_header(file: BinaryIO, *, size: int) -> tuple[RdcHeader, int]:
    """The header of a file of ``size`` bytes, and the place behind it; FormatError if there is none, or it is damaged."""
    file.seek(0)
    start = file.read(len(MAGIC) + 1 + 9 + 4)
    if start[: len(MAGIC)] != MAGIC:
        raise FormatError("not an .rdc file" if start else "the file is empty, not an .rdc file")
    if len(start) == len(MAGIC):
        raise FormatError("the file ends before its header")
    if start[len(MAGIC)] != VERSION:
        raise FormatError(
            f"the file has format version {start[len(MAGIC)]}; this program reads {VERSION}: update reducio-codec"
        )
    length, place = read_varint(start, len(MAGIC) + 1)
    if length > MAX_HEADER or place + 4 + length > size:
        raise FormatError("the file ends inside its header, or the header is damaged")
    file.seek(place)
    (checksum,) = struct.unpack("<I", file.read(4))
    packed = file.read(length)
    if zlib.crc32(packed) != checksum:
        raise FormatError("the header is damaged: its checksum doesn't agree")
    return RdcHeader.unpack(packed), place + 4 + length


def _spool(file: BinaryIO) -> BinaryIO:
    copy = tempfile.SpooledTemporaryFile(max_size=1 << 24)  # noqa: SIM115 - lives as long as the reader
    while block := file.read(1 << 20):
        copy.write(block)
    return copy  # type: ignore[return-value]
