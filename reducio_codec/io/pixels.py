"""Bytes and floats: uint8 pixels in files and cameras, floats in [-1, 1] in models."""

from __future__ import annotations

import torch
from torch import Tensor


def to_unit(pixels: Tensor) -> Tensor:
    """uint8 in 0..255 to float32 in [-1, 1]; floats become float32. Same shape."""
    if pixels.dtype == torch.uint8:
        return pixels.to(torch.float32).mul_(1 / 127.5).sub_(1)
    return pixels.to(torch.float32)


def to_bytes(unit: Tensor) -> Tensor:
    """Floats in [-1, 1], beyond which they are clipped, to uint8; the exact inverse of :func:`to_unit`. Same shape."""
    if unit.dtype == torch.uint8:
        return unit
    return unit.to(torch.float32).mul(127.5).add_(128).clamp_(0, 255).to(torch.uint8)  # cut off, 127.5 + 0.5 is rounded
