"""Fragments of an MP4 file: where in the file their samples lie, by what the fragment itself lists (ISO/IEC 14496-12, 8.8)."""

from __future__ import annotations

from collections.abc import Iterator

_WIDE = 4  # bytes of the numbers here


def samples_end(moof: bytes, *, start: int) -> int | None:
    """Where in the file the last sample ends that a fragment lists; None where the fragment alone doesn't say it.

    Args:
        moof: the whole box.
        start: its place in the file.
    """
    end: int | None = None
    for kind, track in _boxes(moof[8:]):
        if kind != b"traf":
            continue
        base, place, default = start, start, None
        for name, body in _boxes(track):
            flags = int.from_bytes(body[1:4], "big")
            if name == b"tfhd":
                at = 8
                if flags & 0x1:
                    place, at = int.from_bytes(body[at : at + 8], "big"), at + 8
                elif not flags & 0x20000 and end is not None:
                    place = end  # behind the samples of the track before
                at += _WIDE * (bool(flags & 0x2) + bool(flags & 0x8))
                default = _number(body, at) if flags & 0x10 else None
                base = place
            elif name == b"trun":
                if flags & 0x1:
                    place = base + int.from_bytes(body[8:12], "big", signed=True)
                length = _run_length(body, flags=flags, default=default)
                if length is None:
                    return None
                place += length
                end = place if end is None else max(end, place)
    return end


def _run_length(body: bytes, *, flags: int, default: int | None) -> int | None:
    """Bytes of the samples of a run."""
    count = _number(body, 4)
    if not flags & 0x200:
        return None if default is None else count * default
    first = 8 + _WIDE * (bool(flags & 0x1) + bool(flags & 0x4))
    step = _WIDE * sum(bool(flags & field) for field in (0x100, 0x200, 0x400, 0x800))
    if first + step * count > len(body):
        return None
    sizes = first + _WIDE * bool(flags & 0x100)
    return sum(_number(body, sizes + step * number) for number in range(count))


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each."""
    at = 0
    while at + 8 <= len(data):
        size = _number(data, at)
        if size < 8:
            return
        yield data[at + 4 : at + 8], data[at + 8 : at + size]
        at += size


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + _WIDE], "big")
