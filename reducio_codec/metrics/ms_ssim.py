"""MS-SSIM (Wang, Simoncelli and Bovik 2003): SSIM over five scales, per RGB channel, then their mean.

Odd sides are padded with zeros before they are halved, as ``pytorch-msssim`` has it, which learned codecs quote.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from reducio_codec.errors import InputError
from reducio_codec.metrics.ssim import WINDOW, ssim_and_contrast, to_channels

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales, the finest first."""

SMALLEST_SIDE = (WINDOW - 1) * 2 ** (len(WEIGHTS) - 1) + 1
"""161: at the coarsest scale the window has to fit."""


def ms_ssim(reference: NDArray[np.uint8], decoded: NDArray[np.uint8]) -> float:
    """MS-SSIM of two uint8 pictures ``(H, W, 3)``, sides of 161 or more; 1 for equal ones, never below 0."""
    if reference.shape != decoded.shape or min(reference.shape[:2]) < SMALLEST_SIDE:
        raise InputError(
            f"pictures are {reference.shape} and {decoded.shape}; "
            f"both must have one shape, and sides of {SMALLEST_SIDE} or more"
        )
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
