"""A constant rate is recognised, in whole and in fractional ticks, and a wrong one in the header is not believed."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from reducio_codec.errors import FormatError
from reducio_codec.rdc.header import RdcHeader
from reducio_codec.rdc.timing import Clock, fit_clock, mean_rate, near_rate

TOP = (1 << 31) - 1


@pytest.mark.parametrize(
    ("time_base", "rate"),
    [
        (Fraction(1, 16), Fraction(16)),
        (Fraction(1, 90000), Fraction(30000, 1001)),
        (Fraction(1, 12800), Fraction(25)),
        (Fraction(1, 1000), Fraction(24000, 1001)),  # Matroska: 0, 42, 83, 125 ms
    ],
)
def test_constant_rate(time_base: Fraction, rate: Fraction) -> None:
    times = [5 + math.floor(frame / rate / time_base + Fraction(1, 2)) for frame in range(10_000)]
    clock = fit_clock(times[:16], time_base=time_base, rate=rate)
    assert clock is not None and clock.times(0, len(times)) == times
    assert clock.times(160, 16) == times[160:176]


def test_a_wrong_rate_in_the_header_is_overruled() -> None:
    times = [100 + 40 * frame for frame in range(16)]
    assert fit_clock(times, time_base=Fraction(1, 1000), rate=Fraction(24)) == Clock(start=100, step=Fraction(40))


@pytest.mark.parametrize(
    ("frames", "seconds", "nominal"),
    [
        (
            100_001,
            Fraction(99_999_999, 3_000_000_017),
            Fraction(16),
        ),  # a fast camera's ticks of a third of a nanosecond
        (7, Fraction(1, 99_991), Fraction(1, 3)),
        (1, Fraction(4_294_967_294_001, 1000), Fraction(25)),  # 136 years
        (3, Fraction(10**12, 7), Fraction(25)),
        (16, Fraction(16 * 1001, 30000), Fraction(30000, 1001)),
    ],
)
def test_a_mean_rate_is_a_fraction_that_players_can_hold(frames: int, seconds: Fraction, nominal: Fraction) -> None:
    rate = mean_rate(frames, seconds=seconds, time_base=Fraction(1, 1 << 31), nominal=nominal)
    assert abs(rate / (frames / seconds) - 1) < 1e-4
    if (1 << 31) > frames / seconds > Fraction(1, 1 << 31):
        assert max(rate.numerator, rate.denominator) < 1 << 31


def test_variable_and_single() -> None:
    assert fit_clock([0, 40, 90, 91], time_base=Fraction(1, 1000), rate=Fraction(25)) is None
    clock = fit_clock([7], time_base=Fraction(1, 1000), rate=Fraction(25))
    assert clock is not None and clock.times(0, 2) == [7, 47]


@given(
    frames=st.integers(1, 1 << 30),
    ticks=st.integers(1, 1 << 61),
    base=st.fractions(Fraction(1, TOP), TOP, max_denominator=TOP),
    nominal=st.fractions(Fraction(1, TOP), TOP, max_denominator=TOP),
)
def test_a_rate_has_two_numbers_of_31_bits(frames: int, ticks: int, base: Fraction, nominal: Fraction) -> None:
    seconds = ticks * base
    assume(TOP * frames / seconds >= 1 and frames / seconds <= TOP)
    for rate in (near_rate(frames / seconds), mean_rate(frames, seconds=seconds, time_base=base, nominal=nominal)):
        assert 1 <= rate.numerator <= TOP and 1 <= rate.denominator <= TOP


@pytest.mark.parametrize("name", ["time_base", "rate", "sample_aspect_ratio"])
def test_a_header_that_could_not_be_read_is_not_written(name: str) -> None:
    header = RdcHeader(model="a", latent_space="b", width=1, height=1, time_base=Fraction(1), step=512)
    for value in (Fraction(1 << 32, 3), Fraction(3, 1 << 32), Fraction(1 << 31)):
        with pytest.raises(FormatError, match=name):
            replace(header, **{name: value})
    for value in (Fraction(TOP, TOP - 1), Fraction(1, TOP), Fraction(TOP)):
        assert RdcHeader.unpack(replace(header, **{name: value}).pack()) == replace(header, **{name: value})
