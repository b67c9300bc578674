"""Mutations of small real files. Each takes a random source and files in pieces, and gives the bytes of a new one."""

from __future__ import annotations

import io
import json
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from PIL import Image

from reducio_codec.errors import FormatError
from reducio_codec.rdc.records import pack_record
from reducio_codec.rdc.varint import read_varint
from tests.fuzz.records import (
    AUDIO,
    CUT,
    HEADER_KEYS,
    INDEX,
    LATENT,
    NUMBERS,
    PICTURE,
    TIMES,
    Pieces,
    deflate,
    head,
    varint,
)

Mutation = Callable[[random.Random, Sequence[Pieces]], bytes]

ODD_NUMBERS = (
    0, 1, 2, 5, 15, 16, 17, 127, 128, 254, 255, 256, 1023, 16383, 16384, 16385, (1 << 16) - 1, 1 << 28, (1 << 31) - 1, 1 << 31,
    1 << 32, 1 << 40, 1 << 60, (1 << 60) + 1, (1 << 63) - 1,
)  # fmt: skip
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 3, 16, 17, 4096, 16384, 16385, 1 << 31, (1 << 31) - 1, -(1 << 60), 1 << 60, 1 << 64,
    10**400, 0.5, 1e308, float("nan"), float("inf"), "", "a", "avif", "png", "jpeg", "webp", "bt709", "\u0000", "\ud800",
    "x" * 60_000, "é" * 257, [], {}, [0, 0], [1, 0], [0, 1], [1, 1], [-1, 1], [1, 1 << 31], [(1 << 31) - 1, 1],
    [1, (1 << 31) - 1], [16, 4], [16, 5], [65536, 16], [1, 2, 3], ["1", "2"], [[1], [2]], {"a": 1},
)  # fmt: skip


def flip(rng: random.Random, data: bytes, *, most: int = 4) -> bytes:
    """Bits turned, bytes put in, left out or repeated, the end cut."""
    out = bytearray(data)
    for _ in range(rng.randint(1, most)):
        place = rng.randrange(len(out) + 1)
        match rng.randrange(6):
            case 0 | 1 if place < len(out):
                out[place] ^= 1 << rng.randrange(8)
            case 2 if place < len(out):
                out[place] = rng.choice((0, 1, 127, 128, 255))
            case 3:
                out[place:place] = rng.randbytes(rng.randint(1, 5))
            case 4:
                del out[place : place + rng.randint(1, 9)]
            case _:
                if rng.random() < 0.3:
                    del out[place:]
                else:
                    out[place:place] = out[place : place + rng.randint(1, 40)]
    return bytes(out)


def numbers(payload: bytes, count: int) -> tuple[list[int], int]:
    """The varints that a payload begins with, and where they end."""
    found, place = [], 0
    try:
        while len(found) < count:
            value, place = read_varint(payload, place)
            found.append(value)
    except FormatError:
        pass
    return found, place


def change(rng: random.Random, pieces: Pieces, kinds: Sequence[int], how: Callable[[int, bytes], bytes]) -> Pieces:
    """Some records of these kinds, made anew."""
    records = list(pieces.records)
    places = [i for i, (kind, _) in enumerate(records) if kind in kinds]
    for place in rng.sample(places, min(len(places), rng.randint(1, 3))):
        kind, payload = records[place]
        records[place] = kind, how(kind, payload)
    return replace(pieces, records=tuple(records))


def odd_numbers(rng: random.Random, files: Sequence[Pieces]) -> bytes:
    """Varints at their limits where a record's fields are."""

    def how(kind: int, payload: bytes) -> bytes:
        found, place = numbers(payload, NUMBERS.get(kind, 1))
        for i in range(len(found)):
            if rng.random() < 0.6:
                found[i] = rng.choice((rng.choice(ODD_NUMBERS), max(0, found[i] + rng.randint(-3, 3))))
        rest = payload[place:] if rng.random() < 0.8 else b"\xff" * rng.randint(0, 12)
        return b"".join(map(varint, found)) + rest

    return change(rng, rng.choice(files), tuple(NUMBERS), how).join()


def odd_latent(rng: random.Random, files: Sequence[Pieces]) -> bytes:
    """Flags and what they announce."""

    def how(kind: int, payload: bytes) -> bytes:
        found, place = numbers(payload, 1)
        flags, said = rng.randrange(256), bytearray()
        if flags & 16:
            said += varint(rng.choice((16, 15, 16384, 16385, 512, rng.choice(ODD_NUMBERS))))
        if flags & 32:
            said += varint(rng.choice((0, 1, 2, 33, rng.choice(ODD_NUMBERS))))
        if flags & 64:
            said.append(rng.randrange(18))
        if flags & 128:
            said += varint(rng.choice((0, 1, 2, 16, 17)))
        return b"".join(map(varint, found)) + bytes([flags]) + bytes(said) + payload[place + 1 :]

    return change(rng, rng.choice(files), (LATENT,), how).join()


