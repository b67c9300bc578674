"""PSNR and SSIM against scikit-image, torchmetrics and by hand."""

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import peak_signal_noise_ratio as torchmetrics_psnr
from torchmetrics.functional.image import structural_similarity_index_measure

from reducio_codec.errors import InputError
from reducio_codec.metrics.psnr import PsnrMeter, decibels, psnr
from reducio_codec.metrics.ssim import SsimMeter, ssim


def noisy(seed: int, strength: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    smooth = np.linspace(0, 255, 40)[None, None, :, None] * np.ones((4, 30, 40, 3))
    clip = (smooth + random.normal(0, 5, smooth.shape)).clip(0, 255).astype(np.uint8)
    other = (clip + random.normal(0, strength, smooth.shape)).clip(0, 255).astype(np.uint8)
    return clip, other


def test_pooled_is_scikit_images_over_the_clip() -> None:
    clip, other = noisy(0, 9)
    meter = PsnrMeter()
    meter.add(clip, other, keyframe=1)
    result = meter.result()
    assert result.pooled == pytest.approx(peak_signal_noise_ratio(clip, other), abs=1e-9)
    rest = np.delete(clip, 1, axis=0), np.delete(other, 1, axis=0)
    assert result.pooled_without_keyframe == pytest.approx(peak_signal_noise_ratio(*rest), abs=1e-9)
    frames = [peak_signal_noise_ratio(a, b) for a, b in zip(clip, other, strict=True)]
    assert result.paper == pytest.approx(np.mean(frames), abs=1e-3)  # the floor of 1e-8


def test_pooled_and_ssim_are_torchmetrics() -> None:
    clip, other = noisy(8, 12)
    a, b = (torch.from_numpy(frames).permute(0, 3, 1, 2).double() for frames in (clip, other))  # (T, 3, H, W)
    meter, similarity = PsnrMeter(), SsimMeter()
    meter.add(clip, other, keyframe=0)
    assert meter.result().pooled == pytest.approx(torchmetrics_psnr(b, a, data_range=255.0).item(), abs=1e-6)
    similarity.add(clip, other)
    _, everywhere = structural_similarity_index_measure(b, a, data_range=255.0, return_full_image=True)
    assert similarity.result() == pytest.approx(
        everywhere[..., 5:-5, 5:-5].mean().item(), abs=2e-5
    )  # in single precision; it reflects borders


def test_means_over_clips() -> None:
    meter = PsnrMeter()
    clips = [noisy(1, 3), noisy(2, 30)]
    for clip, other in clips:
        meter.add(clip, other, keyframe=0)
    assert meter.result().pooled == pytest.approx(np.mean([peak_signal_noise_ratio(*pair) for pair in clips]))


def test_definitions_differ_when_only_the_key_frame_is_good() -> None:
    clip, other = noisy(3, 20)
    other[2] = clip[2]
    meter = PsnrMeter()
    meter.add(clip, other, keyframe=2)
    result = meter.result()
    assert result.paper > result.pooled > result.pooled_without_keyframe


def test_equal_clips_and_single_frames() -> None:
    clip, _ = noisy(4, 1)
    meter = PsnrMeter()
    meter.add(clip[:1], clip[:1], keyframe=0)
    result = meter.result()
    assert result.paper == result.pooled == pytest.approx(80)
    assert result.pooled_without_keyframe is None


def test_one_ceiling_for_equal_pictures() -> None:
    clip, other = noisy(9, 5)
    assert psnr(clip, clip) == decibels(0.0) == pytest.approx(80)
    assert psnr(clip, other) == pytest.approx(peak_signal_noise_ratio(clip, other), abs=1e-9)


def test_wrong_input() -> None:
    clip, _ = noisy(5, 1)
    with pytest.raises(InputError, match="one shape"):
        PsnrMeter().add(clip, clip[:2], keyframe=0)
    with pytest.raises(InputError, match="at least one"):
        PsnrMeter().result()


@pytest.mark.parametrize("strength", [1, 10, 60])
def test_ssim_is_scikit_images(strength: int) -> None:
    clip, other = noisy(6, strength)
    for a, b in zip(clip, other, strict=True):
        expected = structural_similarity(
            a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=2
        )
        assert ssim(a, b) == expected


def test_ssim_meter() -> None:
    clip, other = noisy(7, 10)
    meter = SsimMeter()
    assert meter.result() is None
    meter.add(clip[:, :5], other[:, :5])
    assert meter.result() is None
    meter.add(clip, other)
    assert meter.result() == pytest.approx(np.mean([ssim(a, b) for a, b in zip(clip, other, strict=True)]))
    with pytest.raises(InputError, match="sides of 11"):
        ssim(clip[0, :5], other[0, :5])
