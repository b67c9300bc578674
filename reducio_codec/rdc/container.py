"""The ``.rdc`` file: a small header, then records that each carry their own checksum.

    file     magic (8 bytes) | format version (u8) | header length (varint) | CRC-32 of the header | header
    header   JSON without defaults, deflated with a dictionary of its key names
    record   type (u8) | payload length (varint) | check (u8, of the two before) | CRC-32 of the payload | payload

Records of a clip start with its number, so a repeated or moved record is noticed. A latent record goes on with a byte: its
frames (1 to 16), plus 32 where the clip has a quantiser step of its own (varint, 1/1024) and 64 where its key frame has a
place of its own (u8). A KEYFRAMES record holds the key frames of several clips: the first one's number, how many (u8), and
one image sequence; those clips have no KEYFRAME record. A CUT record says, in a byte behind the clip's number, which of that
clip and the one before doesn't use the other's key frame (``clips.spans.Cut``). After damage the reader looks for the next
record whose checks agree. Unknown types are skipped. The INDEX record at the end says how many clips there are, and, where that
isn't one frame's duration after the last frame, the time at which the last picture stops being shown (varint, signed as in
TIMESTAMPS). A reader finds the records in one pass when it opens the file (files are small: an hour is some 50 MB) and then
reads any clip by itself. Numbers are little-endian.
"""

from __future__ import annotations

import struct
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import BinaryIO

from reducio_codec.clips.spans import Cut
from reducio_codec.config import CLIP_LENGTH
from reducio_codec.errors import FormatError, InputError
from reducio_codec.rdc.entropy import read_varint, write_varint
from reducio_codec.rdc.header import MAX_HEADER, RdcHeader
from reducio_codec.rdc.keyframe import MAX_GROUP

MAGIC = b"\x89RDC\r\n\x1a\n"
VERSION = 1
MAX_PAYLOAD = 1 << 28
AUDIO_CHUNK = 1 << 20
MAX_CLIPS = 1 << 24

_LONGEST_HEAD = 1 + 9 + 1 + 4
_OWN_STEP, _OWN_KEYFRAME = 32, 64


class RecordType(IntEnum):
    """Assigned once, never reused."""

    KEYFRAME = 1
    LATENT = 2
    AUDIO = 3
    TIMESTAMPS = 4
    INDEX = 5
    KEYFRAMES = 6
    CUT = 7


@dataclass(frozen=True, kw_only=True)
class KeyframeRecord:
    """A clip's key frame as it lies in the file; ``keyframe`` is None where that record is damaged or missing."""

    index: int
    frames: int
    """Real frames, 1 to 16."""
    keyframe: bytes | None
    keyframe_place: int
    """Which picture of ``keyframe`` is this clip's, where several clips share one image sequence; otherwise 0."""
    keyframe_index: int
    """Which of the model's 16 frames the key frame is."""


@dataclass(frozen=True, kw_only=True)
class ClipRecord(KeyframeRecord):
    """One clip as it lies in the file; ``latent``, too, is None where its record is damaged or missing."""

    latent: bytes | None
    step: int
    """Of the latent's quantiser, in 1/1024."""
    timestamps: tuple[int, ...] | None
    """In ticks, where the file has them; None where they follow from ``start`` and ``frame_duration``."""
    damage: tuple[str, ...]


