"""AV1 pictures without their container: what a file stores of an AVIF, and the boxes that a decoder wants around it.

A file holds the samples alone: AV1 temporal units in the low-overhead format, without temporal delimiters, in order of
decoding; the first begins with the sequence header. Size and colours are the same in every file, so they are stored nowhere
else: the boxes of an image sequence (ISO/IEC 23000-22, ISO/IEC 14496-12) are written anew by each reader.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from reducio_codec.errors import FormatError

MAX_FRAMES = 16
"""Coded frames, hidden ones included, that one picture may be made of."""

_TEMPORAL_DELIMITER = b"\x12\x00"
_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME = 1, 3, 6
_COLOURS = struct.pack(">4sHHHB", b"nclx", 1, 13, 6, 128)
"""BT.709 primaries, sRGB transfer, BT.601 matrix, full range: what Pillow writes and reads RGB as."""
_CONFIG = b"\x81\x20\0\0"
"""AV1 profile 1 (4:4:4) of 8 bits."""
_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


def split_avif(data: bytes) -> list[bytes]:
    """The samples of an AVIF picture or image sequence as libavif writes it: one after the other in its ``mdat`` box."""
    boxes = dict(_boxes(data))
    media = boxes[b"mdat"]
    sizes = [len(media)]
    if b"moov" in boxes:
        table = boxes[b"moov"].index(b"stsz") + 4
        count = struct.unpack_from(">I", boxes[b"moov"], table + 8)[0]
        sizes = list(struct.unpack_from(f">{count}I", boxes[b"moov"], table + 12))
    samples, place = [], 0
    for size in sizes:
        samples.append(media[place : place + size].removeprefix(_TEMPORAL_DELIMITER))
        place += size
    assert place == len(media)
    return samples


def join_avif(samples: Sequence[bytes], *, width: int, height: int) -> bytes:
    """Samples as an AVIF image sequence."""
    kind = _box(b"ftyp", b"avis", bytes(4), b"avismsf1iso8")
    offset = len(kind) + len(_movie(samples, width=width, height=height, offset=0)) + 8
    return kind + _movie(samples, width=width, height=height, offset=offset) + _box(b"mdat", *samples)


def check_sample(sample: bytes, *, width: int, height: int) -> None:
    """Refuse what a decoder would allocate other pictures for than those of the file's size.

    Raises:
        FormatError: not AV1 units, a sequence header of another size or kind, or more than 16 coded frames.
    """
    frames = 0
    for kind, payload in _units(sample):
        frames += kind in (_FRAME_HEADER, _FRAME)
        if kind == _SEQUENCE_HEADER:
            found = _sequence_size(payload)
            if found != (width, height):
                raise FormatError(f"a picture is {found[0]}x{found[1]} pixels; the file says {width}x{height}")
    if not 1 <= frames <= MAX_FRAMES:
        raise FormatError(f"a picture is made of {frames} coded frames; allowed: 1 to {MAX_FRAMES}")


def _units(sample: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, payload) of each open bitstream unit (AV1 5.3)."""
    place = 0
    while place < len(sample):
        head = sample[place]
        place += 2 if head & 4 else 1
        size = len(sample) - place
        if head & 2:
            size, shift = 0, 0
            while True:
                if place >= len(sample) or shift > 28:
                    raise FormatError("a picture's units don't end")
                byte = sample[place]
                place, size, shift = place + 1, size | (byte & 127) << shift, shift + 7
                if byte < 128:
                    break
        if head & 0x81 or size > len(sample) - place:
            raise FormatError("a picture's units don't fit into it")
        yield head >> 3 & 15, sample[place : place + size]
        place += size


def _sequence_size(payload: bytes) -> tuple[int, int]:
    """Width and height of a sequence header (AV1 5.5.1)."""
    bits = _Bits(payload)
    profile, _still, reduced = bits.take(3), bits.take(1), bits.take(1)
    if profile != 1:
        raise FormatError(f"a picture has AV1 profile {profile}; allowed: 1")
    if reduced:
        bits.take(5)
    else:
        if bits.take(1) or bits.take(1) or bits.take(5):
            raise FormatError("a picture has timing information or several operating points")
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
    wide, high = bits.take(4) + 1, bits.take(4) + 1
    return bits.take(wide) + 1, bits.take(high) + 1


class _Bits:
    """Reads bits, the highest of a byte first."""

    def __init__(self, data: bytes) -> None:
        self._data, self._place = data[:32], 0  # a size lies within the first 10 bytes

    def take(self, count: int) -> int:
        value = 0
        for _ in range(count):
            if self._place >= 8 * len(self._data):
                raise FormatError("a picture's sequence header is cut short")
            value = value << 1 | self._data[self._place // 8] >> (7 - self._place % 8) & 1
            self._place += 1
        return value


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 0
    while place + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, place)
        yield kind, data[place + 8 : place + size]
        place += size


def _movie(samples: Sequence[bytes], *, width: int, height: int, offset: int) -> bytes:
    """The ``moov`` box of a track whose samples lie one behind the other from byte ``offset`` on."""
    count = len(samples)
    entry = _box(
        b"av01",
        struct.pack(">6xH16xHHIIIH32xHh", 1, width, height, 0x480000, 0x480000, 0, 1, 24, -1),
        _box(b"av1C", _CONFIG),
        _box(b"colr", _COLOURS),
    )
    table = _box(
        b"stbl",
        _full(b"stsd", struct.pack(">I", 1), entry),
        _full(b"stts", struct.pack(">III", 1, count, 1)),
        _full(b"stsc", struct.pack(">IIII", 1, 1, count, 1)),
        _full(b"stsz", struct.pack(f">II{count}I", 0, count, *map(len, samples))),
        _full(b"stco", struct.pack(">II", 1, offset)),
        _full(b"stss", struct.pack(">II", 1, 1)),
    )
    place = _box(b"dinf", _full(b"dref", struct.pack(">I", 1), _full(b"url ", flags=1)))
    media = _box(
        b"mdia",
        _full(b"mdhd", struct.pack(">IIIIHH", 0, 0, 1, count, 0x55C4, 0)),
        _full(b"hdlr", struct.pack(">4x4s13x", b"pict")),
        _box(b"minf", _full(b"vmhd", bytes(8), flags=1), place, table),
    )
    size = struct.pack(">II", width << 16, height << 16)
    track = _full(b"tkhd", struct.pack(">IIIII16x", 0, 0, 1, 0, count), _MATRIX, size, flags=1)
    movie = _full(b"mvhd", struct.pack(">IIIIIH10x", 0, 0, 1, count, 0x10000, 0x100), _MATRIX, struct.pack(">24xI", 2))
    return _box(b"moov", movie, _box(b"trak", track, media))


def _box(kind: bytes, *parts: bytes) -> bytes:
    payload = b"".join(parts)
    return struct.pack(">I4s", 8 + len(payload), kind) + payload


def _full(kind: bytes, *parts: bytes, flags: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", flags), *parts)
