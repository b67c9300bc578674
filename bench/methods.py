"""What the two benchmarks need of a method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]
T = TypeVar("T")


class NotRunError(Exception):
    """A method can't run here; the text stands in its row."""


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """A clip after the way through a latent."""

    frames: Frames
    """(16, H, W, 3), as the source."""
    latent: dict[str, int]
    """``positions`` and ``values`` that the decoder got, and ``pixels`` (values of pictures it got beside them)."""


class Reconstructor(Protocol):
    """An opened method of ``bench run reconstruction``."""

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that the numbers depend on, for the result file."""
        ...

    def __call__(self, clip: Frames) -> Reconstruction: ...


@dataclass(frozen=True, kw_only=True)
class Coded:
    """A sample after the way through a file."""

    frames: Frames
    parts: dict[str, int]
    """Bytes by what they are for; their sum is the size of the file."""

    @property
    def bytes(self) -> int:
        return sum(self.parts.values())


class VideoCodec(Protocol):
    """An opened method of ``bench run rd`` at one of its points."""

    @property
    def settings(self) -> dict[str, Any]: ...

    def __call__(self, frames: Frames, *, rate: Fraction) -> Coded: ...


@dataclass(frozen=True, kw_only=True)
class Candidate(Generic[T]):
    """A method by name, opened (weights loaded) only when it has something to do."""

    name: str
    points: dict[str, Callable[[], T]] = field(default_factory=dict)
    """Opens the method at a point. NotRunError, NeedsFileError and MissingDependencyError become ``not run: why``."""
