"""Mutations of small real files. Each takes a random source and files in pieces, and gives the bytes of a new one."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from reducio_codec.errors import FormatError
from tests.fuzz.case_headers import bombs, claims, clocks, headers, odd_times
from tests.fuzz.case_payloads import latents, pictures, sound
from tests.fuzz.case_records import lying_counts, lying_lengths, mixed, odd_latent, odd_numbers, odd_order, raw_bytes
from tests.fuzz.records import (
    Pieces,
)

Mutation = Callable[[random.Random, Sequence[Pieces]], bytes]


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
