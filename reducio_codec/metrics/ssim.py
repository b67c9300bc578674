"""SSIM (Wang et al. 2004): Gaussian window of 11 pixels, sigma 1.5, mean over RGB and the window's full positions."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from reducio_codec.errors import InputError
from reducio_codec.metrics.psnr import check_bytes

WINDOW = 11
SIGMA = 1.5


def ssim(reference: NDArray[np.uint8], decoded: NDArray[np.uint8]) -> float:
    """SSIM of two uint8 pictures ``(H, W, 3)``, sides of 11 pixels or more; 1 for equal ones."""
    check_bytes(reference, decoded, name="pictures")
    if min(reference.shape[:2]) < WINDOW:
        raise InputError(f"pictures are {reference.shape}; their shape must have sides of {WINDOW} or more")
    score = structural_similarity(
        reference,
        decoded,
        gaussian_weights=True,  # whose window is 11 wide at this sigma
        sigma=SIGMA,
        use_sample_covariance=False,
        data_range=255,
        channel_axis=2,
    )
    return float(score)


@dataclass
class SsimMeter:
    """Mean SSIM over frames; holds two numbers."""

    _sum: float = field(default=0.0)
    _frames: int = field(default=0)

    def add(self, reference: NDArray[np.uint8], decoded: NDArray[np.uint8]) -> None:
        """Frames ``(T, H, W, 3)`` uint8. Frames smaller than the window have no SSIM and are left out."""
        for a, b in zip(reference, decoded, strict=True):
            if min(a.shape[:2]) >= WINDOW:
                self._sum += ssim(a, b)
                self._frames += 1

    def result(self) -> float | None:
        """Mean over the frames so far; None if there was none of at least 11 x 11 pixels."""
        return self._sum / self._frames if self._frames else None
