"""Pictures larger than a tile: where the tiles lie and how their results are joined.

The paper cuts into tiles of 256 px that share 64 px and blends them linearly (Sec. 3.1). Here the blend is a
normalised overlap-add: each tile fades in and out over the overlap, and each pixel is divided by the sum of the
weights that reached it. Neighbour-wise blending would leave a step where horizontal and vertical overlaps cross.
The last tile of an axis is shifted back, so that every tile has the full size that the model was trained on. Where the
model doesn't mind the size, tiles may shrink instead, until as many of them just cover the axis.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class AxisPlan:
    """Tiles along one axis. All numbers are in the same unit, pixels or latent positions."""

    length: int
    tile: int
    overlap: int
    starts: tuple[int, ...]

    def divided(self, ratio: int) -> AxisPlan:
        """The same plan on a grid ``ratio`` times coarser; every number must divide."""
        assert not any(number % ratio for number in (self.length, self.tile, self.overlap, *self.starts)), self
        return AxisPlan(
            length=self.length // ratio,
            tile=self.tile // ratio,
            overlap=self.overlap // ratio,
            starts=tuple(start // ratio for start in self.starts),
        )

    def weights(self) -> list[Tensor]:
        """One ``(tile,)`` float32 vector a tile; those that cover a place sum to 1 there.

        Without neighbours the ramp at the picture's own border cancels in the division, so a single tile has weight
        exactly 1 everywhere.
        """
        # float64 until the end: the sum over tiles is then 1 to the last float32 bit
        rise = torch.arange(1, self.tile + 1, dtype=torch.float64) / (self.overlap + 1)
        ramp = torch.minimum(rise, rise.flip(0)).clamp_(max=1.0)  # (tile,)
        total = torch.zeros(self.length, dtype=torch.float64)
        for start in self.starts:
            total[start : start + self.tile] += ramp
        return [(ramp / total[start : start + self.tile]).float() for start in self.starts]


@dataclass(frozen=True, kw_only=True)
class TilePlan:
    """Tiles over a picture: each pair of a row and a column of tiles, in reading order."""

    rows: AxisPlan
    columns: AxisPlan

    @property
    def windows(self) -> list[tuple[int, int]]:
        """Top left corner ``(y, x)`` of each tile, in reading order."""
        return [(y, x) for y in self.rows.starts for x in self.columns.starts]

    def divided(self, ratio: int) -> TilePlan:
        """The same tiles on a grid ``ratio`` times coarser: from pixels to latent positions."""
        return TilePlan(rows=self.rows.divided(ratio), columns=self.columns.divided(ratio))


def plan_axis(length: int, *, tile_size: int, tile_overlap: int, shrink: int | None = None) -> AxisPlan:
    """Tiles of ``tile_size`` along an axis of ``length``, or one tile of ``length`` if that is not longer.

    Args:
        shrink: make the tiles as small as as many of them can be, in steps of this many pixels; None: keep their size.
    """
    if length <= tile_size:
        return AxisPlan(length=length, tile=length, overlap=0, starts=(0,))
    stride = tile_size - tile_overlap
    if shrink is not None:
        count = -(-(length - tile_overlap) // stride)
        stride = max(tile_overlap, -(-(length - tile_overlap) // (count * shrink)) * shrink)
    tile = stride + tile_overlap
    last = length - tile
    return AxisPlan(length=length, tile=tile, overlap=tile_overlap, starts=(*range(0, last, stride), last))


def plan_tiles(height: int, width: int, *, tile_size: int, tile_overlap: int, shrink: int | None = None) -> TilePlan:
    """Tiles over ``height x width``; an axis no longer than ``tile_size`` isn't cut. ``shrink`` as for ``plan_axis``."""
    return TilePlan(
        rows=plan_axis(height, tile_size=tile_size, tile_overlap=tile_overlap, shrink=shrink),
        columns=plan_axis(width, tile_size=tile_size, tile_overlap=tile_overlap, shrink=shrink),
    )


def blend_tiles(tiles: Iterable[Tensor], plan: TilePlan) -> Iterator[Tensor]:
    """Join tiles into bands of finished rows; one band of one tile's height is held, never all tiles.

    Args:
        tiles: ``(..., tile height, tile width)`` float, in the plan's reading order.
        plan: where they lie.

    Yields:
        ``(..., rows, W)`` float32 from the top down; concatenated along rows they are the whole picture. A band may
        be written over once the next one is asked for.
    """
    rows, columns = plan.rows, plan.columns
    source = iter(tiles)
    if len(rows.starts) == 1 and len(columns.starts) == 1:
        yield next(source).float()
        return
    band: Tensor | None = None
    column_weights = columns.weights()
    # a band is final down to where the next row of tiles starts
    ends = (*rows.starts[1:], rows.length)
    for start, end, row_weight in zip(rows.starts, ends, rows.weights(), strict=True):
        for left, column_weight in zip(columns.starts, column_weights, strict=True):
            tile = next(source)
            if band is None:
                band = tile.new_zeros((*tile.shape[:-1], columns.length), dtype=torch.float32)
            weight = (row_weight[:, None] * column_weight).to(tile.device)  # (tile height, tile width)
            band[..., left : left + columns.tile].addcmul_(tile.float(), weight)
        assert band is not None
        done = end - start
        yield band[..., :done, :]
        if end < rows.length:
            rest = band[..., done:, :].clone()
            band[..., : rest.shape[-2], :] = rest
            band[..., rest.shape[-2] :, :] = 0
