"""The terms of the objective, against closed forms and an independent implementation."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from reducio_codec.errors import InputError
from reducio_codec.metrics import lpips
from reducio_codec.metrics.ms_ssim import MsSsimMeter
from reducio_codec.metrics.weights import NeedsFileError
from reducio_codec.models.discriminator import PatchDiscriminator
from reducio_codec.train import losses
from reducio_codec.train.adversary import discriminator_factor
from reducio_codec.train.options import GanOptions
from reducio_codec.training.options import OptimizerOptions
from reducio_codec.training.schedule import rate_factor
from tests.helpers import moving_video


def videos(*, side: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    video = torch.from_numpy(moving_video(16, side, side)).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    noise = torch.randn(video.shape, generator=torch.Generator().manual_seed(0))
    return (video + 0.1 * noise).clamp(-1, 1), video


def test_reconstruction_by_closed_forms() -> None:
    video = torch.zeros(2, 3, 16, 4, 4)
    decoded = torch.full_like(video, 0.3)
    decoded[:, :, 7] = 0.9
    counted = (torch.arange(16) != 7).expand(2, 16)
    assert losses.reconstruction_loss(decoded, video, kind="l1", counted=counted).item() == pytest.approx(0.3)
    assert losses.reconstruction_loss(decoded, video, kind="l1").item() == pytest.approx(0.3 + 0.6 / 16)
    found = losses.reconstruction_loss(decoded, video, kind="log-l2", counted=counted).item()
    assert found == pytest.approx(math.log(0.09 + 2e-4), abs=1e-5)
    charbonnier = math.sqrt(0.09 + 1e-4)
    assert losses.reconstruction_loss(decoded, video, kind="charbonnier", counted=counted).item() == pytest.approx(
        charbonnier
    )
    found = losses.reconstruction_loss(decoded, video, kind="log-l1", counted=counted).item()
    assert found == pytest.approx(math.log(charbonnier + 5e-3), abs=1e-5)
    nothing = torch.stack((counted[0], torch.zeros(16, dtype=torch.bool)))
    assert losses.reconstruction_loss(decoded, video, kind="l1", counted=nothing).item() == pytest.approx(0.15)


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VGG-16's convolutions with random weights, in torchvision's layout."""
    torch.manual_seed(0)
    features = torchvision.models.vgg16(weights=None).features.state_dict()
    path = tmp_path_factory.mktemp("trunk") / "vgg16-397923af.pth"
    torch.save({f"features.{name}": value for name, value in features.items()}, path)
    return path


@pytest.mark.parametrize("name", ["haar", "ms-ssim", "lpips"])
def test_perceptual_losses_are_zero_for_equals_and_have_gradients(
    name: str, trunk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.sha256(trunk.read_bytes()).hexdigest()
    monkeypatch.setitem(lpips.TRUNKS, "vgg", (trunk.name, digest))  # the real file isn't at hand
    decoded, video = videos()
    loss = losses.perceptual_loss(name, trunk=str(trunk), device=torch.device("cpu"))
    assert loss(video, video).item() == pytest.approx(0, abs=1e-5)
    decoded.requires_grad_()
    value = loss(decoded, video)
    value.backward()
    assert value > 1e-4
    assert decoded.grad is not None and decoded.grad.isfinite().all() and decoded.grad.abs().sum() > 0


def test_ms_ssim_agrees_with_the_metric() -> None:
    decoded, video = videos(side=192)
    pair = [((x + 1) * 127.5).round().byte()[0].permute(1, 2, 3, 0).numpy() for x in (video, decoded)]
    meter = MsSsimMeter()
    meter.add(*(np.ascontiguousarray(clip) for clip in pair))
    expected = meter.result()
    assert expected is not None
    assert 1 - losses.ms_ssim_loss(decoded, video).item() == pytest.approx(expected, abs=0.02)


def test_lpips_without_its_trunk_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(NeedsFileError, match="vgg16-397923af"):
        losses.perceptual_loss("lpips", trunk=str(tmp_path / "vgg16-397923af.pth"), device=torch.device("cpu"))
    with pytest.raises(InputError, match="allowed: haar, ms-ssim, lpips"):
        losses.perceptual_loss("taste", trunk="", device=torch.device("cpu"))


def test_outliers_are_bright_and_rare() -> None:
    flat = torch.zeros(1, 3, 2, 32, 32)
    assert losses.outlier_loss(flat).item() == 0
    flat[0, 0, 0, 3, 3] = 1.0
    assert losses.outlier_loss(flat).item() > 0
    assert losses.outlier_loss(-flat).item() == 0


def test_rate_grows_with_the_latent() -> None:
    widths = torch.full((16, 1, 1, 1), 0.5)
    values = [losses.rate_loss(torch.full((1, 16, 4, 2, 2), x), widths).item() for x in (0.0, 0.25, 0.75)]
    assert values == pytest.approx([0, 1, 2])


def test_discriminator_is_the_published_one() -> None:
    with torch.device("meta"):
        network = PatchDiscriminator()
        logits = network(torch.empty(1, 3, 16, 256, 256))
    assert logits.shape == (1, 1, 2, 30, 30)
    assert sum(parameter.numel() for parameter in network.parameters()) == 4_216_641


def test_hinge_and_adaptive_weight() -> None:
    logits = torch.tensor([-2.0, 0.0, 2.0])
    assert losses.hinge_loss(logits, real=True).item() == pytest.approx((3 + 1 + 0) / 3)
    assert losses.hinge_loss(logits, real=False).item() == pytest.approx((0 + 1 + 3) / 3)
    layer = torch.ones(3, requires_grad=True)
    weight = losses.adaptive_weight((4 * layer).sum(), (2 * layer).sum(), layer)
    assert weight.item() == pytest.approx(2, rel=1e-3)
    assert losses.adaptive_weight((4 * layer).sum(), (0 * layer).sum(), layer).item() == 1e4


def test_schedules() -> None:
    cosine = OptimizerOptions(schedule="cosine", warmup=10, final=0.1)
    assert rate_factor(cosine, step=4, share=0.0) == pytest.approx(0.5)
    assert rate_factor(cosine, step=50, share=0.5) == pytest.approx(0.55)
    assert rate_factor(cosine, step=99, share=1.0) == pytest.approx(0.1)
    linear = OptimizerOptions(schedule="linear", final=0.01)
    assert rate_factor(linear, step=0, share=0.5) == pytest.approx(0.505)
    gan = GanOptions()
    assert [discriminator_factor(gan, step=step) for step in (0, 5000, 5500, 9000)] == pytest.approx(
        [0.1, 0.1, 0.55, 1]
    )
