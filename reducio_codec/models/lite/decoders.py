"""Decoders of the small model: ``warp`` moves the key frame; the others fuse it the paper's ways (Sec. 3.1, Tab. 6).

All start from the same point: the last layer is zero, so an untrained decoder repeats the key frame ("warp" moves it by
the latent's linear flow; "none", which has no key frame, gives grey).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from reducio_codec.config import CLIP_LENGTH, LiteConfig
from reducio_codec.models.contract import Reference
from reducio_codec.models.lite.blocks import (
    SLOTS,
    KeyframePyramid,
    LatentTrunk,
    ResBlock,
    act,
    conv,
    fold_slots,
    per_frame,
    upsample,
    zero_conv,
)
from reducio_codec.models.motion import warp
from reducio_codec.models.precision import exact


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """What a clip is decoded from."""

    latent: Tensor
    """(B, z, 4, h, w), normalised."""
    raw: Tensor
    """The same before normalisation: its flow is in pixels."""
    references: tuple[Reference, ...]

    @property
    def own(self) -> Reference:
        """The one that lies in the clip: the latent's flow leads to it."""
        return next(item for item in self.references if not item.beside)

    @property
    def beside(self) -> tuple[Reference, ...]:
        """Those of other clips."""
        return tuple(item for item in self.references if item.beside)


class WarpResult(NamedTuple):
    """What ``WarpDecoder`` made of a clip, and how."""

    frames: Tensor
    """(B*16, 3, H, W) float32."""
    flow: Tensor
    """(B*16, 2, H/8, W/8) float32: from each frame to the key frame, in pixels."""
    features_8: Tensor
    """(B*16, C8, H/8, W/8)."""
    features_4: Tensor
    """(B*16, C4, H/4, W/4)."""


