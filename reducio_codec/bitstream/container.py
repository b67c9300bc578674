"""The ``.rdc`` file: a small header, then records that each carry their own checksum.

    file     magic (8 bytes) | format version (u8) | header length (varint) | CRC-32 of the header | header
    header   JSON without defaults, deflated with a dictionary of its key names
    record   type (u8) | payload length (varint) | check (u8, of the two before) | CRC-32 of the payload | payload

Records of a clip start with its number, so a repeated or moved record is noticed. A latent record goes on with a byte: its
frames (1 to 16), plus 32 where the clip has a quantiser step of its own (varint, 1/1024) and 64 where its key frame has a
place of its own (u8). After damage the reader looks for the next record whose checks agree. Unknown types are skipped. The
INDEX record at the end says how many clips there are. A reader finds the records in one pass when it opens the file (files
are small: an hour is some 50 MB) and then reads any clip by itself. Numbers are little-endian.
"""

from __future__ import annotations

import json
import struct
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass, field, fields
from enum import IntEnum
from fractions import Fraction
from typing import Any, BinaryIO

from reducio_codec.bitstream.entropy import read_varint, write_varint
from reducio_codec.bitstream.tables import MAX_CHANNELS
from reducio_codec.config import CLIP_LENGTH
from reducio_codec.errors import FormatError, InputError

MAGIC = b"\x89RDC\r\n\x1a\n"
VERSION = 1
MAX_SIDE = 16384
MAX_HEADER = 1 << 20
"""Bytes of an inflated header."""
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


@dataclass(frozen=True, kw_only=True)
class RdcHeader:
    """What a file says about itself. Fields with a default are left out of the file when they hold it."""

    model: str
    """Model id, as ``ReducioCodec.from_pretrained`` takes it."""
    model_hash: str
    """What the latent depends on, 16 hex digits: encoder, statistics and tables. A model's decoders all share it."""
    width: int
    height: int
    time_base: Fraction
    """Seconds a tick."""
    frame_duration: int = 0
    """Ticks between frames; 0: each clip has a TIMESTAMPS record."""
    start: int = 0
    """Timestamp of the first frame, in ticks."""
    step: int
    """``latent_step`` in 1/1024."""
    keyframe_codec: str = "avif"
    colour: str = "bt709"
    """What the decoded RGB values mean: full-range R'G'B' with BT.709's primaries. Writers convert to it; there is no other."""
    keyframe_index: int = 7
    """Which of a clip's 16 frames is its key frame."""
    latent: tuple[int, int] = (16, 4)
    """Channels and time positions of a clip's latent."""
    sample_aspect_ratio: Fraction = Fraction(1)
    rate: Fraction = field(default=Fraction(0))
    """Nominal frames a second, stored where timestamps vary; 0: one over the frame's duration."""

    def __post_init__(self) -> None:
        def bad(name: str, allowed: str) -> FormatError:
            return FormatError(f"the header's {name} is {getattr(self, name)!r}; allowed: {allowed}")

        for name in ("width", "height"):
            if not _whole(getattr(self, name), 1, MAX_SIDE):
                raise bad(name, f"1 to {MAX_SIDE}")
        for name, low, high in (("frame_duration", 0, 1 << 40), ("start", -(1 << 60), 1 << 60), ("step", 1, 1 << 16)):
            if not _whole(getattr(self, name), low, high):
                raise bad(name, f"{low} to {high}")
        if not _whole(self.keyframe_index, 0, CLIP_LENGTH - 1):
            raise bad("keyframe_index", f"0 to {CLIP_LENGTH - 1}")
        if (
            len(self.latent) != 2
            or not _whole(self.latent[0], 1, MAX_CHANNELS)
            or not _whole(self.latent[1], 1, CLIP_LENGTH)
        ):
            raise bad("latent", f"two numbers, 1 to {MAX_CHANNELS} and 1 to 16")
        for name in ("time_base", "sample_aspect_ratio", "rate"):
            value = getattr(self, name)
            lowest = 0 if name == "rate" else Fraction(1, 1 << 31)
            if not isinstance(value, Fraction) or not lowest <= value < 1 << 31 or value.denominator >= 1 << 31:
                raise bad(name, "a positive fraction of 31-bit numbers")
        if self.colour != "bt709":
            raise bad("colour", "bt709")
        for name in ("model", "model_hash", "keyframe_codec"):
            value = getattr(self, name)
            if not isinstance(value, str) or len(value) > 256 or not value.isprintable():
                raise bad(name, "a printable string of at most 256 characters")

    def pack(self) -> bytes:
        data = {
            f.name: _plain(getattr(self, f.name))
            for f in fields(self)
            if f.default is MISSING or getattr(self, f.name) != f.default
        }
        deflate = zlib.compressobj(9, wbits=-15, zdict=_DICTIONARY)
        return deflate.compress(json.dumps(data, separators=(",", ":")).encode()) + deflate.flush()

    @classmethod
    def unpack(cls, data: bytes) -> RdcHeader:
        inflate = zlib.decompressobj(wbits=-15, zdict=_DICTIONARY)
        try:
            text = inflate.decompress(data, MAX_HEADER)
            if not inflate.eof:
                raise FormatError(f"the header is cut short or longer than {MAX_HEADER} bytes")
            values: Any = json.loads(text)
            if not isinstance(values, dict):
                raise FormatError("the header isn't an object")
            known = {f.name for f in fields(cls)}
            values = {key: value for key, value in values.items() if key in known}
            for name in ("time_base", "sample_aspect_ratio", "rate"):
                if name in values:
                    values[name] = Fraction(*_pair(values[name]))
            if "latent" in values:
                values["latent"] = tuple(_pair(values["latent"]))
            return cls(**values)
        except (zlib.error, ValueError, TypeError, ZeroDivisionError, RecursionError) as error:
            raise FormatError(f"the header is damaged: {error}") from error


