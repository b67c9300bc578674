"""The motion decoder: a latent and a key frame's features to 16 frames (Sec. 3.1)."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from reducio_codec.config import FusionName, ReducioConfig
from reducio_codec.models.reducio.attention import SelfAttention
from reducio_codec.models.reducio.content import ContentPyramid
from reducio_codec.models.reducio.fusion import AttentionFusion, build_fusion
from reducio_codec.models.reducio.layers import ConvKind, GroupNorm, ResidualBlock, Upsample, convolution


class DecoderMid(nn.Module):
    """The deepest level. Its content map has another resolution than the latent, so its fusion is always attention."""

    def __init__(self, channels: int, *, context_channels: int | None, kind: ConvKind, groups: int) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels, kind=kind, groups=groups)
        self.fuse = None if context_channels is None else AttentionFusion(channels, context_channels=context_channels)
        self.attn_1 = SelfAttention(channels, kind=kind, groups=groups)
        self.block_2 = ResidualBlock(channels, channels, kind=kind, groups=groups)

    def forward(self, x: Tensor, content: ContentPyramid | None) -> Tensor:
        """(B, C, t, h, w), same shape out."""
        x = self.block_1(x)
        if self.fuse is not None:
            assert content is not None
            x = self.fuse(x, content.top)
        return cast(Tensor, self.block_2(self.attn_1(x)))


class DecoderLevel(nn.Module):
    """Residual blocks, the fusion with one content map, residual blocks, a doubling (none at the top level)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        depth: int,
        kind: ConvKind,
        groups: int,
        fuse: nn.Module | None,
        upsample: bool,
        temporal: bool,
    ) -> None:
        super().__init__()
        self.block_1 = nn.ModuleList(
            ResidualBlock(in_channels if index == 0 else out_channels, out_channels, kind=kind, groups=groups)
            for index in range(depth)
        )
        self.fuse = fuse
        self.block_2 = nn.ModuleList(
            ResidualBlock(out_channels, out_channels, kind=kind, groups=groups) for _ in range(depth)
        )
        self.upsample = Upsample(out_channels, kind=kind, temporal=temporal) if upsample else None

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        """(B, C_in, T, H, W) to (B, C_out, T or 2 T, 2 H, 2 W)."""
        for block in self.block_1:
            x = block(x)  # (B, C_out, T, H, W)
        if self.fuse is not None:
            assert context is not None
            x = self.fuse(x, context)
        for block in self.block_2:
            x = block(x)
        return x if self.upsample is None else cast(Tensor, self.upsample(x))


class MotionDecoder(nn.Module):
    """One decoder: everything between the shared latent and the pixels, with its own fusion.

    ``up`` is indexed as the encoder's levels are: level i works on maps of H / 2**i; it runs from the last to the first.
    """

    def __init__(self, config: ReducioConfig, *, fusion: FusionName) -> None:
        super().__init__()
        kind, groups = config.conv, config.norm_groups
        widths = [config.base_channels * multiplier for multiplier in config.channel_multipliers]
        context = [config.content_channels * multiplier for multiplier in config.content_multipliers]
        self.fusion: FusionName = fusion
        self.post_quant_conv = convolution(config.latent_channels, config.latent_channels, kind=kind, kernel=1)
        self.conv_in = convolution(config.latent_channels, widths[-1], kind=kind)
        self.mid = DecoderMid(
            widths[-1], context_channels=None if fusion == "none" else context[-1], kind=kind, groups=groups
        )
        self.up = nn.ModuleList(
            DecoderLevel(
                widths[min(level + 1, config.levels - 1)],
                width,
                depth=config.depth,
                kind=kind,
                groups=groups,
                fuse=build_fusion(
                    fusion if level in config.fuse_levels else "none",
                    channels=width,
                    context_channels=context[min(level, len(context) - 1)],
                    frames=config.frames_at(level),
                    kind=kind,
                    groups=groups,
                ),
                upsample=level > 0,
                # A level's doubling undoes the halving that the encoder makes one level above it.
                temporal=level > 0 and config.halves_time(level - 1),
            )
            for level, width in enumerate(widths)
        )
        self.norm_out: nn.Module = GroupNorm(widths[0], groups=groups)
        self.conv_out = convolution(widths[0], 3, kind=kind)
        self.fast_head: nn.Module | None = None

    def forward(self, latent: Tensor, content: ContentPyramid | None) -> Tensor:
        """(B, z, t, h, w) and the pyramid (None without fusion) to (B, 3, T, H, W)."""
        h: Tensor = self.conv_in(self.post_quant_conv(latent))  # (B, C_last, t, h, w)
        h = self.mid(h, content)
        for index in reversed(range(len(self.up))):
            context = None if content is None else content.levels.get(index)
            h = self.up[index](h, context)  # (B, C_level, T_level, H_level, W_level)
        return self.head(h)

    def head(self, h: Tensor) -> Tensor:
        """Features (B, C, T, H, W) to pixels (B, 3, T, H, W), not clipped."""
        if self.fast_head is not None:  # set by optimize_for_inference
            return cast(Tensor, self.fast_head(h))
        return cast(Tensor, self.conv_out(functional.silu(self.norm_out(h))))
