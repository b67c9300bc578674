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
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class AxisPlan:
    """Tiles along one axis. All numbers are in the same unit, pixels or latent positions."""

    length: int
    tile: int
    overlap: int
    starts: tuple[int, ...]

    @property
    def ends(self) -> tuple[int, ...]:
        """Where what a tile and those before it cover is finished: where the next one starts, for the last one the length."""
        return (*self.starts[1:], self.length)

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

        A tile fades where a neighbour takes over, never towards the picture's own border: the division would undo that, and
        where a tile that was shifted back ends just before the border it would make a step of what is left of both.
        """
        # float64 until the end: the sum over tiles is then 1 to the last float32 bit
        rise = (torch.arange(1, self.tile + 1, dtype=torch.float64) / (self.overlap + 1)).clamp_(max=1.0)  # (tile,)
        flat, last = torch.ones_like(rise), self.length - self.tile
        ramps = [
            torch.minimum(rise if start > 0 else flat, rise.flip(0) if start < last else flat) for start in self.starts
        ]
        total = torch.zeros(self.length, dtype=torch.float64)
        for start, ramp in zip(self.starts, ramps, strict=True):
            total[start : start + self.tile] += ramp
        return [
            (ramp / total[start : start + self.tile]).float() for start, ramp in zip(self.starts, ramps, strict=True)
        ]


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


class Piece(NamedTuple):
    """A finished part of a picture."""

    top: int
    left: int
    values: Tensor
    """``(..., rows, columns)`` float32."""

    def place(self, whole: Tensor) -> None:
        """Write it where it belongs in the picture ``(..., H, W)``."""
        rows, columns = self.values.shape[-2:]
        whole[..., self.top : self.top + rows, self.left : self.left + columns] = self.values


def blend_tiles(tiles: Iterable[Tensor], plan: TilePlan) -> Iterator[Piece]:
    """Join tiles into pieces that cover the picture, each once. Held are a tile, what it shares with the next one, and what its
    row shares with the next row: never the picture, nor a band of it.

    Args:
        tiles: ``(..., tile height, tile width)`` float, in the plan's reading order; overwritten unless they need gradients.
        plan: where they lie.
    """
    rows, columns = plan.rows, plan.columns
    source = iter(tiles)
    if len(rows.starts) == 1 and len(columns.starts) == 1:
        yield Piece(0, 0, next(source).float())
        return
    column_weights = columns.weights()
    row_above: Tensor | None = None  # (..., rows shared, W): of what begins at this row's start, the sum so far
    for top, below, row_weight in zip(rows.starts, rows.ends, rows.weights(), strict=True):
        shared = top + rows.tile - below  # rows that the next row of tiles adds to; 0 behind the last
        next_above: Tensor | None = None
        begun: Tensor | None = (
            None  # (..., tile height, columns shared): of what begins at this tile's left, the sum so far
        )
        for left, right, column_weight in zip(columns.starts, columns.ends, column_weights, strict=True):
            tile = next(source)
            weight = (row_weight[:, None] * column_weight).to(tile.device)  # (tile height, tile width)
            values = tile.float()
            kept = values.requires_grad or 0 in values.stride()  # an expanded tensor can't be written to
            values = values * weight if kept else values.mul_(weight)
            known = 0 if begun is None else begun.shape[-1]
            if begun is not None:
                values[..., :known] += begun
            if row_above is not None:  # what is begun has it already
                values[..., : row_above.shape[-2], known:] += row_above[..., left + known : left + columns.tile]
            done, begun = values[..., : right - left], values[..., right - left :].clone()
            if shared:
                if next_above is None:
                    next_above = values.new_empty((*values.shape[:-2], shared, columns.length))
                next_above[..., left:right] = done[..., below - top :, :]
            yield Piece(top, left, done[..., : below - top, :])
            del tile, values, done  # not to be held while the next tile is made
        row_above = next_above
