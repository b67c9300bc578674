"""The motion search finds what was moved, and the warp moves it back."""

import math

import pytest
import torch
import torch.nn.functional as F

from reducio_codec.models.lite.blocks import upsample
from reducio_codec.models.motion import doubled, estimate_flow, halved, move, warp
from tests.models.test_lite import moving_clip


@pytest.mark.parametrize("shift", [0, 1, 3])
def test_search_finds_a_translation(shift: int) -> None:
    clip = moving_clip(128, 160, shift=shift)
    flow = estimate_flow(clip, clip[:, :, 7])[0]  # (16, 2, 16, 20)
    # frame t shows at x what the key frame shows at x + shift * (t - 7)
    expected = shift * (torch.arange(16) - 7.0)
    inner = flow[:, :, 3:-3, 4:-4].mean((2, 3))
    assert (inner[:, 0] - expected).abs().max() < 0.25 + 0.5 * (shift == 3)
    assert inner[:, 1].abs().max() < 0.3


def test_warp_by_whole_pixels_is_a_shift() -> None:
    picture = torch.rand(1, 3, 8, 12)
    flow = torch.zeros(1, 2, 8, 12)
    flow[:, 0] = 2
    flow[:, 1] = -1
    moved = warp(picture, flow)
    assert torch.allclose(moved[:, :, 1:, :-2], picture[:, :, :-1, 2:], atol=1e-5)
    assert torch.allclose(moved[:, :, 0, :-2], picture[:, :, 0, 2:], atol=1e-5)  # the border repeats


def test_zero_flow_changes_nothing() -> None:
    picture = torch.rand(2, 3, 32, 32)
    assert torch.allclose(warp(picture, torch.zeros(2, 2, 32, 32)), picture, atol=1e-5)


def test_smallest_and_flat_pictures_are_finite() -> None:
    assert torch.isfinite(estimate_flow(torch.zeros(1, 3, 16, 32, 32), torch.zeros(1, 3, 32, 32))).all()
    assert torch.isfinite(estimate_flow(torch.rand(2, 3, 16, 32, 64), torch.rand(2, 3, 32, 64))).all()


def test_whole_pictures_move_by_a_flow_at_an_eighth_of_their_size() -> None:
    """By whole and half pixels they are the doubled picture's own; between these they mix as in ``warp``."""
    pictures, flow = torch.rand(2, 3, 48, 64), 5 * torch.randn(2, 2, 6, 8)
    large = doubled(pictures)
    assert torch.equal(large[..., ::2, ::2], pictures)
    moved = move(large, flow)
    ahead = 2 * upsample(flow, 8)
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    places = torch.stack((2 * x, 2 * y)) + ahead  # of the doubled picture
    grid = torch.stack(((2 * places[:, 0] + 1) / 128 - 1, (2 * places[:, 1] + 1) / 96 - 1), -1)
    wanted = F.grid_sample(large, grid, padding_mode="border", align_corners=False)
    assert torch.allclose(moved, wanted, atol=1e-4)
    still = move(large, torch.zeros_like(flow))
    assert torch.allclose(still, pictures, atol=1e-5)


def test_half_a_pixel_from_here_a_picture_is_as_sharp() -> None:
    """A wave of four pixels loses three tenths of its height half a pixel away if it is interpolated linearly."""
    wave = torch.sin(torch.arange(64) * math.pi / 2).expand(1, 3, 64, 64).contiguous()
    for picture, flow in ((wave, (0.5, 0.0)), (wave.transpose(2, 3).contiguous(), (0.0, 0.5))):
        moved = move(doubled(picture), torch.tensor(flow)[None, :, None, None].expand(1, 2, 8, 8))
        inner = moved[..., 8:56, 8:56]
        height = float(inner.abs().mean()) / math.sqrt(0.5)  # all samples of such a wave are that high
        assert 0.98 < height < 1.04


@pytest.mark.parametrize("size", [(8, 12), (9, 12), (8, 11), (455, 33)])
def test_halving_is_pooling_of_any_size(size: tuple[int, int]) -> None:
    x = torch.rand(2, 1, *size)
    assert torch.equal(halved(x), F.avg_pool2d(x, 2))
