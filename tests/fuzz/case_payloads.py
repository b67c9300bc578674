"""Mutations of what records hold: pictures, latents, sound."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence

from PIL import Image

from reducio_codec.rdc.varint import read_varint
from tests.fuzz.odd import ODD_NUMBERS, change, flip, numbers
from tests.fuzz.records import (
    AUDIO,
    LATENT,
    PICTURE,
    Pieces,
    varint,
)


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
