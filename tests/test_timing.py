"""Frame times survive exactly, and a constant rate needs no bytes."""

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reducio_codec.errors import FormatError
from reducio_codec.timing import Clock, fit_clock, pack_times, unpack_times


@given(times=st.sets(st.integers(-(2**40), 2**40), min_size=1, max_size=16), start=st.integers(-99, 99))
@settings(max_examples=60, deadline=None)
def test_any_times(times: set[int], start: int) -> None:
    ordered = sorted(times)
    guesses = Clock(start=start, step=Fraction(1001, 7)).range(3, len(ordered))
    packed = pack_times(ordered, guesses)
    assert (unpack_times(packed, guesses) if packed else guesses) == ordered


@pytest.mark.parametrize(
    ("time_base", "rate"),
    [
        (Fraction(1, 16), Fraction(16)),
        (Fraction(1, 90000), Fraction(30000, 1001)),
        (Fraction(1, 12800), Fraction(25)),
        (Fraction(1, 1000), Fraction(24000, 1001)),  # Matroska: 0, 42, 83, 125 ms
    ],
)
def test_constant_rate_costs_nothing(time_base: Fraction, rate: Fraction) -> None:
    times = [math.floor(frame / rate / time_base + Fraction(1, 2)) for frame in range(10_000)]
    clock = fit_clock(times[:16], time_base=time_base, rate=rate)
    assert pack_times(times, clock.range(0, len(times))) == b""


def test_a_wrong_rate_in_the_header_is_overruled() -> None:
    times = [100 + 40 * frame for frame in range(16)]
    clock = fit_clock(times, time_base=Fraction(1, 1000), rate=Fraction(24))
    assert clock.range(0, 16) == times


def test_variable_rate_is_small() -> None:
    times = [40 * frame + (frame * 7919) % 30 for frame in range(16)]
    clock = fit_clock(times, time_base=Fraction(1, 1000), rate=Fraction(25))
    assert len(pack_times(times, clock.range(0, 16))) == 16


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x01\x02\x03", b"\x01\x80", b"\xff" * 30, b"\x00\x63"])
def test_damage_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError, match="frame times"):
        unpack_times(data, [10, 20])
