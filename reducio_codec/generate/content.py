"""Content tokens: what the key picture looks like, place by place, at 1/16 of its size (Sec. 3.2)."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from reducio_codec.config import ReducioConfig
from reducio_codec.generate.config import DiTConfig
from reducio_codec.models.reducio.attention import SelfAttention
from reducio_codec.models.reducio.content import ContentEncoder
from reducio_codec.models.reducio.layers import NORM_GROUPS, GroupNorm, ResidualBlock

STRIDE = 16
"""Pixels for each content token along a side."""


class ImageVaeMid(nn.Module):
    """What the SD2.1-VAE's encoder does behind its deepest level, but for the convolution that makes its latent."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels, kind="image")
        self.attn_1 = SelfAttention(channels, kind="image", groups=NORM_GROUPS, heads=1)
        self.block_2 = ResidualBlock(channels, channels, kind="image")
        self.norm_out = GroupNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), same shape out."""
        return functional.silu(self.norm_out(self.block_2(self.attn_1(self.block_1(x)))))


class ImageVaeContent(nn.Module):
    """The SD2.1-VAE's encoder (1/8 of the size, 512 channels), with a convolution to 1/16 in the place of its latent.

    It is trained on together with the transformer.
    """

    def __init__(self, base: int) -> None:
        super().__init__()
        self.channels = 4 * base
        config = ReducioConfig(content_channels=base, fuse_levels=())
        self.trunk = ContentEncoder(config, mid=ImageVaeMid(self.channels))
        self.down = nn.Conv2d(self.channels, self.channels, 2, stride=2)

    def forward(self, keyframe: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] to (B, C, H / 16, W / 16)."""
        return cast(Tensor, self.down(self.trunk(keyframe).top))


class ConvContent(nn.Module):
    """A small encoder without pretrained weights: pixels unshuffled by 4, then two halvings with residual blocks."""

    def __init__(self, base: int) -> None:
        super().__init__()
        widths = (2 * base, 4 * base, 8 * base)
        self.conv_in = nn.Conv2d(48, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(width, width, kind="image") for width in widths)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths))
        self.channels = widths[-1]

    def forward(self, keyframe: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] to (B, C, H / 16, W / 16)."""
        h: Tensor = self.conv_in(functional.pixel_unshuffle(keyframe, 4))  # (B, 2 base, H / 4, W / 4)
        for number, block in enumerate(self.blocks):
            h = block(h)
            if number < len(self.down):
                h = self.down[number](h)
        return h


def content_encoder(config: DiTConfig) -> ImageVaeContent | ConvContent:
    """The encoder that ``config`` names."""
    return ImageVaeContent(config.content_base) if config.content == "sd" else ConvContent(config.content_base)
