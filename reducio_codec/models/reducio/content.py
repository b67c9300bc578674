"""The content encoder: the key frame to a feature pyramid that the decoders fuse (Sec. 3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from reducio_codec.config import ReducioConfig
from reducio_codec.models.reducio.attention import SelfAttention
from reducio_codec.models.reducio.encoder import EncoderLevel
from reducio_codec.models.reducio.layers import ResidualBlock, convolution


@dataclass(frozen=True)
class ContentPyramid:
    """Features of a key frame."""

    levels: Mapping[int, Tensor]
    """Level i: (B, C_i, H / 2**i, W / 2**i), for the levels that decoders fuse."""
    top: Tensor
    """Output of the attention after the deepest level: (B, C_last, H / 8, W / 8) with four levels."""


class ContentMid(nn.Module):
    """Residual block and attention. The published code computes a second block and a norm here and drops both."""

    def __init__(self, channels: int, *, groups: int) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels, kind="image", groups=groups)
        self.attn_1 = SelfAttention(channels, kind="image", groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), same shape out."""
        return cast(Tensor, self.attn_1(self.block_1(x)))


class ContentEncoder(nn.Module):
    """The image VAE's encoder without its latent: one for all decoders of a model.

    Args:
        mid: what follows the deepest level, of its width; the published model's unless given.
    """

    def __init__(self, config: ReducioConfig, *, mid: nn.Module | None = None) -> None:
        super().__init__()
        widths = [config.content_channels * multiplier for multiplier in config.content_multipliers]
        self.fuse_levels = config.fuse_levels
        self.conv_in = convolution(3, config.content_channels, kind="image")
        self.down = nn.ModuleList(
            EncoderLevel(
                widths[level - 1] if level else config.content_channels,
                width,
                depth=config.content_depth,
                kind="image",
                groups=config.norm_groups,
                downsample=level < len(widths) - 1,
            )
            for level, width in enumerate(widths)
        )
        self.mid = ContentMid(widths[-1], groups=config.norm_groups) if mid is None else mid

    def forward(self, keyframe: Tensor) -> ContentPyramid:
        """(B, 3, H, W) in [-1, 1] to its pyramid. Only the maps that decoders fuse are kept."""
        h: Tensor = self.conv_in(keyframe)  # (B, C, H, W)
        levels: dict[int, Tensor] = {}
        for index, level in enumerate(self.down):
            h = level(h)  # (B, C_i, H / 2**i, W / 2**i)
            if index in self.fuse_levels:
                levels[index] = h
            if level.downsample is not None:
                h = cast(nn.Module, level.downsample)(h)
        return ContentPyramid(levels=levels, top=self.mid(h))
