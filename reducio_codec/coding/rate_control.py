"""Files of a wanted rate or quality: what groups of clips are coded with (``target_kbps``, ``target_psnr``, ``target_lpips``).

The clips of a group, whose key frames are coded together, get one quality, and ``latent_step`` follows from it, so one number is
looked for. What it gives is foretold, as for the choice of key frames, then the group is coded and what was foretold corrected
by what came out, a few times. Errors are those of what a reader will see, so that what is promised holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from math import log10
from typing import Protocol

import numpy as np

from reducio_codec.coding.group import CodedGroup, GroupCoder
from reducio_codec.coding.keyframes import BEST_QUALITY, Foretold, Plan
from reducio_codec.coding.options import EncodeOptions
from reducio_codec.coding.search import Law, Search, Setting

_CODINGS = 6
"""How often a group is coded, at most."""
_PLENTY = 70
"""Quality above which bits are only spent where that is worth it."""
_WORTH = 0.01
"""Part of its error that a group has to lose for the bits of a higher quality to be spent: 0.04 dB."""
_RATE_TOLERANCE, _ERROR_TOLERANCE = 0.05, 10**0.02 - 1
"""So close to what is wanted is a hit: 5% of a rate, 0.2 dB of PSNR, as much of LPIPS."""
_LARGEST_DEBT = 4
"""A group may cost so many times its share, or that much less: what earlier ones saved or overspent."""
_LEAST = 1e-6
"""Errors below this are none."""
_LPIPS_OF_ERROR = Law(0.0065, 0.7)
"""From a mean squared error, about: where a search begins."""


def step_for(quality: int) -> float:
    """The ``latent_step`` that goes with a key-frame quality.

    With it a bit more lowers the error about as much in the key frame as in the latent, and that depends little on what is
    shown: against a search for the best pair it loses 0.02 dB at 45 kbit/s in the mean of 9 real clips, 0.3 dB on one of them.
    """
    return float(2 ** np.interp(quality, (0, 10, 65), (2.0, 0.7, -2.0)))


class Measure(Protocol):
    """How far what a reader sees of a group is from its frames: above 0."""

    def __call__(self, coder: GroupCoder, group: CodedGroup, /) -> float: ...


def squared_error(coder: GroupCoder, group: CodedGroup) -> float:
    """Mean over all frames, in grey levels."""
    errors = [
        np.square(shown.astype(np.int16) - clip.frames, dtype=np.int32).mean((1, 2, 3))
        for clip, shown in zip(group.clips, coder.shown(group), strict=True)
    ]
    return max(float(np.concatenate(errors).mean()), _LEAST)


class LpipsMeasure:
    """Mean LPIPS (AlexNet) over all frames."""

    def __init__(self) -> None:
        from reducio_codec.metrics.lpips import Lpips  # its import takes a second

        self._lpips = Lpips()

    def __call__(self, coder: GroupCoder, group: CodedGroup) -> float:
        found = [self._lpips(clip.frames, shown) for clip, shown in zip(group.clips, coder.shown(group), strict=True)]
        return max(float(np.concatenate(found).mean()), _LEAST)


class RateControl:
    """Chooses for one group of clips after another.

    Args:
        options: with one target.
    """

    def __init__(self, options: EncodeOptions, *, coder: GroupCoder) -> None:
        self._kbps, self._psnr, self._lpips = options.target_kbps, options.target_psnr, options.target_lpips
        self._coder = coder
        self._measure: Measure = squared_error if self._lpips is None else LpipsMeasure()
        self._law: Law | None = None  # of what was foretold, by the last group
        self._saved = 0.0  # bits that earlier groups left over; below 0 what they overspent
        self._short = False  # whether a group is worse than it should be
        self._seconds = self._full = self._error = (
            0.0  # in all; of groups that more bits make no better; times their error
        )

    def choose(
        self,
        plan: Callable[[int], Plan],
        foretell: Callable[[Plan], Foretold],
        code: Callable[[Plan, float], CodedGroup],
        *,
        seconds: float,
    ) -> CodedGroup:
        """A group of clips that lasts ``seconds``, coded.

        Args:
            plan: its clips with the key frames that they have at a quality.
            foretell: what comes of a plan.
            code: as it is written, by a plan and a step.
        """
        planned, rising = cache(plan), self._kbps is not None

        def chosen(setting: Setting) -> Plan:
            return replace(planned(setting.quality), quality=setting.pictures)

        def expected(setting: Setting) -> float:
            found = foretell(chosen(setting))
            return max(found.bits if rising else found.error, _LEAST)

        @cache
        def coded(setting: Setting) -> tuple[float, CodedGroup]:
            plan = chosen(setting)
            group = code(plan, step_for(plan.quality))
            return self._value(group), group

        wanted = self._wanted(seconds)
        search = Search(
            cache(expected),
            planned=lambda quality: (planned(quality).keyframes, planned(quality).quality),
            wanted=wanted,
            rising=rising,
            law=self._law or self._first_law(planned(0)),
        )
        while len(search.tried) < _CODINGS and (setting := search.next()) is not None:
            search.found(setting, coded(setting)[0])
        setting, self._law = search.best, search.law
        setting, full = self._worth(setting, lambda item: coded(item)[1], wanted=wanted)
        value, group = coded(setting)
        self._seconds += seconds
        self._full += seconds * full
        self._error += seconds * value
        self._short |= not rising and value > wanted * (1 + _ERROR_TOLERANCE)
        return group

    def _worth(
        self, setting: Setting, coded: Callable[[Setting], CodedGroup], *, wanted: float
    ) -> tuple[Setting, bool]:
        """The setting, or one of fewer bits that shows as much, and whether more bits would show no more."""
        if min(setting) <= _PLENTY:
            return setting, False
        plenty = Setting(_PLENTY, _PLENTY)
        group, less = coded(setting), coded(plenty)
        value = self._value(group)
        if self._kbps is None and value <= wanted * (1 + _ERROR_TOLERANCE):
            return setting, False
        if self._measure(self._coder, group) > (1 - _WORTH) * self._measure(self._coder, less):
            return plenty, True
        return setting, setting.quality == BEST_QUALITY and (self._kbps is None or value < wanted)

    def _first_law(self, plan: Plan) -> Law:
        """Bits of a group from bits per pixel; LPIPS from a squared error."""
        if self._kbps is not None:
            return Law(float(sum(clip.frames.size // 3 for clip in plan.clips)))
        return Law(1.0) if self._lpips is None else _LPIPS_OF_ERROR

    def _value(self, group: CodedGroup) -> float:
        return float(group.bits) if self._kbps is not None else self._measure(self._coder, group)

    def _wanted(self, seconds: float) -> float:
        """Bits or error of the next group."""
        if self._kbps is not None:
            share = 1000 * self._kbps * seconds
            return min(max(share + self._saved, share / _LARGEST_DEBT), share * _LARGEST_DEBT)
        if self._psnr is not None:
            return 255.0**2 / 10 ** (self._psnr / 10)
        assert self._lpips is not None
        return self._lpips

    def spend(self, size: int, *, seconds: float) -> None:
        """A group was written: its bytes, and how long it lasts."""
        if self._kbps is not None:
            self._saved += 1000 * self._kbps * seconds - 8 * size

    def missed(self, kbps: float) -> str | None:
        """What to tell the user of a file of so many kbit/s that isn't what was asked for."""
        if self._kbps is not None:
            if abs(kbps / self._kbps - 1) <= _RATE_TOLERANCE:
                return None
            full = f"; more bits make {self._full:.1f} of {self._seconds:.1f} s no better"
            more = full if kbps < self._kbps and self._full else ""
            return f"target_kbps {self._kbps:g} was missed: the file has {kbps:.1f} kbit/s{more}"
        if not self._short:
            return None
        error = self._error / self._seconds
        if self._psnr is not None:
            return f"target_psnr {self._psnr:g} was missed: the file has {10 * log10(255**2 / error):.1f} dB"
        return f"target_lpips {self._lpips:g} was missed: the file has {error:.3f}"
