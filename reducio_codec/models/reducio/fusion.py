"""How a decoder takes in the key frame's features (Sec. 3.1, Tab. 6): attention, add or linear.

Each takes video features (B, C, T, H, W) and a content map (B, C_ctx, h, w), and gives (B, C, T, H, W).
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from reducio_codec.config import FusionName
from reducio_codec.models.reducio.attention import attend
from reducio_codec.models.reducio.layers import ConvKind, GroupNorm, convolution

HEAD_CHANNELS = 64
"""Channels of a head of the cross-attention: 8 heads at 512 channels, 4 at 256."""


def time_embedding(frames: int, channels: int, *, device: torch.device | str = "cpu") -> Tensor:
    """The fixed sinusoid over time: (1, T, 1, C) float32, sine at even channels, cosine at odd ones, base 10000. Made on the
    device: nothing has to be waited for, and it can be a part of a graph there.

    Position t and channel i have the angle t / 10000 ** (2 * (i // 2) / C).
    """
    channel = torch.arange(channels, device=device)
    pair = channel.double() // 2
    angle = torch.arange(frames, dtype=torch.float64, device=device)[:, None] / 10000.0 ** (
        2 * pair / channels
    )  # (T, C)
    odd = channel % 2 == 1
    return torch.where(odd, angle.cos(), angle.sin()).float()[None, :, None, :]


class AttentionFusion(nn.Module):
    """Every video token attends to every position of the content map.

    There is no position code on either side: matching is by content. A fixed sinusoid over time is added first and
    stays in the features, and keys and values come from the content map without a norm.
    """

    def __init__(self, channels: int, *, context_channels: int) -> None:
        super().__init__()
        self.checkpointing = False
        self.norm = nn.LayerNorm(channels)
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context_channels, channels, bias=False)
        self.to_v = nn.Linear(context_channels, channels, bias=False)
        self.to_out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """(B, C, T, H, W) and (B, C_ctx, h, w) to (B, C, T, H, W)."""
        if self.checkpointing and torch.is_grad_enabled():
            result: Tensor = checkpoint(self._forward, x, context, use_reentrant=False)
            return result
        return self._forward(x, context)

    def _forward(self, x: Tensor, context: Tensor) -> Tensor:
        batch, channels, time, height, width = x.shape
        embedding = time_embedding(time, channels, device=x.device).to(x.dtype)
        tokens = rearrange(x, "b c t h w -> b t (h w) c") + embedding  # (B, T, H W, C)
        tokens = tokens.reshape(batch, -1, channels)  # (B, T H W, C)
        content = rearrange(context.to(x.dtype), "b c h w -> b (h w) c")  # (B, h w, C_ctx)
        normed = functional.layer_norm(
            tokens.to(self.norm.weight.dtype), (channels,), self.norm.weight, self.norm.bias, self.norm.eps
        ).to(tokens.dtype)
        # Keys and values once for the clip: all frames look at the same picture.
        heads = max(1, channels // HEAD_CHANNELS)
        out = attend(self.to_q(normed), self.to_k(content), self.to_v(content), heads=heads)  # (B, T H W, C)
        tokens = tokens + self.to_out(out)
        fused: Tensor = rearrange(tokens, "b (t h w) c -> b c t h w", t=time, h=height, w=width)
        return fused


class AddFusion(nn.Module):
    """Content features through a convolution, repeated over time, added with a learned time embedding.

    The published code starts both convolutions and the norm at zero, which blocks every gradient. Here nothing does: see
    ``start_near_identity``.
    """

    def __init__(self, channels: int, *, context_channels: int, frames: int, kind: ConvKind, groups: int) -> None:
        super().__init__()
        self.temp_embed = nn.Parameter(0.02 * torch.randn(1, channels, frames, 1, 1))
        self.conv_context = nn.Conv2d(context_channels, channels, 3, padding=1)
        self.conv = convolution(channels, channels, kind=kind)
        self.norm = GroupNorm(channels, groups=groups)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """(B, C, T, H, W) and (B, C_ctx, H, W) to (B, C, T, H, W)."""
        content = self.conv_context(context.to(x.dtype))[:, :, None]  # (B, C, 1, H, W)
        h = self.conv(content + self.temp_embed + x)  # (B, C, T, H, W)
        return x + functional.silu(self.norm(h))


class LinearFusion(nn.Module):
    """Content features as one more frame; each frame becomes a learned mix of all T + 1, the same for every channel."""

    def __init__(self, channels: int, *, context_channels: int, frames: int, groups: int) -> None:
        super().__init__()
        self.conv_context = nn.Conv2d(context_channels, channels, 3, padding=1)
        self.conv = nn.Conv3d(frames + 1, frames, 1)
        self.norm = GroupNorm(channels, groups=groups)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """(B, C, T, H, W) and (B, C_ctx, H, W) to (B, C, T, H, W)."""
        content = self.conv_context(context.to(x.dtype))[:, :, None]  # (B, C, 1, H, W)
        frames = torch.cat([x, content], dim=2).transpose(1, 2)  # (B, T + 1, C, H, W)
        h = self.conv(frames).transpose(1, 2)  # (B, C, T, H, W)
        return x + functional.silu(self.norm(h))


def build_fusion(
    name: FusionName, *, channels: int, context_channels: int, frames: int, kind: ConvKind, groups: int
) -> nn.Module | None:
    """The fusion of that name; None for ``none``."""
    if name == "attention":
        return AttentionFusion(channels, context_channels=context_channels)
    if name == "add":
        return AddFusion(channels, context_channels=context_channels, frames=frames, kind=kind, groups=groups)
    if name == "linear":
        return LinearFusion(channels, context_channels=context_channels, frames=frames, groups=groups)
    return None
