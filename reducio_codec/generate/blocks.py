"""The transformer's parts: attention over latent tokens, cross-attention to conditions, and the block around them."""

from __future__ import annotations

from typing import cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from reducio_codec.generate.config import DiTConfig

NORM_EPS = 1e-6

KeyValue = tuple[Tensor, Tensor]
"""Keys and values of condition tokens for one layer: (B, heads, S, c) each."""


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """(B, N, C) with (B, 1, C) twice."""
    return x * (1 + scale) + shift


class SelfAttention(nn.Module):
    """Attention among the tokens of a sequence."""

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C), same shape out."""
        q, k, v = rearrange(self.qkv(x), "b n (three h c) -> three b h n c", three=3, h=self.heads)
        out = functional.scaled_dot_product_attention(q, k, v)  # (B, h, N, c)
        return cast(Tensor, self.proj(rearrange(out, "b h n c -> b n (h c)")))


class CrossAttention(nn.Module):
    """Attention to condition tokens. Their keys and values don't depend on the step: ``project`` makes them once."""

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def project(self, tokens: Tensor) -> KeyValue:
        """Condition tokens (B, S, C) to keys and values."""
        k, v = rearrange(self.kv(tokens), "b s (two h c) -> two b h s c", two=2, h=self.heads)
        return k, v

    def forward(self, x: Tensor, key_value: KeyValue, mask: Tensor) -> Tensor:
        """(B, N, C) with keys and values of S tokens and a ``mask`` (B, S), True where a token counts."""
        q = rearrange(self.q(x), "b n (h c) -> b h n c", h=self.heads)
        k, v = key_value
        out = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None])  # (B, h, N, c)
        return cast(Tensor, self.proj(rearrange(out, "b h n c -> b n (h c)")))


class Block(nn.Module):
    """Self-attention, cross-attention where there are condition tokens, MLP, each added to its input.

    AdaLN-single: shift, scale and gate of both modulated parts are one vector for the whole network plus a learned
    offset of the block (Sec. 3.2, PixArt-alpha). With factorised attention the first part sees the tokens of one time,
    and a second one, which starts at zero, the times of one place.
    """

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        width = config.width
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS, elementwise_affine=False)
        self.attn = SelfAttention(width, heads=config.heads)
        self.attn_time: SelfAttention | None = None
        if config.attention == "factorised":
            self.norm_time = nn.LayerNorm(width, eps=NORM_EPS)
            self.attn_time = SelfAttention(width, heads=config.heads)
        self.cross = CrossAttention(width, heads=config.heads) if config.content_at == "attention" else None
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS, elementwise_affine=False)
        hidden = config.mlp_ratio * width
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, width))
        self.offset = nn.Parameter(torch.zeros(6, width))

    def forward(self, x: Tensor, modulation: Tensor, key_value: KeyValue | None, mask: Tensor, *, times: int) -> Tensor:
        """One block.

        Args:
            x: (B, N, C), the N tokens time by time.
            modulation: (B, 6, C), the network's.
            key_value, mask: of the condition tokens; None for blocks without cross-attention.
            times: positions in time among the tokens.

        Returns:
            (B, N, C).
        """
        shift1, scale1, gate1, shift2, scale2, gate2 = (modulation + self.offset).chunk(6, dim=1)  # (B, 1, C) each
        h = modulate(self.norm1(x), shift1, scale1)  # (B, N, C)
        if self.attn_time is None:
            x = x + gate1 * self.attn(h)
        else:
            h = self.attn(rearrange(h, "b (t s) c -> (b t) s c", t=times))
            x = x + gate1 * rearrange(h, "(b t) s c -> b (t s) c", t=times)
            h = self.attn_time(rearrange(self.norm_time(x), "b (t s) c -> (b s) t c", t=times))
            x = x + rearrange(h, "(b s) t c -> b (t s) c", b=x.shape[0])
        if self.cross is not None and key_value is not None:
            x = x + self.cross(x, key_value, mask)  # (B, N, C)
        result: Tensor = x + gate2 * self.mlp(modulate(self.norm2(x), shift2, scale2))
        return result
