"""``tile_size="auto"`` takes the largest tile, then the largest batch, that the budget holds."""

import pytest
import torch

from reducio_codec.clips.budget import available_memory, choose_tiling
from reducio_codec.config import TilingConfig
from reducio_codec.errors import InputError

CPU = torch.device("cpu")


def chosen(budget: int) -> tuple[int, int]:
    tiling = choose_tiling(TilingConfig(), device=CPU, budget=budget, peak_bytes_per_pixel=100)
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
    found = choose_tiling(tiling, device=CPU, budget=times * 16 * 100 * 512 * 512, peak_bytes_per_pixel=100)
    assert (found.tile_size, found.tile_batch, found.tile_threads) == (512, batch, threads)


def test_too_small_a_budget_names_what_is_needed() -> None:
    with pytest.raises(InputError, match=r"1,000 bytes.*128 px.*needs 26,214,400"):
        chosen(1000)


def test_default_budget_is_half_of_what_is_free() -> None:
    assert available_memory(CPU) > 1 << 24
    assert choose_tiling(TilingConfig(), device=CPU, peak_bytes_per_pixel=1e-3).tile_size == 512
