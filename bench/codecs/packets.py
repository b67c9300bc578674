"""What of an encoder's packets counts: everything a decoder needs, and nothing that is only talk.

x264 writes its settings as text into the first picture (about 700 bytes, half a clip at low rates), and AV1 temporal
units begin with a delimiter that files leave out. Both are taken away before bytes are counted and before decoding,
so what is counted is what was decoded.
"""

from __future__ import annotations

import re

_START = re.compile(rb"\x00\x00\x00?\x01")
_H264_SEI = 6
_HEVC_SEI = (39, 40)
_VVC_TALK = (20, 23, 24)
"""Delimiters, and SEI."""


def without_comments(data: bytes, *, codec: str) -> bytes:
    """A packet, or the headers beside the packets, without supplemental information. ``codec``: h264, hevc, vvc, av1, vp9."""
    if codec == "av1":
        return data.removeprefix(b"\x12\x00")
    if codec == "vp9":
        return data
    starts = list(_START.finditer(data))
    if not starts or starts[0].start() != 0:
        return data  # not in Annex B form
    ends = [match.start() for match in starts[1:]] + [len(data)]
    units = [
        (data[match.start() : end], data[match.end() : match.end() + 2])
        for match, end in zip(starts, ends, strict=True)
    ]
    return b"".join(unit for unit, header in units if not _is_talk(header, codec=codec))


def _is_talk(header: bytes, *, codec: str) -> bool:
    """Whether a unit with these two bytes of header decodes to nothing."""
    if codec == "vvc":
        return header[1] >> 3 in _VVC_TALK
    return (header[0] & 31) == _H264_SEI if codec == "h264" else (header[0] >> 1) & 63 in _HEVC_SEI
