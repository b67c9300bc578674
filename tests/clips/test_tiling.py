"""Overlap-add: the identity through tiles is exact, weights sum to one and have no step."""

import weakref
from collections.abc import Iterator

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reducio_codec.clips.tiling import TilePlan, blend_tiles, plan_axis, plan_tiles
from reducio_codec.io.stages import timed


def cut(picture: torch.Tensor, plan: TilePlan) -> list[torch.Tensor]:
    tile_height, tile_width = plan.rows.tile, plan.columns.tile
    return [picture[..., y : y + tile_height, x : x + tile_width] for y, x in plan.windows]


def join(tiles: list[torch.Tensor], plan: TilePlan) -> torch.Tensor:
    whole = torch.full((*tiles[0].shape[:-2], plan.rows.length, plan.columns.length), torch.nan)
    for piece in blend_tiles(tiles, plan):
        rows, columns = piece.values.shape[-2:]
        at = whole[..., piece.top : piece.top + rows, piece.left : piece.left + columns]
        assert at.isnan().all(), "each place is given once"
        piece.place(whole)
    return whole


@st.composite
def axes(draw: st.DrawFn) -> tuple[int, int, int]:
    tile = draw(st.integers(1, 12))
    return draw(st.integers(1, 40)), tile, draw(st.integers(0, tile // 2))


@given(vertical=axes(), horizontal=st.integers(1, 40))
@settings(max_examples=150, deadline=None)
def test_identity(vertical: tuple[int, int, int], horizontal: int) -> None:
    height, tile, overlap = vertical
    plan = plan_tiles(height, horizontal, tile_size=tile, tile_overlap=overlap)
    picture = torch.rand(2, 3, height, horizontal) * 2 - 1
    torch.testing.assert_close(join(cut(picture, plan), plan), picture, atol=1e-6, rtol=0)


@given(axis=axes())
@example(axis=(19, 12, 6))  # the last tile is shifted back to one step behind the one before
@settings(max_examples=150, deadline=None)
def test_partition_of_unity_full_tiles_and_no_step(axis: tuple[int, int, int]) -> None:
    length, tile, overlap = axis
    plan = plan_axis(length, tile_size=tile, tile_overlap=overlap)
    assert all(start >= 0 and start + plan.tile <= length for start in plan.starts)
    assert plan.tile == min(tile, length)
    assert list(plan.starts) == sorted(set(plan.starts))
    total = torch.zeros(length)
    spread = torch.zeros(len(plan.starts), length)
    for row, start, weight in zip(spread, plan.starts, plan.weights(), strict=True):
        total[start : start + plan.tile] += weight
        row[start : start + plan.tile] = weight
        assert weight.min() > 0
    torch.testing.assert_close(total, torch.ones(length), atol=3e-7, rtol=0)
    # a place that a tile enters has the overlap to fade over: no step is larger than one ramp step, twice over
    # because numerator and denominator may both move
    if len(plan.starts) > 1:
        assert (spread[:, 1:] - spread[:, :-1]).abs().max() <= min(1.0, 2 / (overlap + 1)) + 1e-6


def test_regular_overlap_is_the_linear_ramp() -> None:
    plan = plan_axis(448, tile_size=256, tile_overlap=64)
    assert plan.starts == (0, 192)
    first, second = plan.weights()
    torch.testing.assert_close(second[:64], torch.arange(1, 65) / 65)
    torch.testing.assert_close(first[192:], 1 - torch.arange(1, 65) / 65)
    assert (first[:192] == 1).all() and (second[64:] == 1).all()


def test_last_tile_is_shifted_back() -> None:
    assert plan_axis(512, tile_size=256, tile_overlap=64).starts == (0, 192, 256)
    assert plan_axis(288, tile_size=256, tile_overlap=64).starts == (0, 32)
    assert plan_axis(256, tile_size=256, tile_overlap=64).starts == (0,)


def test_tiles_shrink_until_as_many_just_cover() -> None:
    def tiles(length: int) -> tuple[int, tuple[int, ...]]:
        plan = plan_axis(length, tile_size=384, tile_overlap=64, shrink=32)
        return plan.tile, plan.starts

    assert tiles(384) == (384, (0,))
    assert tiles(416) == (256, (0, 160))
    assert tiles(512) == (288, (0, 224))
    assert tiles(704) == (384, (0, 320))
    assert tiles(736) == (288, (0, 224, 448))


@given(units=st.integers(1, 60), tile=st.integers(1, 12), overlap=st.integers(0, 6), shrink=st.integers(1, 3))
@settings(max_examples=200, deadline=None)
def test_shrinking_needs_no_more_tiles_and_none_larger(units: int, tile: int, overlap: int, shrink: int) -> None:
    length, tile, overlap = units * shrink, tile * shrink, min(overlap, tile // 2) * shrink
    full = plan_axis(length, tile_size=tile, tile_overlap=overlap)
    small = plan_axis(length, tile_size=tile, tile_overlap=overlap, shrink=shrink)
    assert small.tile <= full.tile and len(small.starts) <= len(full.starts)
    assert all(number % shrink == 0 for number in (small.tile, *small.starts))
    assert small.tile >= 2 * small.overlap
    total = torch.zeros(length)
    for start, weight in zip(small.starts, small.weights(), strict=True):
        total[start : start + small.tile] += weight
    torch.testing.assert_close(total, torch.ones(length), atol=3e-7, rtol=0)


@pytest.mark.parametrize("size", [(256, 256), (32, 64), (256, 96)])
def test_one_covering_tile_is_bit_equal(size: tuple[int, int]) -> None:
    plan = plan_tiles(*size, tile_size=256, tile_overlap=64)
    picture = torch.randn(1, 3, *size)
    assert plan.windows == [(0, 0)]
    assert torch.equal(join([picture], plan), picture)


def test_only_a_long_axis_is_cut() -> None:
    plan = plan_tiles(96, 640, tile_size=256, tile_overlap=64)
    assert plan.rows.starts == (0,) and plan.rows.tile == 96
    assert plan.columns.starts == (0, 192, 384)


@given(
    height=st.integers(1, 40).map(lambda n: 32 * n),
    width=st.integers(1, 40).map(lambda n: 32 * n),
    tile=st.sampled_from([(64, 0), (64, 32), (256, 64), (320, 64), (256, 128)]),
)
@settings(max_examples=60, deadline=None)
def test_latent_tiles_lie_under_pixel_tiles(height: int, width: int, tile: tuple[int, int]) -> None:
    plan = plan_tiles(height, width, tile_size=tile[0], tile_overlap=tile[1])
    latent = plan.divided(32)
    assert [(32 * y, 32 * x) for y, x in latent.windows] == plan.windows
    assert (32 * latent.rows.tile, 32 * latent.columns.tile) == (plan.rows.tile, plan.columns.tile)


def test_pieces_are_no_larger_than_a_tile() -> None:
    plan = plan_tiles(40, 30, tile_size=8, tile_overlap=4)
    pieces = list(blend_tiles(cut(torch.rand(1, 40, 30), plan), plan))
    assert len(pieces) == len(plan.windows)
    assert all(max(piece.values.shape[-2:]) <= 8 for piece in pieces)


def test_what_differs_between_tiles_is_faded_in_both_directions() -> None:
    plan = plan_tiles(19, 20, tile_size=12, tile_overlap=6)
    tiles = [torch.full((12, 12), float(number)) for number in range(len(plan.windows))]
    expected = torch.zeros(19, 20)
    grid = [(y, x, v, h) for y, v in zip(plan.rows.starts, plan.rows.weights(), strict=True)
            for x, h in zip(plan.columns.starts, plan.columns.weights(), strict=True)]  # fmt: skip
    for tile, (y, x, vertical, horizontal) in zip(tiles, grid, strict=True):
        expected[y : y + 12, x : x + 12] += tile * vertical[:, None] * horizontal
    torch.testing.assert_close(join(tiles, plan), expected)


def test_a_tile_is_let_go_before_the_next_one_is_made() -> None:
    plan = plan_tiles(64, 160, tile_size=64, tile_overlap=32)
    held: list[weakref.ref[torch.Tensor]] = []

    def tiles() -> Iterator[torch.Tensor]:
        for _ in plan.windows:
            assert all(tile() is None for tile in held)
            tile = torch.zeros(1, 64, 64)
            held.append(weakref.ref(tile))
            yield tile
            del tile

    whole = torch.empty(1, 64, 160)
    for piece in timed(blend_tiles(tiles(), plan), "blending"):
        piece.place(whole)
        del piece
    assert len(held) == len(plan.windows) > 1


def test_tiles_that_need_gradients_are_left_alone() -> None:
    plan = plan_tiles(64, 96, tile_size=64, tile_overlap=32)
    tiles = [torch.ones(1, 64, 64, requires_grad=True) for _ in plan.windows]
    whole = sum(piece.values.sum() for piece in blend_tiles(tiles, plan))
    assert isinstance(whole, torch.Tensor)
    whole.backward()
    assert all(torch.equal(tile.detach(), torch.ones(1, 64, 64)) and tile.grad is not None for tile in tiles)
