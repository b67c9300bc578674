"""Sides that a model can take: repeat the last row and column up to a multiple, crop them off again."""

from __future__ import annotations

import torch
from torch import Tensor

from reducio_codec.config import PIXEL_MULTIPLE


def padded_length(length: int, *, multiple: int = PIXEL_MULTIPLE) -> int:
    """The smallest multiple of ``multiple`` that is not below ``length``."""
    return -(-length // multiple) * multiple


def window(picture: Tensor, *, top: int, left: int, height: int, width: int) -> Tensor:
    """Cut a window that may reach over the right and bottom edge; what lies outside repeats the last row or column.

    Cutting and padding in one step means that a whole padded copy of a 4K clip never exists.

    Args:
        picture: ``(..., H, W)``, any dtype.
        top, left: inside the picture, in pixels.
        height, width: of the window, in pixels.

    Returns:
        ``(..., height, width)``; a view where nothing had to be repeated.
    """
    view = picture[..., top : top + height, left : left + width]
    if view.shape[-2] < height:
        rows = torch.arange(height, device=view.device).clamp_(max=view.shape[-2] - 1)
        view = view.index_select(-2, rows)
    if view.shape[-1] < width:
        columns = torch.arange(width, device=view.device).clamp_(max=view.shape[-1] - 1)
        view = view.index_select(-1, columns)
    return view


def pad(picture: Tensor, *, multiple: int = PIXEL_MULTIPLE) -> Tensor:
    """Repeat the last row and column of ``(..., H, W)`` until both sides are multiples of ``multiple``."""
    height, width = picture.shape[-2:]
    return window(
        picture,
        top=0,
        left=0,
        height=padded_length(height, multiple=multiple),
        width=padded_length(width, multiple=multiple),
    )


def crop(picture: Tensor, *, height: int, width: int) -> Tensor:
    """Undo :func:`pad`: the top left ``height x width`` of ``(..., H, W)``, as a view."""
    return picture[..., :height, :width]
