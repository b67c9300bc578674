"""The terms of the objective (Sec. 3.1; weights as in the published code). Videos are (B, 3, T, H, W) in [-1, 1]."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from reducio_codec.errors import InputError
from reducio_codec.metrics.ms_ssim import WEIGHTS
from reducio_codec.metrics.ssim import SIGMA, WINDOW
from reducio_codec.training.transfer import to_device

_CHARBONNIER = 1e-4
_L1_FLOOR, _L2_FLOOR = 5e-3, 2e-4
"""Errors below which a clip is good enough; without a floor the log of a still clip's error would rule the batch."""


def reconstruction_loss(decoded: Tensor, video: Tensor, *, kind: str, counted: Tensor | None = None) -> Tensor:
    """Mean over clips of a clip's error, by the names of ``recipe.Reconstruction``.

    Args:
        counted: (B, T) bool, the frames of each clip that count; None: all. A clip without any has no error.
    """
    difference = (decoded.float() - video.float()).transpose(1, 2).flatten(2)  # (B, T, 3*H*W)
    if kind == "l1":
        return _clip_means(difference.abs(), counted).mean()
    if kind == "log-l2":
        return torch.log(_clip_means(difference.square(), counted) + _L2_FLOOR).mean()
    error = _clip_means((difference.square() + _CHARBONNIER).sqrt(), counted)  # (B,)
    return error.mean() if kind == "charbonnier" else torch.log(error + _L1_FLOOR).mean()


def _clip_means(error: Tensor, counted: Tensor | None) -> Tensor:
    """(B, T, n) -> (B,)."""
    if counted is None:
        return error.mean((1, 2))
    frames = error.mean(2) * counted  # (B, T)
    return frames.sum(1) / counted.sum(1).clamp_min(1)


def rate_loss(latent: Tensor, widths: Tensor) -> Tensor:
    """About the bits of a value at ``latent_step`` 0.5: (B, z, t, h, w) and the channels' steps (z, 1, 1, 1)."""
    return torch.log2(1 + (latent.float() / (0.5 * widths)).abs()).mean()


def outlier_loss(decoded: Tensor) -> Tensor:
    """How far values lie more than three standard deviations above the mean of their frame and channel."""
    values = decoded.float()
    limit = values.mean((3, 4), keepdim=True) + 3 * values.std((3, 4), keepdim=True)
    return (values - limit).relu().mean()


def haar_loss(decoded: Tensor, video: Tensor) -> Tensor:
    """Mean absolute error of the Haar details (horizontal, vertical, diagonal) at two scales: sharpness, not colour."""
    a, b = (x.float().transpose(1, 2).flatten(0, 1) for x in (decoded, video))  # (B*T, 3, H, W)
    total = a.new_zeros(())
    for _ in range(2):
        total = total + (_details(a) - _details(b)).abs().mean()
        a, b = functional.avg_pool2d(a, 2), functional.avg_pool2d(b, 2)
    return total


def _details(x: Tensor) -> Tensor:
    blocks = functional.pixel_unshuffle(x, 2).unflatten(1, (-1, 4))  # (N, 3, 4, h, w)
    a, b, c, d = blocks.unbind(2)
    return torch.stack((a + b - c - d, a - b + c - d, a - b - c + d)) / 2


def ms_ssim_loss(decoded: Tensor, video: Tensor) -> Tensor:
    """1 - MS-SSIM of the frames, with as many of the five scales as fit above the 11 px window."""
    a, b = ((x.float().transpose(1, 2).flatten(0, 1) + 1) / 2 for x in (decoded, video))  # (B*T, 3, H, W), 0 to 1
    scales = max(1, min(len(WEIGHTS), int(math.log2(min(a.shape[2:]) / WINDOW)) + 1))
    weights = to_device(torch.tensor(WEIGHTS[:scales]), a.device)
    place = torch.arange(WINDOW, device=a.device) - WINDOW // 2
    line = torch.exp(-place.square() / (2 * SIGMA**2))
    line = line / line.sum()
    window = (line[:, None] * line).expand(3, 1, -1, -1)
    factors = []
    for scale in range(scales):
        mean_a, mean_b, aa, bb, ab = (functional.conv2d(x, window, groups=3) for x in (a, b, a * a, b * b, a * b))
        aa, bb, ab = aa - mean_a**2, bb - mean_b**2, ab - mean_a * mean_b
        contrast = (2 * ab + 0.03**2) / (aa + bb + 0.03**2)
        if scale == scales - 1:
            contrast = contrast * (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
        factors.append(contrast.mean((1, 2, 3)).clamp_min(1e-4))
        a, b = functional.avg_pool2d(a, 2), functional.avg_pool2d(b, 2)
    weights = weights / weights.sum()
    return 1 - (torch.stack(factors, 1) ** weights).prod(1).mean()


PerceptualLoss = Callable[[Tensor, Tensor], Tensor]
"""(decoded, video), both (B, 3, T, H, W) in [-1, 1], to a scalar."""


def perceptual_loss(name: str, *, trunk: str, device: torch.device) -> PerceptualLoss:
    """The loss of that name. ``lpips`` raises NeedsFileError where the VGG trunk isn't at hand; nothing is downloaded."""
    if name == "haar":
        return haar_loss
    if name == "ms-ssim":
        return ms_ssim_loss
    if name != "lpips":
        raise InputError(f"perceptual loss is {name!r}; allowed: haar, ms-ssim, lpips")
    from pathlib import Path

    from reducio_codec.metrics.lpips import Lpips

    metric = Lpips("vgg", trunk=Path(trunk) if trunk else None, device=str(device))
    return lambda decoded, video: metric.distance(
        *(x.float().transpose(1, 2).flatten(0, 1) for x in (decoded, video))
    ).mean()


def hinge_loss(logits: Tensor, *, real: bool) -> Tensor:
    """The discriminator's loss for logits of real or of decoded clips."""
    return functional.relu(1 - logits if real else 1 + logits).mean()


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last_layer: Tensor) -> Tensor:
    """What makes both losses' gradients at the decoder's last layer equally large (Esser et al. 2021), at most 10,000."""
    wanted, found = (
        torch.autograd.grad(loss, last_layer, retain_graph=True)[0].float().norm()
        for loss in (reconstruction, adversarial)
    )
    weight: Tensor = (wanted / (found + 1e-4)).clamp(0, 1e4).detach()
    return weight