class WarpDecoder(nn.Module):
    """Flow from the latent, key-frame features and pixels warped by it, a gate for occlusions, and a residual."""

    def __init__(self, config: LiteConfig) -> None:
        super().__init__()
        c4, c8, c16 = config.channels_4, config.channels_8, config.channels_16
        self.flow_out = nn.ConvTranspose2d(
            SLOTS * config.latent_channels, 2 * CLIP_LENGTH, 2, 2, groups=SLOTS, bias=False
        )
        self.residual_out = nn.ConvTranspose2d(
            SLOTS * config.latent_channels, 3 * CLIP_LENGTH, 8, 8, groups=SLOTS, bias=False
        )
        nn.init.zeros_(self.residual_out.weight)
        self.trunk = LatentTrunk(config)
        self.content = KeyframePyramid(config)
        self.in_8 = conv(c16 + 2 * c4 + 2, c8)
        self.blocks_8 = nn.Sequential(ResBlock(c8, temporal=True), ResBlock(c8, temporal=True))
        self.flow_8 = zero_conv(c8, 2)
        self.up_4 = conv(c8, 4 * c16)
        self.in_4 = conv(c16 + c4 // 2 + 48 + 3, c4)
        self.blocks_4 = nn.Sequential(ResBlock(c4), ResBlock(c4))
        self.out_4 = zero_conv(c4, 48 + 16)

    def forward(self, parts: Parts) -> Tensor:
        """The clip's frames, (B*16, 3, H, W)."""
        return self.explain(parts).frames

    def explain(self, parts: Parts) -> WarpResult:
        """``forward`` with what led to it."""
        raw, keyframe = parts.raw, parts.own.picture
        with exact(raw.device):  # a flow of 30 px in bfloat16 is wrong by 0.1 px
            flow = self.flow_out(fold_slots(raw.float()))  # (B, 32, H/16, W/16), pixels
            linear = self.residual_out(fold_slots(raw.float()))  # (B, 48, H/4, W/4)
        linear = rearrange(linear, "b (t c) h w -> (b t) c h w", t=CLIP_LENGTH)
        flow = upsample(rearrange(flow, "b (t c) h w -> (b t) c h w", t=CLIP_LENGTH).float(), 2)  # (B*16, 2, H/8, W/8)
        content_4, content_8 = (per_frame(x) for x in self.content(keyframe))
        x = upsample(self.trunk(parts.latent), 2)  # (B*16, C16, H/8, W/8)
        moved_8 = _warp_features(content_8, flow / 8)
        x = self.in_8(torch.cat((x, moved_8, content_8, (flow / 8).to(x.dtype)), 1))
        x = features_8 = self.blocks_8(act(x))  # (B*16, C8, H/8, W/8)
        flow = flow + self.flow_8(x).float()
        moved = warp(per_frame(keyframe.float()), upsample(flow, 8))  # (B*16, 3, H, W)
        moved_4 = _warp_features(content_4, upsample(flow, 2) / 4)
        x = F.pixel_shuffle(self.up_4(x), 2)  # (B*16, C16, H/4, W/4)
        x = self.in_4(torch.cat((act(x), moved_4, F.pixel_unshuffle(moved, 4).to(x.dtype), linear.to(x.dtype)), 1))
        features_4 = act(self.blocks_4(act(x)))  # (B*16, C4, H/4, W/4)
        x = self.out_4(features_4)  # (B*16, 64, H/4, W/4)
        # Whole pictures in float32 are what memory goes to from here on: as few at a time as can be.
        gate = F.pixel_shuffle(x[:, 48:].float(), 4).unflatten(0, (-1, CLIP_LENGTH))  # (B, 16, 1, H, W)
        moved = moved.unflatten(0, (-1, CLIP_LENGTH)).lerp(keyframe.float()[:, None], gate).flatten(0, 1)
        del gate
        result: Tensor = moved.add_(F.pixel_shuffle(x[:, :48].float(), 4)).add_(upsample(linear, 4))
        return WarpResult(result, flow, features_8, features_4)


def _warp_features(features: Tensor, flow: Tensor) -> Tensor:
    return warp(features.float(), flow).to(features.dtype)


class FusionDecoder(nn.Module):
    """The paper's fusions at the small model's size: attention, add, linear; or none, which never sees the key frame."""

    def __init__(self, config: LiteConfig, fusion: str) -> None:
        super().__init__()
        c4, c8, c16 = config.channels_4, config.channels_8, config.channels_16
        self.fusion = fusion
        self.trunk = LatentTrunk(config)
        self.in_8 = conv(c16, c8)
        self.before_8 = ResBlock(c8, temporal=True)
        self.blocks_8 = nn.Sequential(ResBlock(c8, temporal=True), ResBlock(c8, temporal=True))
        self.up_4 = conv(c8, 4 * c16)
        self.in_4 = conv(c16, c4)
        self.blocks_4 = nn.Sequential(ResBlock(c4), ResBlock(c4))
        self.out_4 = zero_conv(c4, 48)
        if fusion != "none":
            self.content = KeyframePyramid(config)
            self.fuse_8 = _FUSIONS[fusion](c8, c4)
            # at a quarter of the size attention over all pairs is out of reach; it adds there
            self.fuse_4 = _FUSIONS["add" if fusion == "attention" else fusion](c4, c4 // 2)

    def forward(self, parts: Parts) -> Tensor:
        """The clip's frames, (B*16, 3, H, W)."""
        x = self.before_8(act(self.in_8(upsample(self.trunk(parts.latent), 2))))  # (B*16, C8, H/8, W/8)
        if self.fusion != "none":
            keyframe = parts.own.picture
            content_4, content_8 = self.content(keyframe)
            x = self.fuse_8(x, content_8)
        x = self.blocks_8(x)
        x = act(self.in_4(act(F.pixel_shuffle(self.up_4(x), 2))))  # (B*16, C4, H/4, W/4)
        if self.fusion != "none":
            x = self.fuse_4(x, content_4)
        x = F.pixel_shuffle(self.out_4(act(self.blocks_4(x))).float(), 4)  # (B*16, 3, H, W)
        return x if self.fusion == "none" else x + per_frame(keyframe.float())


class LiteAddFusion(nn.Module):
    """Content plus an embedding of the frame's time, added, then a convolution."""

    def __init__(self, channels: int, content: int) -> None:
        super().__init__()
        self.project = conv(content, channels)
        self.time = nn.Parameter(0.02 * torch.randn(CLIP_LENGTH, channels, 1, 1))
        self.merge = ResBlock(channels)

    def forward(self, x: Tensor, content: Tensor) -> Tensor:  # (B*16, C, h, w), (B, K, h, w)
        time = self.time.to(x.dtype).repeat(content.shape[0], 1, 1, 1)
        merged: Tensor = self.merge(x + per_frame(self.project(content)) + time)
        return merged


class LiteLinearFusion(nn.Module):
    """Content as a seventeenth frame; a linear map over time, the same for all channels, refines (Sec. 3.1)."""

    def __init__(self, channels: int, content: int) -> None:
        super().__init__()
        self.project = conv(content, channels)
        self.mix = nn.Linear(CLIP_LENGTH + 1, CLIP_LENGTH)
        # the identity at first: a random mix is soon trained to cancel what it is added to, and stays there
        nn.init.zeros_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)

    def forward(self, x: Tensor, content: Tensor) -> Tensor:  # (B*16, C, h, w), (B, K, h, w)
        frames = torch.cat((x.unflatten(0, (-1, CLIP_LENGTH)), self.project(content)[:, None]), 1)  # (B, 17, C, h, w)
        mixed = torch.einsum("btchw,st->bschw", frames, self.mix.weight.to(x.dtype))
        mixed = mixed + self.mix.bias.to(x.dtype)[:, None, None, None]
        return x + act(mixed.flatten(0, 1))


class LiteAttentionFusion(nn.Module):
    """Every position of every frame attends to the whole key frame, by what is there and by how far away it is.

    Places enter as rotations of queries and keys (RoPE, arXiv 2104.09864; half of the pairs turn with the row, half with
    the column), so that only distances count: a tile larger than the training's crops has no unknown places.
    """

    def __init__(self, channels: int, content: int) -> None:
        super().__init__()
        self.heads = next(heads for heads in (4, 2, 1) if channels % (4 * heads) == 0)
        pairs = channels // self.heads // 4  # of a head's channels that turn with the row; as many turn with the column
        self.query = conv(channels, channels, kernel=1)
        self.key = conv(content, channels, kernel=1)
        self.value = conv(content, channels, kernel=1)
        self.out = conv(channels, channels, kernel=1)
        self.rates = [100 ** -(pair / pairs) for pair in range(pairs)]

    def forward(self, x: Tensor, content: Tensor) -> Tensor:  # (B*16, C, h, w), (B, K, h, w)
        height, width = x.shape[-2:]
        rates = torch.cat([x.new_full((1,), rate, dtype=torch.float32) for rate in self.rates])
        angles = _angles(height, width, rates)  # (h*w, C/heads/2)
        split = "(b t) (n c) h w -> b n t (h w) c"
        query = _turn(rearrange(self.query(x), split, t=CLIP_LENGTH, n=self.heads), angles).flatten(2, 3)
        key = _turn(rearrange(self.key(content), split, t=1, n=self.heads), angles).flatten(2, 3)
        value = rearrange(self.value(content), split, t=1, n=self.heads).flatten(2, 3)
        found = F.scaled_dot_product_attention(query, key, value)  # (B, heads, 16*h*w, C/heads)
        found = rearrange(found, "b n (t h w) c -> (b t) (n c) h w", t=CLIP_LENGTH, h=height, w=width)
        fused: Tensor = x + self.out(found)
        return fused


def _angles(height: int, width: int, rates: Tensor) -> Tensor:
    """(h*w, 2 * rates): by how much each pair of channels turns at each place, rows first; wavelengths from 6 positions."""
    rows = (torch.arange(height, device=rates.device)[:, None] * rates)[:, None].expand(-1, width, -1)
    columns = (torch.arange(width, device=rates.device)[:, None] * rates)[None].expand(height, -1, -1)
    return torch.cat((rows, columns), -1).flatten(0, 1)


def _turn(x: Tensor, angles: Tensor) -> Tensor:
    """x (..., N, C) with channels i and i + C/2 as a pair, turned by angles (N, C/2); x's dtype, computed in float32."""
    first, second = x.float().chunk(2, -1)
    sine, cosine = angles.sin(), angles.cos()
    return torch.cat((first * cosine - second * sine, first * sine + second * cosine), -1).to(x.dtype)


_FUSIONS: dict[str, type[LiteAddFusion] | type[LiteLinearFusion] | type[LiteAttentionFusion]] = {
    "add": LiteAddFusion,
    "linear": LiteLinearFusion,
    "attention": LiteAttentionFusion,
}
