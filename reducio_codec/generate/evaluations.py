"""Progress and cancellation of a run that takes many network evaluations."""

from __future__ import annotations

from collections.abc import Callable

from reducio_codec.errors import ReducioError

Progress = Callable[[int, int | None], None]
"""Called after each network evaluation, and each step of a text-to-image stage, with those done and in all."""


class GenerationCancelled(ReducioError):
    """``should_stop`` said so."""


class EvaluationCount:
    """Counts network evaluations over all clips, tells a person, and stops when asked to."""

    def __init__(self, total: int, *, progress: Progress | None, should_stop: Callable[[], bool] | None) -> None:
        self._total = total
        self._done = 0
        self._progress = progress
        self._should_stop = should_stop

    def expect(self, more: int) -> None:
        """So many are to come beside those that were known of."""
        self._total += more

    def __call__(self) -> None:
        """After each evaluation. Raises GenerationCancelled."""
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)
        if self._should_stop is not None and self._should_stop():
            raise GenerationCancelled(f"stopped after {self._done} of {self._total} network evaluations")