class RdcWriter:
    """Writes to a binary file object, which may be a pipe. Call ``close`` to write the end; it doesn't close the file."""

    def __init__(self, file: BinaryIO, header: RdcHeader) -> None:
        self._file = file
        self._header = header
        self._clips = 0
        packed = header.pack()
        start = bytearray(MAGIC + bytes([VERSION]))
        write_varint(start, len(packed))
        start += struct.pack("<I", zlib.crc32(packed)) + packed
        self._place = 0
        self._put(bytes(start))

    def write_keyframes(self, keyframes: bytes, *, count: int) -> None:
        """The coded key frames of the next ``count`` clips, which are then written without."""
        payload = bytearray()
        write_varint(payload, self._clips)
        payload.append(count)
        self.record(RecordType.KEYFRAMES, bytes(payload) + keyframes)

    def write_clip(
        self,
        *,
        frames: int,
        keyframe: bytes | None,
        latent: bytes,
        timestamps: Sequence[int] | None = None,
        step: int | None = None,
        keyframe_index: int | None = None,
        cut: Cut = Cut.NONE,
    ) -> None:
        """The next clip: its real frames (1 to 16), coded key frame, coded latent, and timestamps if they vary.

        ``keyframe`` is None where ``write_keyframes`` has it already.
        ``step`` (1/1024) and ``keyframe_index`` are the header's unless given, ``cut`` is between it and the one before.
        """
        number = bytearray()
        write_varint(number, self._clips)
        if cut:
            self.record(RecordType.CUT, bytes([*number, cut]))
        self._clips += 1
        if keyframe is not None:
            self.record(RecordType.KEYFRAME, bytes(number) + keyframe)
        own = bytearray([frames])
        if step is not None and step != self._header.step:
            own[0] |= _OWN_STEP
            write_varint(own, step)
        if keyframe_index is not None and keyframe_index != self._header.keyframe_index:
            own[0] |= _OWN_KEYFRAME
            own.append(keyframe_index)
        self.record(RecordType.LATENT, bytes(number + own) + latent)
        if timestamps is not None:
            assert len(timestamps) == frames
            deltas, last = bytearray(), 0
            for pts in timestamps:
                delta, last = pts - last, pts
                _write_signed(deltas, delta)
            self.record(RecordType.TIMESTAMPS, bytes(number) + zlib.compress(bytes(deltas), 9))

    def write_audio(self, chunk: bytes) -> None:
        """The next piece of the audio track, any length."""
        for place in range(0, len(chunk), AUDIO_CHUNK):
            self.record(RecordType.AUDIO, chunk[place : place + AUDIO_CHUNK])

    def record(self, kind: int, payload: bytes) -> None:
        if len(payload) > MAX_PAYLOAD:
            raise InputError(f"a record of {len(payload)} bytes is larger than {MAX_PAYLOAD}")
        head = bytearray([kind])
        write_varint(head, len(payload))
        self._put(bytes(head) + bytes([zlib.crc32(head) & 255]) + struct.pack("<I", zlib.crc32(payload)) + payload)

    def close(self, *, end: int | None = None) -> None:
        """``end``: when the last picture stops being shown, in ticks; None: one frame's duration after the last frame."""
        payload = bytearray()
        write_varint(payload, self._clips)
        if end is not None:
            _write_signed(payload, end)
        self.record(RecordType.INDEX, bytes(payload))

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._place += len(data)

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._place


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
        self.damage: list[str] = []
        start = self._read(0, len(MAGIC) + 1 + 9 + 4)
        if start[: len(MAGIC)] != MAGIC:
            raise FormatError("not an .rdc file" if start else "the file is empty, not an .rdc file")
        if len(start) == len(MAGIC):
            raise FormatError("the file ends before its header")
        if start[len(MAGIC)] != VERSION:
            raise FormatError(
                f"the file has format version {start[len(MAGIC)]}; this program reads {VERSION}: update reducio-codec"
            )
        length, place = read_varint(start, len(MAGIC) + 1)
        if length > MAX_HEADER or place + 4 + length > self._size:
            raise FormatError("the file ends inside its header, or the header is damaged")
        (checksum,) = struct.unpack_from("<I", self._read(place, 4))
        packed = self._read(place + 4, length)
        if zlib.crc32(packed) != checksum:
            raise FormatError("the header is damaged: its checksum doesn't agree")
        self.header = RdcHeader.unpack(packed)
        self._body = place + 4 + length
        self._clips: dict[int, dict[int, tuple[int, int]]] = {}  # clip -> record type -> (payload offset, length)
        self._audio: list[tuple[int, int]] = []
        self._bytes: dict[str, int] = {}
        self._frames: dict[int, int] = {}
        self._own: dict[int, tuple[int, int]] = {}  # clip -> quantiser step, place of the key frame
        self._places: dict[int, int] = {}  # clip -> which picture of its KEYFRAMES record
        self._cuts: dict[int, Cut] = {}
        self._count: int | None = None
        self.end: int | None = None
        """When the last picture stops being shown, in ticks; None: one frame's duration after the last frame."""
        self._scan()

    @property
    def clips(self) -> int:
        """Number of clips, from the INDEX record, or as many as were found where that is damaged."""
        found = max(self._clips, default=-1) + 1
        return found if self._count is None else self._count

    @property
    def frames(self) -> int:
        """Frames of the video; a clip whose length is lost counts as 16."""
        return sum(self._frames.get(index, CLIP_LENGTH) for index in range(self.clips))

    @property
    def cuts(self) -> dict[int, Cut]:
        """Clips that a scene change keeps apart from the clip before, by number."""
        return {index: cut for index, cut in sorted(self._cuts.items()) if index < self.clips}

    def cut(self, index: int) -> Cut:
        """Between clip ``index`` and the one before it."""
        return self._cuts.get(index, Cut.NONE)

    def read_keyframe(self, index: int) -> KeyframeRecord:
        """A clip's key frame alone; InputError beyond the end."""
        self._check(index)
        place = self._clips.get(index, {}).get(RecordType.KEYFRAME)
        return KeyframeRecord(
            index=index,
            frames=self._frames.get(index, CLIP_LENGTH),
            keyframe=None if place is None else self._payload(place),
            keyframe_place=self._places.get(index, 0),
            keyframe_index=self._own.get(index, (0, self.header.keyframe_index))[1],
        )

    def _check(self, index: int) -> None:
        if not 0 <= index < self.clips:
            raise InputError(f"clip {index} was asked for; the file has clips 0 to {self.clips - 1}")

    def read_clip(self, index: int) -> ClipRecord:
        """One clip, wherever it lies; InputError beyond the end."""
        self._check(index)
        places, damage = self._clips.get(index, {}), []
        payloads: dict[int, bytes | None] = {}
        for kind in (RecordType.KEYFRAME, RecordType.LATENT):
            payloads[kind] = self._payload(places[kind]) if kind in places else None
            if payloads[kind] is None:
                damage.append(f"clip {index}: its {kind.name.lower()} record is damaged or missing")
        step, keyframe_index = self._own.get(index, (self.header.step, self.header.keyframe_index))
        timestamps = self._timestamps(places, self._frames.get(index, CLIP_LENGTH))
        if self.header.frame_duration == 0 and timestamps is None:
            damage.append(f"clip {index}: its timestamps are damaged or missing")
        return ClipRecord(
            index=index,
            frames=self._frames.get(index, CLIP_LENGTH),
            keyframe=payloads[RecordType.KEYFRAME],
            keyframe_place=self._places.get(index, 0),
            latent=payloads[RecordType.LATENT],
            step=step,
            keyframe_index=keyframe_index,
            timestamps=timestamps,
            damage=tuple(damage),
        )

    def __iter__(self) -> Iterator[ClipRecord]:
        for index in range(self.clips):
            yield self.read_clip(index)

    def audio(self) -> Iterator[bytes]:
        """The audio track's pieces, in order."""
        for offset, length in self._audio:
            yield self._read(offset, length)

    def byte_report(self) -> dict[str, int]:
        """Bytes of the file by what they are for; they add up to its size."""
        known = dict(self._bytes)
        known["container"] = self._size - sum(known.values())
        return known

    def _scan(self) -> None:
        place, lost = self._body, 0
        while place < self._size:
            head = self._head(place)
            if head is None or not self._accept(place, *head):
                if not lost:
                    self.damage.append(f"damaged from byte {place} on")
                lost += 1
                place = self._resync(place + 1)
                continue
            lost = 0
            place = head[1] + head[2]
        if self._count is None:
            self.damage.append("the end of the file is missing")

    def _head(self, place: int) -> tuple[int, int, int, int] | None:
        """(type, payload offset, length, checksum) of the record at ``place`` if its check agrees and it fits."""
        data = self._read(place, _LONGEST_HEAD)
        try:
            length, end = read_varint(data, 1)
        except FormatError:
            return None
        if end + 5 > len(data) or zlib.crc32(data[:end]) & 255 != data[end] or length > MAX_PAYLOAD:
            return None
        offset = place + end + 5
        if offset + length > self._size:
            return None
        return data[0], offset, length, struct.unpack_from("<I", data, end + 1)[0]

    def _accept(self, place: int, kind: int, offset: int, length: int, checksum: int) -> bool:
        """Notes a record whose payload is intact."""
        payload = self._read(offset, length)
        if zlib.crc32(payload) != checksum:
            return False
        try:
            name = ("KEYFRAME" if kind == RecordType.KEYFRAMES else RecordType(kind).name).lower()
        except ValueError:
            self._bytes["unknown"] = self._bytes.get("unknown", 0) + length
            return True
        self._bytes[name] = self._bytes.get(name, 0) + length
        if kind == RecordType.AUDIO:
            self._audio.append((offset, length))
            return True
        try:
            number, skip = read_varint(payload, 0)
        except FormatError:
            return False
        if number > MAX_CLIPS:
            self.damage.append(f"a record claims clip {number}; at most {MAX_CLIPS} are read")
            return True
        if kind == RecordType.INDEX:
            try:
                self.end = _read_signed(payload, skip)[0] if skip < length else None
            except FormatError:
                return False
            self._count = number
            return True
        if kind == RecordType.KEYFRAMES:
            self._accept_keyframes(number, payload, offset=offset, place=skip)
            return True
        if kind == RecordType.CUT:
            self._note_cut(number, payload[skip:])
            return True
        records = self._clips.setdefault(number, {})
        if kind in records:
            self.damage.append(f"clip {number} has a second {name} record, which is ignored")
            return True
        if kind == RecordType.LATENT:
            try:
                skip = self._read_own(number, payload, skip)
            except (FormatError, IndexError):
                self.damage.append(f"clip {number}: its latent record holds no length")
                return True
        records[kind] = (offset + skip, length - skip)
        return True

    def _accept_keyframes(self, first: int, payload: bytes, *, offset: int, place: int) -> None:
        """Notes the key frames of several clips, which lie in one record."""
        count = payload[place] if place < len(payload) else 0
        if not 1 <= count <= MAX_GROUP or first + count > MAX_CLIPS:
            self.damage.append(f"a record claims the key frames of {count} clips; allowed: 1 to {MAX_GROUP}")
            return
        for number in range(first, first + count):
            records = self._clips.setdefault(number, {})
            if RecordType.KEYFRAME in records:
                self.damage.append(f"clip {number} has a second keyframe record, which is ignored")
                continue
            records[RecordType.KEYFRAME] = (offset + place + 1, len(payload) - place - 1)
            self._places[number] = number - first

    def _note_cut(self, number: int, flags: bytes) -> None:
        if number == 0 or len(flags) != 1 or not 1 <= flags[0] <= (Cut.BACKWARD | Cut.FORWARD):
            self.damage.append(f"clip {number}: its cut record says what can't be")
        elif number in self._cuts:
            self.damage.append(f"clip {number} has a second cut record, which is ignored")
        else:
            self._cuts[number] = Cut(flags[0])

    def _read_own(self, number: int, payload: bytes, place: int) -> int:
        """What a latent record says before the latent; where that begins. FormatError for what can't be."""
        flags = payload[place]
        frames, place = flags & (_OWN_STEP - 1), place + 1
        step, keyframe_index = self.header.step, self.header.keyframe_index
        if flags & _OWN_STEP:
            step, place = read_varint(payload, place)
        if flags & _OWN_KEYFRAME:
            keyframe_index, place = payload[place], place + 1
        if flags >= 2 * _OWN_KEYFRAME or not 1 <= frames <= CLIP_LENGTH:
            raise FormatError(f"a clip of {frames} frames")
        if not 1 <= step <= 1 << 16 or keyframe_index >= CLIP_LENGTH:
            raise FormatError("a step or key frame that can't be")
        self._frames[number], self._own[number] = frames, (step, keyframe_index)
        return place

    def _resync(self, place: int) -> int:
        """The next place whose record head agrees, read in blocks; the end if there is none."""
        while place < self._size:
            block = self._read(place, 1 << 16)
            for i, kind in enumerate(block):
                if 1 <= kind <= 31 and self._head(place + i) is not None:
                    return place + i
            place += len(block)
        return self._size

    def _payload(self, record: tuple[int, int]) -> bytes:
        return self._read(*record)

    def _timestamps(self, places: dict[int, tuple[int, int]], frames: int) -> tuple[int, ...] | None:
        if RecordType.TIMESTAMPS not in places:
            return None
        inflate = zlib.decompressobj()
        try:
            data = inflate.decompress(self._read(*places[RecordType.TIMESTAMPS]), CLIP_LENGTH * 10)
            result, last, place = [], 0, 0
            for _ in range(frames):
                delta, place = _read_signed(data, place)
                last += delta
                result.append(last)
            return tuple(result)
        except (zlib.error, FormatError):
            return None

    def _read(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(length)


def _write_signed(out: bytearray, value: int) -> None:
    write_varint(out, value * 2 if value >= 0 else -value * 2 - 1)


def _read_signed(data: bytes, place: int) -> tuple[int, int]:
    """The number, and where what follows begins."""
    code, place = read_varint(data, place)
    return (code // 2 if code % 2 == 0 else -(code + 1) // 2), place


def _spool(file: BinaryIO) -> BinaryIO:
    copy = tempfile.SpooledTemporaryFile(max_size=1 << 24)  # noqa: SIM115 - lives as long as the reader
    while block := file.read(1 << 20):
        copy.write(block)
    return copy  # type: ignore[return-value]