def odd_order(rng: random.Random, files: Sequence[Pieces]) -> bytes:
    """Records in any order, repeated, left out, of kinds that there aren't."""
    pieces = rng.choice(files)
    records = list(pieces.records)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(records)) if records else 0
        match rng.randrange(5):
            case 0:
                rng.shuffle(records)
            case 1 if records:
                records[place:place] = records[place : place + rng.randint(1, 3)] * rng.randint(1, 30)
            case 2:
                del records[place : place + rng.randint(1, 3)]
            case 3 if records:
                records[place] = rng.randrange(256), records[place][1]
            case _:
                records.insert(place, (rng.randrange(256), rng.randbytes(rng.randrange(20))))
    return replace(pieces, records=tuple(records)).join()


def lying_counts(rng: random.Random, files: Sequence[Pieces]) -> bytes:
    """An index of other clips and frames, and clips moved."""
    pieces = rng.choice(files)
    clips = sum(kind == LATENT for kind, _ in pieces.records)
    said = [max(0, clips + rng.randint(-2, 40)), rng.choice((16 * clips, rng.randrange(700), rng.choice(ODD_NUMBERS)))]
    if rng.random() < 0.5:
        said.append(rng.choice(ODD_NUMBERS))
    records = [(kind, payload) for kind, payload in pieces.records if kind != INDEX]
    index = INDEX, b"".join(map(varint, said))
    step = rng.randint(1, 3)

    def how(kind: int, payload: bytes) -> bytes:
        found, place = numbers(payload, 1)
        return b"".join(varint(number * step) for number in found) + payload[place:]

    moved = [(kind, how(kind, payload) if kind in (LATENT, TIMES, CUT) else payload) for kind, payload in records]
    return replace(pieces, records=(*(moved if rng.random() < 0.4 else records), index)).join()


def lying_lengths(rng: random.Random, files: Sequence[Pieces]) -> bytes:
    """Heads whose check agrees and whose length doesn't."""
    pieces = rng.choice(files)
    out = bytearray(replace(pieces, records=()).join())
    for kind, payload in pieces.records:
        if rng.random() < 0.3:
            claimed = rng.choice((0, len(payload) + rng.randint(-5, 50), (1 << 28) - 1, 1 << 28, 1 << 50))
            start = bytes([kind]) + varint(max(0, claimed))
            sum_ = zlib.crc32(payload[:claimed]) if rng.random() < 0.5 else rng.getrandbits(32)
            out += start + struct.pack("<HI", zlib.crc32(start) & 0xFFFF, sum_) + payload
        else:
            out += pack_record(kind, payload)
    return bytes(out)


def pictures(rng: random.Random, files: Sequence[Pieces]) -> bytes:
    """Pictures cut, flipped, emptied, exchanged: what a picture's decoder gets."""
    pieces = rng.choice(files)
    coded = [payload[numbers(payload, 2)[1] :] for file in files for kind, payload in file.records if kind == PICTURE]

    def how(kind: int, payload: bytes) -> bytes:
        place = numbers(payload, 2)[1]
        data = payload[place:]
        data = rng.choice((
            lambda: flip(rng, data, most=8), lambda: data[: rng.randrange(len(data) + 1)], lambda: rng.choice(coded),
            lambda: data + rng.choice(coded), lambda: units(rng, data), lambda: rng.randbytes(len(data)),
            lambda: picture(rng, rng.choice((1, 96, 3000)), rng.choice((1, 64, 2000))),
        ))()  # fmt: skip
        return payload[:place] + data

    pieces = change(rng, pieces, (PICTURE,), how)
    return (
        pieces.say(keyframe_codec=rng.choice(("png", "jpeg", "webp", "avif"))) if rng.random() < 0.2 else pieces
    ).join()


def units(rng: random.Random, data: bytes) -> bytes:
    """AV1 units reordered, repeated, retyped; their sequence header's bits turned."""
    found, place = [], 0
    while place < len(data):
        size, after = read_varint(data, place + 1) if len(data) > place + 1 and data[place + 1 :][:9] else (0, 0)
        after = after or len(data)
        found.append([data[place], data[after : after + size]])
        place = after + size
    for _ in range(rng.randint(1, 3)):
        which = rng.randrange(len(found)) if found else 0
        match rng.randrange(5):
            case 0:
                rng.shuffle(found)
            case 1 if found:
                found[which:which] = [list(unit) for unit in found[which : which + 1] * rng.randint(1, 20)]
            case 2 if found:
                found[which][0] = rng.randrange(16) << 3 | rng.choice((2, 0, 6, 4))
            case 3 if found:
                found[which][1] = flip(rng, bytes(found[which][1][:12])) + bytes(found[which][1][12:])
            case _:
                found.insert(which, [rng.randrange(16) << 3 | 2, rng.randbytes(rng.randrange(12))])
    return b"".join(bytes([kind]) + varint(len(unit)) + unit for kind, unit in found)


def picture(rng: random.Random, width: int, height: int) -> bytes:
    """A sound picture of one colour, of a size that may be another than the file's."""
    out = io.BytesIO()
    Image.new("RGB", (width, height), (rng.randrange(256), 9, 9)).save(out, rng.choice(("PNG", "JPEG", "WEBP")))
    return out.getvalue()


