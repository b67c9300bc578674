"""The motion encoder: 16 frames to the moments of a small latent (Sec. 3.1)."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from reducio_codec.config import ReducioConfig
from reducio_codec.models.reducio.attention import SelfAttention
from reducio_codec.models.reducio.layers import ConvKind, Downsample, GroupNorm, ResidualBlock, convolution


class EncoderLevel(nn.Module):
    """Residual blocks at one resolution, then a halving of it (none at the deepest level)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        depth: int,
        kind: ConvKind,
        groups: int,
        downsample: bool,
        temporal: bool = False,
    ) -> None:
        super().__init__()
        self.block = nn.ModuleList(
            ResidualBlock(in_channels if index == 0 else out_channels, out_channels, kind=kind, groups=groups)
            for index in range(depth)
        )
        self.downsample = Downsample(out_channels, kind=kind, temporal=temporal) if downsample else None

    def forward(self, x: Tensor) -> Tensor:
        """The map before the halving: (B, C_in, ..., H, W) to (B, C_out, ..., H, W)."""
        for block in self.block:
            x = block(x)
        return x


class MidBlock(nn.Module):
    """Residual block, attention over all positions, residual block."""

    def __init__(self, channels: int, *, kind: ConvKind, groups: int) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels, kind=kind, groups=groups)
        self.attn_1 = SelfAttention(channels, kind=kind, groups=groups)
        self.block_2 = ResidualBlock(channels, channels, kind=kind, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W), same shape out."""
        return cast(Tensor, self.block_2(self.attn_1(self.block_1(x))))


class MotionEncoder(nn.Module):
    """Frames to moments: levels that halve the picture, at the deepest levels time as well.

    It sees the pixels of all frames, never which of them is the key frame.
    """

    def __init__(self, config: ReducioConfig) -> None:
        super().__init__()
        kind, groups = config.conv, config.norm_groups
        widths = [config.base_channels * multiplier for multiplier in config.channel_multipliers]
        self.conv_in = convolution(3, config.base_channels, kind=kind)
        self.down = nn.ModuleList(
            EncoderLevel(
                widths[level - 1] if level else config.base_channels,
                width,
                depth=config.depth,
                kind=kind,
                groups=groups,
                downsample=level < config.levels - 1,
                temporal=config.halves_time(level),
            )
            for level, width in enumerate(widths)
        )
        self.mid = MidBlock(widths[-1], kind=kind, groups=groups)
        self.norm_out: nn.Module = GroupNorm(widths[-1], groups=groups)
        self.conv_out = convolution(widths[-1], 2 * config.latent_channels, kind=kind)

    def forward(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W) in [-1, 1] to moments (B, 2 z, T / f_t, H / f_s, W / f_s)."""
        h: Tensor = self.conv_in(video)  # (B, C, T, H, W)
        for level in self.down:
            h = level(h)  # (B, C_level, T_level, H_level, W_level)
            if level.downsample is not None:
                h = cast(nn.Module, level.downsample)(h)
        h = self.mid(h)  # (B, C_last, t, h, w)
        return cast(Tensor, self.conv_out(functional.silu(self.norm_out(h))))  # (B, 2 z, t, h, w)
