"""Attention over the places around the one that a frame's flow names."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reducio_codec.models.lite.blocks import conv, idle, zero_conv

SHIFTS = tuple((row, column) for row in (0, 2, 4) for column in (0, 2, 4))
"""Corners of the shifted map in one that is padded by ``RIM``: every second position, since convolutions see those between."""
RIM = 2


class LocalAttention(nn.Module):
    """Each position asks 3x3 of the 5x5 positions of the moved content around it, by what is there and where it lies.

    Nothing depends on a position's place in the picture, so tiles of any size agree. The last layer starts at zero.
    """

    def __init__(self, channels: int, content: int) -> None:
        super().__init__()
        self.heads = next(heads for heads in (4, 2, 1) if content % heads == 0)
        self.query = conv(channels, content, kernel=1)
        self.key = conv(content, content, kernel=1)
        self.value = conv(content, content, kernel=1)
        self.place = nn.Parameter(torch.zeros(len(SHIFTS), self.heads))
        self.out = zero_conv(content, channels)
        self.scale = (content // self.heads) ** -0.5

    def forward(self, x: Tensor, moved: Tensor) -> Tensor:
        """x (N, C, h, w) and content (N, K, h, w) -> (N, C, h, w)."""
        if idle(self.out):
            return x
        query = self._split(self.query(x) * self.scale)  # (N, heads, K / heads, h, w)
        key, value = (self._split(self._padded(layer(moved))) for layer in (self.key, self.value))  # h + 4, w + 4
        height, width = x.shape[-2:]
        scores = torch.stack([(query * key[..., i : i + height, j : j + width]).sum(2) for i, j in SHIFTS], 1).float()
        share = torch.softmax(scores + self.place[None, :, :, None, None], 1).to(x.dtype)  # (N, 9, heads, h, w)
        found = sum(share[:, n, :, None] * value[..., i : i + height, j : j + width] for n, (i, j) in enumerate(SHIFTS))
        assert isinstance(found, Tensor)
        result: Tensor = x + self.out(found.flatten(1, 2))
        return result

    def _split(self, x: Tensor) -> Tensor:
        heads: Tensor = x.unflatten(1, (self.heads, -1))
        return heads

    @staticmethod
    def _padded(x: Tensor) -> Tensor:
        return F.pad(x, (RIM,) * 4, mode="replicate")
