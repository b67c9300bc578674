"""The setting that gives a wanted value, where each trial takes seconds and what comes out can roughly be foretold."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable
from math import log
from typing import NamedTuple

from reducio_codec.coding.keyframes import BEST_QUALITY

NEAR = 0.03
"""A search ends so near what is wanted; one step of quality changes bits and errors by about twice as much."""


class Setting(NamedTuple):
    """How the key frames of a group of clips may be coded."""

    quality: int
    """That they are planned for."""
    pictures: int
    """That they are coded with."""


class Law(NamedTuple):
    """What comes out of what is foretold: ``ratio * foretold ** power``."""

    ratio: float
    power: float = 1.0

    def __call__(self, foretold: float) -> float:
        return float(self.ratio * foretold**self.power)

    def through(self, foretold: float, value: float) -> Law:
        """The same power through a point."""
        return self._replace(ratio=value / foretold**self.power)


_POWERS = 0.3, 2.0
"""What is believed of two trials."""
_WIDE = 40
"""Steps of quality over which nothing grows evenly."""
_NEARER = 0.7
"""How near, by the best so far, another trial must promise to come."""


class Search:
    """Foretells, corrects by what came out, and ends between neighbours.

    From one quality to the next the plan may have other key frames, and what is wanted lie between the two: then it is the plan
    of the higher one, its pictures coded with less.

    Args:
        expected: what is foretold of a setting, above 0; ``rising`` with both of its qualities, or falling.
        planned: which key frames there are for a quality, and what they are coded with.
        wanted: above 0.
        law: what comes out of what is expected, as far as that is known.
    """

    def __init__(
        self,
        expected: Callable[[Setting], float],
        *,
        planned: Callable[[int], tuple[Hashable, int]],
        wanted: float,
        rising: bool,
        law: Law,
    ) -> None:
        self._expected, self._planned, self._wanted, self._rising = expected, planned, wanted, rising
        self.law = law
        """By the last trials."""
        self.tried: dict[Setting, float] = {}

    @property
    def best(self) -> Setting:
        """The nearest so far."""
        return min(self.tried, key=lambda setting: self._distance(self.tried[setting]))

    def found(self, setting: Setting, value: float) -> None:
        """What came out of it, above 0."""
        if self.tried:
            last, before = list(self.tried.items())[-1]
            apart = log(self._expected(setting) / self._expected(last))
            if abs(apart) > NEAR:
                low, high = _POWERS
                self.law = self.law._replace(power=min(max(log(value / before) / apart, low), high))
        self.tried[setting] = value
        self.law = self.law.through(self._expected(setting), value)

    def next(self) -> Setting | None:
        """What to try; None at the end."""
        if self.tried and self._distance(self.tried[self.best]) <= NEAR:
            return None
        enough = [setting for setting, value in self.tried.items() if self._is_enough(value)]
        less = [setting for setting in self.tried if setting not in enough]
        setting: Setting | None
        if not enough or not less:
            setting = self._anywhere()
        else:
            rich = min(enough)
            alike = [item for item in less if self._planned(item.quality)[0] == self._planned(rich.quality)[0]]
            setting = self._between(max(alike, key=lambda item: item.pictures), rich) if alike else self._below(rich)
        return None if setting is None or setting in self.tried else setting

    def _anywhere(self) -> Setting:
        def setting(quality: int) -> Setting:
            return Setting(quality, self._planned(quality)[1])

        first = bisect_left(range(BEST_QUALITY), True, key=lambda quality: self._promises(setting(quality)))
        around = [setting(quality) for quality in (first - 1, first) if quality >= 0]
        nearest = min(around, key=self._gap)
        if not first or not self._promises(setting(first)) or self._gap(nearest) <= NEAR:
            return nearest
        return min(nearest, self._below(setting(first)), key=self._gap)

    def _below(self, rich: Setting) -> Setting:
        """Of the same plan, the one that promises what is wanted."""
        if rich in self.tried:
            self.law = self.law.through(self._expected(rich), self.tried[rich])
        first = bisect_left(
            range(rich.pictures), True, key=lambda pictures: self._promises(rich._replace(pictures=pictures))
        )
        around = [rich._replace(pictures=pictures) for pictures in (first - 1, first) if pictures >= 0]
        return min(around, key=self._gap)

    def _between(self, poor: Setting, rich: Setting) -> Setting | None:
        """Of the same plan: values grow evenly with the quality, in powers. None where none promises to be nearer."""
        low, high = log(self.tried[poor] / self._wanted), log(self.tried[rich] / self._wanted)
        steps = rich.pictures - poor.pictures
        if steps > _WIDE:
            return rich._replace(pictures=poor.pictures + steps // 2)
        least, step = min((abs(low + (high - low) * step / steps), step) for step in range(steps + 1))
        return rich._replace(pictures=poor.pictures + step) if least < _NEARER * min(abs(low), abs(high)) else None

    def _promises(self, setting: Setting) -> bool:
        return self._is_enough(self.law(self._expected(setting)))

    def _is_enough(self, value: float) -> bool:
        return (value >= self._wanted) == self._rising

    def _gap(self, setting: Setting) -> float:
        return self._distance(self.law(self._expected(setting)))

    def _distance(self, value: float) -> float:
        return abs(log(value / self._wanted))
