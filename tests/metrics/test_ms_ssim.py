"""MS-SSIM against stored numbers of pytorch-msssim 1.0.0 exactly, and against torchmetrics within its other averaging."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from reducio_codec.errors import InputError
from reducio_codec.metrics.ms_ssim import MsSsimMeter, ms_ssim


def pair(seed: int, strength: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    smooth = np.stack([127 + 100 * np.sin(x / 17 + c) * np.cos(y / (11 + c)) for c in range(3)], -1)
    picture = (smooth + random.normal(0, 6, smooth.shape)).clip(0, 255).astype(np.uint8)
    return picture, (picture + random.normal(0, strength, smooth.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("arguments", [(0, 4, 176, 192), (1, 40, 176, 192), (7, 90, 256, 256)])
def test_agrees_with_torchmetrics(arguments: tuple[int, int, int, int]) -> None:
    """It averages the colours before it multiplies the scales, and counts reflected borders: up to 2e-4 here."""
    pictures = pair(*arguments)
    p, q = (torch.from_numpy(picture).permute(2, 0, 1)[None].double() for picture in pictures)  # (1, 3, H, W)
    expected = multiscale_structural_similarity_index_measure(p, q, data_range=255.0).item()
    assert ms_ssim(*pictures) == pytest.approx(expected, abs=3e-4)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [((0, 4, 176, 192), 0.994022993), ((1, 40, 176, 192), 0.761206077), ((2, 15, 201, 187), 0.935701669)],
)
def test_agrees_with_the_reference(arguments: tuple[int, int, int, int], expected: float) -> None:
    """``pytorch_msssim.ms_ssim(p, q, data_range=255)`` with p, q = (1, 3, H, W) doubles."""
    assert ms_ssim(*pair(*arguments)) == pytest.approx(expected, abs=2e-5)


def test_equal_and_opposite_pictures() -> None:
    picture, _ = pair(3, 1, 161, 161)
    assert ms_ssim(picture, picture) == pytest.approx(1)
    assert ms_ssim(picture, 255 - picture) == 0  # negative terms count as none


def test_small_pictures_have_none() -> None:
    picture, other = pair(4, 5, 160, 200)
    with pytest.raises(InputError, match="161"):
        ms_ssim(picture, other)
    meter = MsSsimMeter()
    meter.add(picture[None], other[None])
    assert meter.result() is None


def test_meter_is_the_mean() -> None:
    pairs = [pair(5, 5, 161, 170), pair(6, 30, 161, 170)]
    meter = MsSsimMeter()
    meter.add(*(np.stack(side) for side in zip(*pairs, strict=True)))
    assert meter.result() == pytest.approx(np.mean([ms_ssim(*each) for each in pairs]))
