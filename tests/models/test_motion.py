"""The motion search finds what was moved, and the warp moves it back."""

import pytest
import torch
import torch.nn.functional as F

from reducio_codec.models.lite.blocks import upsample
from reducio_codec.models.motion import estimate_flow, halved, move, warp
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
    pictures, flow = torch.rand(2, 3, 48, 64), 5 * torch.randn(2, 2, 6, 8)
    assert torch.allclose(move(pictures, flow), warp(pictures, upsample(flow, 8)), atol=1e-4)


@pytest.mark.parametrize("size", [(8, 12), (9, 12), (8, 11), (455, 33)])
def test_halving_is_pooling_of_any_size(size: tuple[int, int]) -> None:
    x = torch.rand(2, 1, *size)
    assert torch.equal(halved(x), F.avg_pool2d(x, 2))
