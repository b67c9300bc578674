"""Frames a few at a time: memory holds the steps between for those alone, and every few are computed on a thread of their own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

from reducio_codec.io.stages import stage
from reducio_codec.io.threads import in_threads
from reducio_codec.models.lite.between import Between
from reducio_codec.models.lite.blocks import runs_now
from reducio_codec.models.lite.linear_code import Clue
from reducio_codec.models.lite.plan import Plan

FrameMaker = Callable[[slice], Tensor]
"""Makes those frames (n, 3, H, W) float32 of B*16; ``slice(None)`` is all of them."""

Item = TypeVar("Item")
Result = TypeVar("Result")

PICTURES = 4
"""How many frames are made together up to ``_SIDE``; by 8 small ones take 2% less time, and a tenth more memory."""

MAPS = 16
"""Likewise of what is an eighth of their size, or is looked at and let go."""

_SIDE = 384
"""Pixels of a side: of larger pictures fewer are computed together. Smaller ones take longer on several threads than on one after
the other, which wait for Python by turns."""

_THREADS = 4
"""Each holds the steps of its own frames."""

Size = tuple[int, int]
"""Height and width of pictures in pixels."""


class FrameDecoder(nn.Module, ABC):
    """A decoder that makes each frame by itself, once it has prepared what they share."""

    @abstractmethod
    def prepare(
        self, features: Tensor, clue: Clue, pictures: Tensor, *, plan: Plan, between: Between | None
    ) -> FrameMaker:
        """What makes the frames.

        Args:
            features: (B*16, C16, H/16, W/16), the latent unfolded to frames by the trunk that all share.
            pictures: (B*R, 3, H, W) in [-1, 1], the references.
            between: the motion between references; None where no frame lies between two.
        """

    def forward(self, features: Tensor, clue: Clue, pictures: Tensor, *, plan: Plan, between: Between | None) -> Tensor:
        """Frames (B*16, 3, H, W) float32, those that are ``plan.shown`` left out; arguments as for ``prepare``."""
        pixels = self.prepare(features, clue, pictures, plan=plan, between=between)
        return by_frames(pixels, features, size=size_of(pictures), most=PICTURES, shown=plan.shown[0])


def size_of(pictures: Tensor) -> Size:
    """Of (..., H, W)."""
    return pictures.shape[-2], pictures.shape[-1]


def at_a_time(size: Size, most: int) -> int:
    """How many frames are computed together, ``most`` of small ones."""
    return max(1, min(most, most * _SIDE * _SIDE // (size[0] * size[1])))


def frames_made_at_once(size: Size) -> int:
    """How many are, by all threads together."""
    return at_a_time(size, PICTURES) * (1 if _small(size) else min(_THREADS, torch.get_num_threads()))


def _small(size: Size) -> bool:
    return size[0] * size[1] <= _SIDE * _SIDE


def at_once(job: Callable[[Item], Result], items: Sequence[Item], *, size: Size, like: Tensor) -> Iterator[Result]:
    """What ``job`` makes of each item, in order; of large pictures several of them at once, where it ``runs_now`` of tensors
    ``like`` that."""
    # who counts or records operations hears of those of its own thread alone
    alone = not runs_now(like) or _get_current_dispatch_mode() is not None or _small(size)

    def noted(item: Item) -> Result:
        with stage("network"):
            return job(item)

    return in_threads(noted, items, most=1 if alone else _THREADS)


def by_frames(
    part: Callable[[slice], Tensor], x: Tensor, *, size: Size, most: int, shown: Tensor | None = None
) -> Tensor:
    """What ``part`` makes of the frames of ``x`` (N, ...), each by itself: (N, ...). Where it ``runs_now`` of a few at a time,
    ``most`` of small ones, and zero in place of those that are ``shown`` (M,) and so needn't be made; elsewhere of all together,
    ``slice(None)``."""
    if not runs_now(x):
        return part(slice(None))
    left_out = [] if shown is None else shown.tolist()
    pieces = runs(len(x), most=at_a_time(size, most), without=left_out)
    if not pieces or (not left_out and len(pieces) == 1):
        return part(slice(None))
    whole: Tensor | None = None
    for some, made in zip(pieces, at_once(part, pieces, size=size, like=x), strict=True):
        if whole is None:
            whole = _room(made, len(x))
            whole[left_out] = 0
        whole[some] = made
    assert whole is not None
    return whole


def _room(like: Tensor, count: int) -> Tensor:
    """For ``count`` of what there are some, in the same order in memory."""
    order = torch.contiguous_format if like.is_contiguous() else torch.channels_last
    return torch.empty((count, *like.shape[1:]), dtype=like.dtype, device=like.device, memory_format=order)


def runs(count: int, *, most: int, without: Collection[int] = ()) -> list[slice]:
    """The numbers up to ``count`` but those ``without``, in runs of ``most`` or fewer."""
    found: list[slice] = []
    ends = [-1, *sorted(without), count]
    for before, after in pairwise(ends):
        found.extend(slice(first, min(first + most, after)) for first in range(before + 1, after, most))
    return found