def _whole(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _plain(value: Any) -> Any:
    return [value.numerator, value.denominator] if isinstance(value, Fraction) else value


def _pair(value: Any) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2 or not all(_whole(v, -(1 << 31), 1 << 31) for v in value):
        raise FormatError(f"the header is damaged: {value!r} isn't a pair of numbers")
    return value[0], value[1]


_DICTIONARY = (
    b'"sample_aspect_ratio":[4,3]"rate":[30000,1001]"latent":[16,4]"keyframe_index":"keyframe_codec":"png"jpeg"webp"'
    b'"start":0"frame_duration":512"frame_duration":1001,"time_base":[1,90000]"time_base":[1,1000]"time_base":[1,15360]'
    b'"time_base":[1,16384],"time_base":[1,12288],{"model":"reducio-lite","model_hash":"0123456789abcdef",'
    b'"width":1920,"height":1080,"width":1280,"height":720,"width":256,"height":256,"time_base":[1,30],'
    b'"frame_duration":1,"step":512}'
)
"""Text that headers are likely to share; changing it would make every file unreadable."""


@dataclass(frozen=True, kw_only=True)
class ClipRecord:
    """One clip as it lies in the file. ``keyframe`` or ``latent`` is None where that record is damaged or missing."""

    index: int
    frames: int
    """Real frames, 1 to 16."""
    keyframe: bytes | None
    latent: bytes | None
    step: int
    """Of the latent's quantiser, in 1/1024."""
    keyframe_index: int
    """Which of the model's 16 frames the key frame is."""
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

    def write_clip(
        self,
        *,
        frames: int,
        keyframe: bytes,
        latent: bytes,
        timestamps: Sequence[int] | None = None,
        step: int | None = None,
        keyframe_index: int | None = None,
    ) -> None:
        """The next clip: its real frames (1 to 16), coded key frame, coded latent, and timestamps if they vary.

        ``step`` (1/1024) and ``keyframe_index`` are the header's unless given.
        """
        number = bytearray()
        write_varint(number, self._clips)
        self._clips += 1
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
                write_varint(deltas, delta * 2 if delta >= 0 else -delta * 2 - 1)
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

    def close(self) -> None:
        payload = bytearray()
        write_varint(payload, self._clips)
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
        self._count: int | None = None
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

    def read_clip(self, index: int) -> ClipRecord:
        """One clip, wherever it lies; InputError beyond the end."""
        if not 0 <= index < self.clips:
            raise InputError(f"clip {index} was asked for; the file has clips 0 to {self.clips - 1}")
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
            name = RecordType(kind).name.lower()
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
            self._count = number
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
                code, place = read_varint(data, place)
                last += code // 2 if code % 2 == 0 else -(code + 1) // 2
                result.append(last)
            return tuple(result)
        except (zlib.error, FormatError):
            return None

    def _read(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(length)


def _spool(file: BinaryIO) -> BinaryIO:
    copy = tempfile.SpooledTemporaryFile(max_size=1 << 24)  # noqa: SIM115 - lives as long as the reader
    while block := file.read(1 << 20):
        copy.write(block)
    return copy  # type: ignore[return-value]
