"""MS-SSIM (Wang, Simoncelli and Bovik 2003): SSIM over five scales, per RGB channel, then their mean.

scikit-image has none. Odd sides are padded with zeros before they are halved, as ``pytorch-msssim`` has it, which learned
codecs quote.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from reducio_codec.errors import InputError
from reducio_codec.metrics.psnr import check_bytes
from reducio_codec.metrics.ssim import SIGMA, WINDOW

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales, the finest first."""

SMALLEST_SIDE = (WINDOW - 1) * 2 ** (len(WEIGHTS) - 1) + 1
"""161: at the coarsest scale the window has to fit."""

C1 = (0.01 * 255) ** 2
C2 = (0.03 * 255) ** 2


def ms_ssim(reference: NDArray[np.uint8], decoded: NDArray[np.uint8]) -> float:
    """MS-SSIM of two uint8 pictures ``(H, W, 3)``, sides of 161 or more; 1 for equal ones, never below 0."""
    check_bytes(reference, decoded, name="pictures")
    if min(reference.shape[:2]) < SMALLEST_SIDE:
        raise InputError(f"pictures are {reference.shape}; their shape must have sides of {SMALLEST_SIDE} or more")
    x, y = to_channels(reference), to_channels(decoded)  # (3, 1, H, W) each
    product = torch.ones(3, dtype=torch.float64)
    for scale, weight in enumerate(WEIGHTS):
        last = scale == len(WEIGHTS) - 1
        score, contrast = ssim_and_contrast(x, y)  # (3,) each
        product *= (score if last else contrast).clamp(min=0) ** weight
        if not last:
            odd = [side % 2 for side in x.shape[-2:]]
            x, y = (functional.avg_pool2d(picture, 2, padding=odd) for picture in (x, y))
    return float(product.mean())


def to_channels(picture: NDArray[np.uint8]) -> Tensor:
    """uint8 ``(H, W, 3)`` to floats ``(3, 1, H, W)`` from 0 to 255."""
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[:, None].float()


def ssim_and_contrast(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """SSIM, and its part without the luminance term (which MS-SSIM takes at the finer scales).

    ``x, y``: ``(C, 1, H, W)`` from 0 to 255, sides of 11 or more; gives two ``(C,)``, double precision.
    """
    mean_x, mean_y, xx, yy, xy = _blur(torch.cat([x, y, x * x, y * y, x * y])).chunk(5)  # (C, 1, H-10, W-10) each
    var_x, var_y, covariance = xx - mean_x * mean_x, yy - mean_y * mean_y, xy - mean_x * mean_y
    contrast = (2 * covariance + C2) / (var_x + var_y + C2)
    luminance = (2 * mean_x * mean_y + C1) / (mean_x * mean_x + mean_y * mean_y + C1)
    return (luminance * contrast).double().mean((1, 2, 3)), contrast.double().mean((1, 2, 3))


def _blur(pictures: Tensor) -> Tensor:
    """Gaussian blur of ``(N, 1, H, W)`` where the window fits: ``(N, 1, H-10, W-10)``.

    Shifted sums: on a CPU thirty times faster than a convolution of one channel.
    """
    offsets = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    kernel = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    weights = (kernel / kernel.sum()).tolist()
    for dim in (2, 3):
        length = pictures.shape[dim] - WINDOW + 1
        total = pictures.narrow(dim, 0, length) * weights[0]
        for shift, weight in enumerate(weights[1:], start=1):
            total.add_(pictures.narrow(dim, shift, length), alpha=weight)
        pictures = total
    return pictures


@dataclass
class MsSsimMeter:
    """Mean MS-SSIM over frames; holds two numbers."""

    _sum: float = field(default=0.0)
    _frames: int = field(default=0)

    def add(self, reference: NDArray[np.uint8], decoded: NDArray[np.uint8]) -> None:
        """Frames ``(T, H, W, 3)`` uint8. Frames with a side below 161 have no MS-SSIM and are left out."""
        for a, b in zip(reference, decoded, strict=True):
            if min(a.shape[:2]) >= SMALLEST_SIDE:
                self._sum += ms_ssim(a, b)
                self._frames += 1

    def result(self) -> float | None:
        """Mean over the frames so far; None if there was none of at least 161 x 161 pixels."""
        return self._sum / self._frames if self._frames else None
