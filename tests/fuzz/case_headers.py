"""Mutations of what a file says of itself: times, headers, and claims of much in few bytes."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from PIL import Image

from tests.fuzz.case_payloads import picture
from tests.fuzz.odd import ODD_NUMBERS, ODD_VALUES, change, flip, numbers
from tests.fuzz.records import (
    HEADER_KEYS,
    INDEX,
    PICTURE,
    TIMES,
    Pieces,
    deflate,
    head,
    varint,
)


def odd_times(rng: random.Random, files: Sequence[Pieces]) -> bytes:
    """Times of any number, direction and size, and bombs."""
    pieces = rng.choice(files)
    records = list(pieces.records)
    for number in range(rng.randint(1, 4)):
        deltas = b"".join(varint(rng.choice(ODD_NUMBERS)) for _ in range(rng.choice((0, 1, 5, 16, 17, 40))))
        data = rng.choice(
            (zlib.compress(deltas), zlib.compress(bytes(1 << 20), 9), deltas, flip(rng, zlib.compress(deltas)))
        )
        records.append((TIMES, varint(rng.choice((number, 0, 99))) + data))
    return replace(pieces.say(frame_duration=rng.choice((0, 1))), records=tuple(records)).join()


def clocks(rng: random.Random, files: Sequence[Pieces]) -> bytes:
    """Ticks, rates, shapes of pixels and ends that are allowed, and that nobody uses."""
    top = (1 << 31) - 1
    fractions = [[1, top], [top, 1], [1, 1], [top, top - 1], [1, 90000], [3, 7], [1, 1 << 20]]
    said: dict[str, Any] = {}
    for name in ("time_base", "rate", "sample_aspect_ratio"):
        if rng.random() < 0.5:
            said[name] = rng.choice(fractions)
    if rng.random() < 0.6:
        said["frame_duration"] = rng.choice((0, 1, 2, 1001, 1 << 20, (1 << 40) - 1))
    if rng.random() < 0.4:
        said["start"] = rng.choice((-(1 << 60), -1, 1, 1 << 33, (1 << 60) - 1, 1 << 60))
    pieces = rng.choice(files).say(**said)

    def how(kind: int, payload: bytes) -> bytes:
        found, _ = numbers(payload, 2)
        return b"".join(map(varint, [*found, rng.choice(ODD_NUMBERS)]))

    return (change(rng, pieces, (INDEX,), how) if rng.random() < 0.5 else pieces).join()


def headers(rng: random.Random, files: Sequence[Pieces]) -> bytes:
    """JSON with odd values, or none at all."""
    pieces = rng.choice(files)
    if rng.random() < 0.6:
        return pieces.say(**{rng.choice(HEADER_KEYS): rng.choice(ODD_VALUES) for _ in range(rng.randint(1, 2))}).join()
    text = rng.choice((
        b"[" * 60_000, b"{" * 60_000, b'{"a":' * 10_000, b"9" * 60_000, b"null", b"[]", b'"', b"", b"\xff\xfe{\0}\0",
        pieces.header[:-2], flip(rng, pieces.header), pieces.header.decode(errors="replace").encode("utf-16"),
        b" " * 70_000 + pieces.header, pieces.header.replace(b"96", b"96e0"),
        b'{"width":' + b"1" * 5000 + b"}",
    ))  # fmt: skip
    packed = deflate(text)
    packed = flip(rng, packed) if rng.random() < 0.2 else packed
    return head(packed) + pieces.join()[len(replace(pieces, records=()).join()) :]


def bombs(rng: random.Random, files: Sequence[Pieces]) -> bytes:
    """Little that inflates to much: headers, times, pictures."""
    pieces = rng.choice(files)
    match rng.randrange(3):
        case 0:
            return head(deflate(b'{"model":"' + b"a" * rng.choice((66_000, 1 << 24)) + b'"}')) + pieces.join()[40:]
        case 1:
            bomb = TIMES, varint(rng.randrange(3)) + zlib.compress(bytes(1 << 24), 9)
            return replace(pieces, records=(bomb, *pieces.records)).join()
        case _:
            chunk = zlib.compress(bytes(1 << 24), 9)
            png = picture(random.Random(0), 96, 64) if rng.random() < 0.3 else _png(chunk)
            made = change(rng, pieces, (PICTURE,), lambda kind, payload: payload[: numbers(payload, 2)[1]] + png)
            return made.say(keyframe_codec="png").join()


def _png(pixels: bytes) -> bytes:
    """A PNG of 96x64 whose pixels and texts inflate to 16 MB each."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", 96, 64, 8, 2, 0, 0, 0)
    text = b"a\0\0" + pixels
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*part) for part in ((b"IHDR", size), (b"zTXt", text), (b"iCCP", text), (b"IDAT", pixels), (b"IEND", b""))
    )


def claims(rng: random.Random, files: Sequence[Pieces]) -> bytes:
    """Huge pictures, latents and videos in a few bytes."""
    pieces = rng.choice(files)
    width, height = rng.choice(((16384, 16384), (16384, 1), (1, 16384), (4096, 4096), (97, 64), (32, 32)))
    pieces = pieces.say(width=width, height=height)
    if rng.random() < 0.5:  # pictures that claim it, too, and hold nothing
        coded, name = _huge(
            rng, width, height, kinds=("png", "jpeg") if width * height > 1 << 24 else ("png", "jpeg", "webp")
        )
        pieces = change(rng, pieces, (PICTURE,), lambda kind, payload: payload[: numbers(payload, 2)[1]] + coded)
        pieces = pieces.say(keyframe_codec=name)
    if rng.random() < 0.5:
        lost = [(kind, payload) for kind, payload in pieces.records if kind != PICTURE]
        pieces = replace(pieces, records=tuple(lost))
    return pieces.join()


def _huge(rng: random.Random, width: int, height: int, *, kinds: Sequence[str]) -> tuple[bytes, str]:
    """The beginning of a picture that claims so many pixels; of WebP a canvas, which can be shown."""
    name = rng.choice(kinds)
    out = io.BytesIO()
    Image.new("RGB", (16, 16)).save(out, name.upper(), lossless=rng.random() < 0.5)
    data = bytearray(out.getvalue())
    if name == "png":
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif name == "jpeg":
        place = data.index(b"\xff\xc0") + 5
        data[place : place + 4] = struct.pack(">HH", height, width)
    else:  # an extended header with a canvas, before what there is
        body = (
            b"VP8X" + struct.pack("<IB3x", 10, 0) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
        )
        data = bytearray(
            b"RIFF" + struct.pack("<I", 4 + len(body) + len(data) - 12) + b"WEBP" + body + bytes(data[12:])
        )
    return bytes(data), name
