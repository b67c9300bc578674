"""Blocks that rest at every second evaluation of the network."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from reducio_codec.errors import InputError


class BlockCache:
    """What the middle blocks add, kept from one evaluation for the next: they run at every second one only.

    Between neighbouring steps it changes little, least in the middle of the network (Delta-DiT, Chen et al. 2024; "Cache
    Me if You Can", Wimbauer et al. 2024). One object serves one run of a sampler.

    Args:
        blocks: how many, 1 to depth - 2.
    """

    def __init__(self, blocks: int, *, depth: int) -> None:
        if type(blocks) is not int or not 1 <= blocks <= depth - 2:
            raise InputError(
                f"cache_blocks is {blocks}; a model of {depth} blocks allows 0 (off) to {max(0, depth - 2)}"
            )
        self.first = (depth - blocks + 1) // 2
        self.end = self.first + blocks
        self._added: Tensor | None = None

    def __call__(self, x: Tensor, middle: Callable[[Tensor], Tensor]) -> Tensor:
        """``middle(x)``, or what stands for it."""
        if self._added is not None:
            out, self._added = x + self._added, None
            return out
        out = middle(x)
        self._added = out - x
        return out
