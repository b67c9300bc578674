"""What a caller asks a pipeline for, checked: single values and lists become lists of one length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reducio_codec.config import check_amount, check_count
from reducio_codec.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Request:
    """B clips of one size."""

    images: list[Any] | None
    """B pictures, or None: to be made from the prompts."""
    prompts: list[str] | None
    """B texts, or None."""
    seeds: list[int] | None
    """B seeds, or None: any."""
    size: tuple[int, int] | None
    """Height and width, or None: the pictures'."""
    picture_steps: int | None
    """Of the text-to-image stage, or None: its own."""
    picture_guidance: float | None
    """The same of its guidance."""
    count: int
    """B."""
    several: bool
    """Whether a list was given, and so a batch is expected back."""


def read_request(
    *,
    prompt: str | Sequence[str] | None,
    image: Any,
    seed: int | Sequence[int] | None,
    height: int | None,
    width: int | None,
    picture_steps: int | None = None,
    picture_guidance: float | None = None,
) -> Request:
    """Check arguments and bring them to one length. InputError names what doesn't fit.

    A list or a tuple is several values; strings, paths, arrays and tensors are one.
    """
    if prompt is None and image is None:
        raise InputError("neither image nor prompt is given; at least one is needed")
    given = {"prompt": prompt, "image": image, "seed": seed}
    lists: dict[str, list[Any]] = {
        name: list(value) for name, value in given.items() if isinstance(value, list | tuple)
    }
    lengths = {name: len(value) for name, value in lists.items()}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        told = ", ".join(f"{length} as {name}" for name, length in lengths.items())
        raise InputError(f"lists of different or no length: {told}; give as many of each, or one value for all")
    count = next(iter(lengths.values()), 1)
    prompts = None if prompt is None else lists.get("prompt", [prompt] * count)
    for text in prompts or ():
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"prompt is {text!r}; it must be a text that isn't empty")
    for option, value in (("picture_steps", picture_steps), ("picture_guidance", picture_guidance)):
        if value is not None and image is not None:
            raise InputError(f"{option} is {value}, but the picture is given; it has no effect")
    if picture_steps is not None:
        check_count(picture_steps, name="picture_steps", least=1)
    if picture_guidance is not None:
        check_amount(picture_guidance, name="picture_guidance")
    return Request(
        images=None if image is None else lists.get("image", [image] * count),
        prompts=prompts,
        seeds=None if seed is None else _seeds(lists.get("seed", [seed]), count=count, several="seed" in lists),
        size=_size(height, width),
        picture_steps=picture_steps,
        picture_guidance=picture_guidance,
        count=count,
        several=bool(lists),
    )


def _seeds(given: list[Any], *, count: int, several: bool) -> list[int]:
    for value in given:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**62:
            raise InputError(f"seed is {value!r}; it must be a whole number from 0 to 2**62 - 1")
    return given if several else [given[0] + number for number in range(count)]


def _size(height: int | None, width: int | None) -> tuple[int, int] | None:
    if height is None and width is None:
        return None
    if height is None or width is None:
        raise InputError(f"height is {height} and width is {width}; give both or neither")
    if min(height, width) < 1:
        raise InputError(f"the size is {width}x{height}; both sides must be at least 1")
    return height, width
