"""Attention over all positions of a feature map, as both encoders and the decoder have it at their deepest level."""

from __future__ import annotations

from typing import cast

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from reducio_codec.config import HEADS
from reducio_codec.models.reducio.layers import ConvKind, GroupNorm, convolution


def attend(query: Tensor, key: Tensor, value: Tensor, *, heads: int) -> Tensor:
    """Multi-head attention, scaled by the square root of a head's channels.

    Args:
        query: (B, N, C).
        key: (B, M, C).
        value: (B, M, C).

    Returns:
        (B, N, C).
    """
    q, k, v = (rearrange(x, "b n (h c) -> b h n c", h=heads) for x in (query, key, value))
    out = functional.scaled_dot_product_attention(q, k, v)  # (B, h, N, c)
    return rearrange(out, "b h n c -> b n (h c)")


class SelfAttention(nn.Module):
    """x + proj(attention(norm(x))) over all T * H * W positions."""

    def __init__(self, channels: int, *, kind: ConvKind, groups: int, heads: int = HEADS) -> None:
        super().__init__()
        self.heads = heads
        self.norm = GroupNorm(channels, groups=groups)
        self.q = convolution(channels, channels, kind=kind, kernel=1)
        self.k = convolution(channels, channels, kind=kind, kernel=1)
        self.v = convolution(channels, channels, kind=kind, kernel=1)
        self.proj_out = convolution(channels, channels, kind=kind, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ..., H, W), same shape out."""
        h = self.norm(x)
        q, k, v = (cast(Tensor, f(h)).flatten(2).transpose(1, 2) for f in (self.q, self.k, self.v))  # (B, N, C)
        out = attend(q, k, v, heads=self.heads).transpose(1, 2).reshape(x.shape)  # (B, C, ..., H, W)
        return x + cast(Tensor, self.proj_out(out))
