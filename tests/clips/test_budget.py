"""``tile_size="auto"`` takes the largest tile, then the largest batch, that the budget holds."""

import pytest
import torch

from reducio_codec.clips.budget import available_memory, choose_tiling
from reducio_codec.config import TilingConfig
from reducio_codec.errors import InputError

CPU = torch.device("cpu")


def by_pixel(side: int) -> int:
    return 16 * 100 * side * side


def chosen(budget: int) -> tuple[int, int]:
    tiling = choose_tiling(TilingConfig(), device=CPU, budget=budget, peak_bytes=by_pixel)
    return tiling.tile_size, tiling.tile_batch


def test_grows_with_the_budget() -> None:
    one = 16 * 100
    assert chosen(one * 128 * 128) == (128, 1)
    assert chosen(one * 256 * 256) == (256, 1)
    assert chosen(one * 512 * 512) == (512, 1)
    assert chosen(2 * one * 512 * 512) == (512, 2)
    assert chosen(1 << 50) == (512, TilingConfig().tile_batch)


@pytest.mark.parametrize(("times", "batch", "threads"), [(1, 1, 1), (2, 2, 1), (5, 2, 2), (100, 2, 4)])
def test_as_many_at_once_as_it_holds(times: int, batch: int, threads: int) -> None:
    tiling = TilingConfig(tile_batch=2, tile_threads=4)
    found = choose_tiling(tiling, device=CPU, budget=times * 16 * 100 * 512 * 512, peak_bytes=by_pixel)
    assert (found.tile_size, found.tile_batch, found.tile_threads) == (512, batch, threads)


def test_too_small_a_budget_names_what_is_needed() -> None:
    with pytest.raises(InputError, match=r"1,000 bytes.*64 px\) needs 6,553,600. Give a larger budget$"):
        chosen(1000)
    with pytest.raises(InputError, match=r"128 px, twice the overlap\) needs 26,214,400.*smaller tile_overlap"):
        choose_tiling(TilingConfig(), device=CPU, budget=1 << 24, peak_bytes=by_pixel, tile_overlap=64)


def test_tiles_of_another_size_have_an_overlap_of_half_of_them_at_most() -> None:
    tiling = TilingConfig(tile_size=1920, tile_overlap=128)
    found = {size: tiling.of_size(size).tile_overlap for size in (4096, 512, 256, 192, 128, 96, 64, 32)}
    assert found == {4096: 128, 512: 128, 256: 128, 192: 96, 128: 64, 96: 32, 64: 32, 32: 0}
    chosen = choose_tiling(tiling, device=CPU, budget=by_pixel(192), peak_bytes=by_pixel)
    assert (chosen.tile_size, chosen.tile_overlap) == (192, 96)
    assert choose_tiling(tiling, device=CPU, budget=1 << 50, peak_bytes=by_pixel) == tiling
    chosen = choose_tiling(tiling, device=CPU, budget=by_pixel(300), peak_bytes=by_pixel, tile_overlap=128)
    assert (chosen.tile_size, chosen.tile_overlap) == (288, 128)


def test_default_budget_is_half_of_what_is_free() -> None:
    assert available_memory(CPU) > 1 << 24
    assert choose_tiling(TilingConfig(), device=CPU, peak_bytes=lambda side: side).tile_size == 512
