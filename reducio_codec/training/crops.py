"""Decoded frames cut and resized to the square of a clip."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional


def resize(frames: Tensor, *, height: int, width: int) -> Tensor:
    """(n, H, W, 3) uint8 to (3, n, height, width) uint8: bilinear, averaged where it shrinks."""
    x = frames.permute(0, 3, 1, 2)  # (n, 3, H, W)
    if x.shape[2:] != (height, width):
        floats = functional.interpolate(x.float(), (height, width), mode="bilinear", antialias=True)
        x = floats.round_().clamp_(0, 255).to(torch.uint8)
    return x.transpose(0, 1).contiguous()


def centre_crop(frames: Tensor, *, side: int) -> npt.NDArray[np.uint8]:
    """(n, H, W, 3) to (n, side, side, 3) uint8: the shorter side resized to ``side``, the centre cut out."""
    height, width = frames.shape[1:3]
    scale = side / min(height, width)
    clip = resize(frames, height=max(side, round(height * scale)), width=max(side, round(width * scale)))
    top, left = (clip.shape[2] - side) // 2, (clip.shape[3] - side) // 2
    clip = clip[:, :, top : top + side, left : left + side]  # (3, n, side, side)
    return np.ascontiguousarray(clip.permute(1, 2, 3, 0).numpy())
