"""Whether a file was cut off: MP4, Matroska and AVI say in their first bytes how long they should be.

FFmpeg reads a cut Matroska or AVI file to its end without a word, and so would we.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

from reducio_codec.io.fragments import samples_end
from reducio_codec.io.pipe import Pipe

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip", b"styp")
_BOXES = (*_FIRST_BOXES, b"moof", b"sidx", b"mfra", b"meta", b"uuid", b"udta", b"pnot", b"prft", b"emsg", b"ssix")


# Matroska's elements in a segment and in a cluster (RFC 9559); those in a block group are skipped with it.
_CLUSTER = 0x1F43B675
_ELEMENTS = frozenset(
    {0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367, 0xEC, 0xBF}
    | {0xE7, 0xA3, 0xA0, 0xAB, 0xA7, 0xAF, 0x5854}
)


_HOLD_SAMPLES = (b"mdat", b"moov", b"moof")


def missing_bytes(path: Path | Pipe) -> int:
    """Bytes that the file's own structure promises beyond its end; 0 when it is whole or can't be told.

    Of a pipe, which was read to its end, only the first bytes are left to ask.
    """
    if isinstance(path, Pipe):
        _, end = _segment(io.BytesIO(path.head)) if path.head[:4] == _EBML else (0, None)
        return max(0, (end or 0) - path.length)
    length = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        file.seek(0)
        if start[4:] in _FIRST_BOXES:
            end = _boxes_end(file, length)
        elif start[:4] == _EBML:
            end = _segment_end(file, length)
        elif start[:4] == b"RIFF":
            end = _riff_end(file, length)
        else:
            end = 0
    return max(0, end - length)


def _boxes_end(file: BinaryIO, length: int) -> int:
    """ISO base media: a chain of boxes, each with its size (ISO/IEC 14496-12, 4.2)."""
    at = 0
    samples: int | None = None  # where those of the last fragment end
    while at + 8 <= length:
        file.seek(at)
        header = file.read(16)
        size = int.from_bytes(header[:4], "big")
        if header[4:8] not in _BOXES:
            return 0  # something else was appended
        if size == 1 and len(header) == 16:
            size = int.from_bytes(header[8:], "big")
        if size < 8:
            return 0  # 0: the box ends where the file ends
        if at + size > length and header[4:8] not in _HOLD_SAMPLES:
            return 0  # whatever is missing there, no picture is
        if at + size > length and header[4:8] == b"mdat" and samples is not None:
            return samples  # a size that claims too much is no harm where the samples are there
        if header[4:8] == b"moof":
            file.seek(at)
            samples = samples_end(file.read(min(size, length - at)), start=at)
        at += size
    return at


def structure_is_whole(path: Path | Pipe) -> bool:
    """Whether a Matroska file is an unbroken chain of elements from its beginning to its end; for a pipe, as long as it says."""
    if isinstance(path, Pipe):
        return missing_bytes(path) == 0
    length = path.stat().st_size
    with path.open("rb") as file:
        at, end = _segment(file)
        return end is not None and at > 0 and _chain_end(file, at, min(end, length)) == min(end, length)


def _segment_end(file: BinaryIO, length: int) -> int:
    """Matroska: a header element, then one segment with everything (RFC 8794)."""
    at, end = _segment(file)
    if end is None:
        return 0
    # a size that claims too much is no harm where the last element ends with the file
    return length if end > length and _chain_end(file, at, length) == length else end


def _segment(file: BinaryIO) -> tuple[int, int | None]:
    """Where the segment's content begins and ends; None for an end that isn't known."""
    file.seek(4)
    header = _element_size(file)
    if header is None:
        return 0, None
    file.seek(header, 1)
    if file.read(4) != _SEGMENT:
        return 0, None
    size = _element_size(file)
    return file.tell(), None if size is None else file.tell() + size


def _chain_end(file: BinaryIO, at: int, end: int) -> int | None:
    """Where the elements from ``at`` on end, those of clusters one by one; None where there is something else."""
    while at < end:
        file.seek(at)
        first = file.read(1)[0]
        extra = 8 - first.bit_length()
        if extra > 3:
            return None
        name = int.from_bytes(bytes([first]) + file.read(extra), "big")
        size = _element_size(file)
        if name == _CLUSTER:
            at = file.tell()
        elif name in _ELEMENTS and size is not None:
            at = file.tell() + size
        else:
            return None
    return at


def _element_size(file: BinaryIO) -> int | None:
    """A variable-length integer; None for "unknown", which live recordings write, and for nonsense."""
    first = file.read(1)
    if not first or first[0] == 0:
        return None
    extra = 8 - first[0].bit_length()
    value = int.from_bytes(first + file.read(extra), "big")
    bits = 7 * (extra + 1)
    value &= (1 << bits) - 1
    return None if value == (1 << bits) - 1 else value


def _riff_end(file: BinaryIO, length: int) -> int:
    """AVI: one RIFF chunk, or several in files beyond 1 GiB."""
    at = 0
    while at + 12 <= length:
        file.seek(at)
        header = file.read(12)
        size = int.from_bytes(header[4:8], "little")
        if header[:4] != b"RIFF" or size in (0, 0xFFFFFFFF):
            return 0
        at += 8 + size + size % 2
    return at - 1 if at == length + 1 else at  # the padding byte at the very end is often left out