def latents(rng: random.Random, files: Sequence[Pieces]) -> bytes:
    """What the range decoder gets."""

    def how(kind: int, payload: bytes) -> bytes:
        place = numbers(payload, 1)[1] + 1
        data = payload[place:]
        if rng.random() < 0.3:
            data = varint(rng.choice((0, 1, len(data), rng.choice(ODD_NUMBERS)))) + rng.randbytes(rng.randrange(200))
        return payload[:place] + flip(rng, data)

    return change(rng, rng.choice(files), (LATENT,), how).join()


def sound(rng: random.Random, files: Sequence[Pieces]) -> bytes:
    """A damaged Matroska file, in pieces."""
    having = [file for file in files if any(kind == AUDIO for kind, _ in file.records)] or files
    pieces = change(
        rng, rng.choice(having), (AUDIO,), lambda kind, payload: payload[:1] + flip(rng, payload[1:], most=12)
    )
    return pieces.join()


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


def mixed(rng: random.Random, files: Sequence[Pieces]) -> bytes:
    """Records of two files under one header."""
    one, two = rng.sample(list(files), 2) if len(files) > 1 else (files[0], files[0])
    records = [*one.records, *two.records]
    if rng.random() < 0.7:
        records = [record for record in records if rng.random() < 0.6]
    if rng.random() < 0.5:
        rng.shuffle(records)
    return replace(one, records=tuple(records)).join()


def raw_bytes(rng: random.Random, files: Sequence[Pieces]) -> bytes:
    """Bytes of the file turned, cut, repeated: checksums don't agree."""
    data = rng.choice(files).join()
    if rng.random() < 0.2:
        return data + data[rng.randrange(len(data)) :] if rng.random() < 0.5 else data[: rng.randrange(len(data))]
    return flip(rng, data, most=rng.choice((1, 4, 40)))


def both(rng: random.Random, files: Sequence[Pieces]) -> bytes:
    """A mutated file, mutated again."""
    first = rng.choice(GENTLE)(rng, files)
    try:
        return rng.choice(GENTLE)(rng, [Pieces.of(first)])
    except (FormatError, ValueError, IndexError, KeyError):  # there was nothing left to change
        return first


GENTLE: tuple[Mutation, ...] = (
    clocks,
    odd_numbers,
    odd_latent,
    odd_order,
    lying_counts,
    pictures,
    latents,
    odd_times,
    sound,
)
MUTATIONS: dict[str, Mutation] = {
    make.__name__: make for make in (*GENTLE, lying_lengths, headers, bombs, claims, mixed, raw_bytes, both)
}


# ------------------------------------------------------------------ models


def tables(rng: random.Random, folder: dict[str, bytes]) -> tuple[str, bytes]:
    """entropy.json with odd values."""
    return "entropy.json", _odd_json(rng, folder["entropy.json"])


def configs(rng: random.Random, folder: dict[str, bytes]) -> tuple[str, bytes]:
    """config.json with odd values."""
    return "config.json", _odd_json(rng, folder["config.json"])


def tensors(rng: random.Random, folder: dict[str, bytes]) -> tuple[str, bytes]:
    """model.safetensors: its head's text and length, cut and flipped."""
    data = folder["model.safetensors"]
    (size,) = struct.unpack_from("<Q", data)
    text, rest = data[8 : 8 + size], data[8 + size :]
    match rng.randrange(5):
        case 0:
            text = flip(rng, text)
        case 4:  # numbers of another kind, as many bytes each
            for one, other in (
                (("F16", "I16"), ("F32", "I32"), ("BF16", "U16")) if rng.random() < 0.7 else (("F16", "BF16"),)
            ):
                text = text.replace(f'"{one}"'.encode(), f'"{other}"'.encode(), rng.choice((1, -1)))
        case 1:
            document = json.loads(text)
            key = rng.choice(list(document))
            document[key] = rng.choice(
                (rng.choice(ODD_VALUES), {"dtype": "F64", "shape": [1 << 40], "data_offsets": [0, 8]})
            )
            text = json.dumps(document).encode()
        case 2:
            rest = rest[: rng.randrange(len(rest))]
        case _:
            return "model.safetensors", struct.pack("<Q", rng.choice(ODD_NUMBERS)) + text + rest
    return "model.safetensors", struct.pack("<Q", len(text)) + text + rest


def _odd_json(rng: random.Random, data: bytes) -> bytes:
    if rng.random() < 0.25:
        return rng.choice(
            (b"[" * 100_000, b'{"a":' * 100_000, b"9" * 100_000, b"", b"null", b"[1]", b"\xff", flip(rng, data))
        )
    document = json.loads(data)
    for _ in range(rng.randint(1, 2)):
        inside, key = document, rng.choice(list(document))
        while isinstance(inside[key], list) and inside[key] and rng.random() < 0.7:
            inside, key = inside[key], rng.randrange(len(inside[key]))
        inside[key] = rng.choice(ODD_VALUES)
        if isinstance(inside, list) and rng.random() < 0.2:
            del inside[key]
    return json.dumps(document).encode()


MODEL_MUTATIONS = {make.__name__: make for make in (tables, configs, tensors)}
