"""Symbols come back exactly, whatever they are, and damage ends in an error of ours or in other symbols."""

import contextlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reducio_codec.errors import FormatError, InputError, WeightsError
from reducio_codec.rdc.entropy import LARGEST_MAGNITUDE, LatentCoder
from reducio_codec.rdc.fit import fit_tables
from reducio_codec.rdc.tables import FREQUENCY_TOTAL, LADDER, LatentTables, frequencies
from reducio_codec.rdc.varint import read_varint, write_varint

CODER = LatentCoder(LatentTables.default(16))


def latents(seed: int, count: int = 1) -> list[np.ndarray]:
    """Some places still, some moving, smooth in space: what motion looks like."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        scale = np.exp(rng.normal(-1, 1, (1, 1, 4, 4))).repeat(2, 2).repeat(2, 3)
        found.append(((rng.laplace(size=(16, 4, 8, 8)) + rng.laplace(size=(16, 4, 1, 1))) * scale).astype(np.float32))
    return found


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)),
    spread=st.sampled_from([0.0, 0.3, 2.0, 300.0, 1e6]),
    step=st.sampled_from([1 / 64, 0.25, 0.5, 1.0, 16.0]),
)
def test_symbols_come_back(seed: int, shape: tuple[int, int, int], spread: float, step: float) -> None:
    rng = np.random.default_rng(seed)
    symbols = np.rint(rng.laplace(size=(16, *shape)) * spread).clip(-LARGEST_MAGNITUDE, LARGEST_MAGNITUDE)
    symbols = symbols.astype(np.int32)
    data = CODER.encode(symbols, step=step)
    assert np.array_equal(CODER.decode(data, symbols.shape, step=step), symbols)


def test_quantiser_is_off_by_half_a_step_at_most() -> None:
    latent = latents(1)[0]
    for step in (0.1, 0.5, 2.0):
        again = CODER.dequantize(CODER.quantize(latent, step=step), step=step)
        assert np.abs(again - latent).max() <= step / 2 + 1e-3


def test_length_is_near_the_ideal() -> None:
    symbols = CODER.quantize(latents(2)[0], step=0.5)
    bits = 8 * len(CODER.encode(symbols, step=0.5))
    assert CODER.estimate_bits(symbols, step=0.5) <= bits < 1.05 * CODER.estimate_bits(symbols, step=0.5) + 200


def test_fitting_helps_on_other_latents() -> None:
    fitted = LatentCoder(fit_tables(latents(3, 6), steps=(0.5,)))
    symbols = [CODER.quantize(latent, step=0.5) for latent in latents(4, 3)]
    before, after = (sum(len(coder.encode(s, step=0.5)) for s in symbols) for coder in (CODER, fitted))
    assert after < before


def test_a_still_clip_costs_next_to_nothing() -> None:
    assert len(CODER.encode(np.zeros((16, 4, 8, 8), np.int32), step=0.5)) < 40


@pytest.mark.parametrize("scale", LADDER)
@pytest.mark.parametrize("step", [1, 16, 512, 16384])
def test_frequencies_are_whole_symmetric_and_complete(scale: int, step: int) -> None:
    counted = frequencies(scale, step)
    assert counted.sum() == FREQUENCY_TOTAL
    assert counted.min() >= 1
    assert np.array_equal(counted[:-1], counted[:-1][::-1])


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_end_in_symbols_or_our_error(data: bytes) -> None:
    with contextlib.suppress(FormatError):
        CODER.decode(data, (16, 4, 3, 3), step=0.5)


def test_truncation_and_flips_never_crash() -> None:
    symbols = CODER.quantize(latents(5)[0] * 50, step=0.5)
    data = CODER.encode(symbols, step=0.5)
    for place in range(0, len(data), len(data) // 40):
        for damaged in (data[:place], data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :]):
            with contextlib.suppress(FormatError):
                CODER.decode(damaged, symbols.shape, step=0.5)


def test_refuses_what_it_cannot_code() -> None:
    with pytest.raises(InputError, match="isn't finite"):
        CODER.quantize(np.full((16, 4, 1, 1), np.nan, np.float32), step=0.5)
    with pytest.raises(InputError, match=r"allowed: \(16, t, h, w\)"):
        CODER.quantize(np.zeros((8, 4, 1, 1), np.float32), step=0.5)
    with pytest.raises(InputError, match="too large"):
        CODER.quantize(np.full((16, 4, 1, 1), 1e9, np.float32), step=0.5)
    with pytest.raises(InputError, match=r"latent_step is 0; allowed: 0.015625 to 16"):
        CODER.quantize(np.zeros((16, 4, 1, 1), np.float32), step=0)


def test_tables_travel_as_json() -> None:
    tables = fit_tables(latents(6, 2), multipliers=[0.1] * 16, steps=(0.5,))
    assert LatentTables.from_json(json.loads(json.dumps(tables.to_json()))) == tables
    with pytest.raises(WeightsError):
        LatentTables.from_json({**tables.to_json(), "follow": [[9] * 3] * 16})
    with pytest.raises(WeightsError):
        LatentTables.from_json({**tables.to_json(), "weights": [[[[4097, 0, 0]] * 5] * 4] * 16})
    with pytest.raises(WeightsError):
        LatentTables.from_json({"new": 1})


@given(value=st.integers(0, 2**62))
def test_varint(value: int) -> None:
    out = bytearray()
    write_varint(out, value)
    assert read_varint(bytes(out), 0) == (value, len(out))
