"""Mutations of a model's folder. Each takes a random source and the files by name, and gives the name and bytes of one."""

from __future__ import annotations

import json
import random
import struct

from tests.fuzz.odd import ODD_NUMBERS, ODD_VALUES, flip


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
