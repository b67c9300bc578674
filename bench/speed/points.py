"""What a sweep varies: one of size, length, threads, batch and number type, everything else at the base."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch

from reducio_codec.config import CLIP_LENGTH
from reducio_codec.errors import InputError
from reducio_codec.models.precision import resolve_dtype

FRAME_RATE = 16
"""Frames of a second, for lengths."""

Axis = Literal["resolution", "length", "threads", "batch", "dtype"]
AXES: tuple[Axis, ...] = ("resolution", "length", "threads", "batch", "dtype")

VALUES: dict[str, tuple[str, ...]] = {
    "resolution": ("256x256", "512x512", "1280x720", "1920x1080"),
    "length": ("1", "10", "60", "300"),
    "threads": ("1", "2"),
    "batch": ("1", "2", "4"),
    "dtype": ("float32", "bfloat16"),
}
"""Of each axis, the cheapest first: what a smaller one took says whether the next can be afforded."""

QUICK: dict[str, tuple[str, ...]] = {
    "resolution": ("64x64", "128x96"),
    "length": ("1", "2"),
    "threads": ("1", "2"),
    "batch": ("1", "2"),
    "dtype": ("float32", "bfloat16"),
}

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Point:
    """What one run works on."""

    width: int = 256
    height: int = 256
    seconds: int = 1
    """Length at 16 frames a second: one clip each."""
    threads: int = 0
    """0: torch's own choice."""
    batch: int = 1
    """Clips at once; networks only."""
    dtype: str = ""
    """What networks compute in; empty: what ``dtype="auto"`` takes here."""

    @property
    def frames(self) -> int:
        return self.seconds * FRAME_RATE

    @property
    def clips(self) -> int:
        return -(-self.frames // CLIP_LENGTH)

    @property
    def pixels(self) -> int:
        """Of all frames of the batch: what time should grow with."""
        return self.width * self.height * self.frames * self.batch

    @property
    def torch_dtype(self) -> torch.dtype:
        return DTYPES[self.dtype] if self.dtype else resolve_dtype("auto", device=torch.device("cpu"))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def at(self, axis: str, value: str) -> Point:
        """This point with one thing changed. InputError names a value that isn't one."""
        try:
            if axis == "resolution":
                width, height = (int(side) for side in value.split("x"))
                changed = replace(self, width=width, height=height)
            elif axis == "dtype":
                changed = replace(self, dtype=value)
            else:
                changed = replace(self, **{"seconds" if axis == "length" else axis: int(value)})  # type: ignore[arg-type]
        except ValueError as error:
            raise InputError(f"{axis} is {value!r}; allowed are values like {', '.join(VALUES[axis])}") from error
        numbers = (changed.width, changed.height, changed.seconds, changed.batch)
        if min(numbers) < 1 or changed.threads < 0 or changed.dtype not in ("", *DTYPES):
            raise InputError(f"{axis} is {value!r}; allowed are values like {', '.join(VALUES[axis])}")
        return changed
