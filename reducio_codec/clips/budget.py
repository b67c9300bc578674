"""``tile_size="auto"``: the largest tiles that a memory budget allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch

from reducio_codec.config import PIXEL_MULTIPLE, TilingConfig
from reducio_codec.errors import InputError
from reducio_codec.io.memory import free_memory

LARGEST_AUTO_TILE = 512
"""Tiles much larger than the 256 px of the training show a grid with models whose statistics depend on the tile. Those of a model
whose own tiles are larger may be as large as they."""

_UNKNOWN_MEMORY = 2 << 30


def available_memory(device: torch.device) -> int:
    """Bytes that are free now; 2 GiB where the system doesn't tell."""
    free = free_memory(device)
    return _UNKNOWN_MEMORY if free is None else free


def choose_tiling(
    tiling: TilingConfig,
    *,
    device: torch.device,
    budget: int | None = None,
    peak_bytes: Callable[[int], int],
    tile_overlap: int | None = None,
) -> TilingConfig:
    """Replace ``tile_size``, ``tile_batch`` and ``tile_threads`` by the largest that fit.

    A larger tile comes before a larger batch, and that before more of them at once: it has fewer borders.

    Args:
        tiling: nothing gets larger than what it has, but for tiles, which may have 512 px.
        tile_overlap: pixels; by default that of ``tiling``, or what goes with smaller tiles.
        device: whose free memory counts if there is no budget.
        budget: bytes; by default half of what is free.
        peak_bytes: what a tile of that size takes, ``CodecModel.peak_bytes`` for one.

    Raises:
        InputError: the budget doesn't hold the smallest tile.
    """
    if budget is None:
        budget = available_memory(device) // 2

    smallest = max(2 * PIXEL_MULTIPLE, 2 * (tile_overlap or 0))
    if peak_bytes(smallest) > budget:
        twice = "" if tile_overlap is None else ", twice the overlap"
        raise InputError(
            f"memory budget is {budget:,} bytes; the smallest tile ({smallest} px{twice}) needs {peak_bytes(smallest):,}. "
            f"Give a larger budget{'' if tile_overlap is None else ' or a smaller tile_overlap'}"
        )
    sizes = range(max(smallest, LARGEST_AUTO_TILE, tiling.tile_size), smallest - 1, -PIXEL_MULTIPLE)
    size = next(size for size in sizes if peak_bytes(size) <= budget)
    batch = max(1, min(tiling.tile_batch, budget // peak_bytes(size)))
    threads = max(1, min(tiling.tile_threads, budget // (batch * peak_bytes(size))))
    found = _resized(tiling, size, tile_overlap)
    return replace(found, tile_batch=batch, tile_threads=threads)


def _resized(tiling: TilingConfig, tile_size: int, tile_overlap: int | None) -> TilingConfig:
    if tile_overlap is None:
        return tiling.of_size(tile_size)
    return replace(tiling, tile_size=tile_size, tile_overlap=tile_overlap)


def resolve_tiling(
    tiling: TilingConfig,
    *,
    tile_size: int | Literal["auto"] | None,
    tile_overlap: int | None = None,
    memory_budget: int | None,
    device: torch.device,
    peak_bytes: Callable[[int], int],
) -> TilingConfig:
    """``tiling`` with another size or overlap, each None to keep it, or the overlap that goes with that size.
    ``tile_size="auto"``: see :func:`choose_tiling`."""
    if tile_size == "auto":
        return choose_tiling(
            tiling,
            device=device,
            budget=memory_budget,
            peak_bytes=peak_bytes,
            tile_overlap=tile_overlap,
        )
    if memory_budget is not None:
        raise InputError(f"memory_budget is {memory_budget}, which only tile_size='auto' uses")
    if tile_size is None:
        return tiling if tile_overlap is None else replace(tiling, tile_overlap=tile_overlap)
    if isinstance(tile_size, bool) or not isinstance(tile_size, int):
        raise InputError(f"tile_size is {tile_size!r}; allowed: 'auto' or a multiple of {PIXEL_MULTIPLE}")
    return _resized(tiling, tile_size, tile_overlap)
