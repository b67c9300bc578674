"""Decoders on aligned content: every one starts from the latent's linear flow and residual, and training only adds.

The references' features and pixels are moved by that flow before anything is fused, and the last layers start at zero, so an
untrained decoder gives the hand-made code. They differ in what they spend (Sec. 3.1, Tab. 6: the names are the paper's):
``linear`` goes the shortest way from one reference to pixels, see ``fast``; ``add`` goes a longer one and adds what a second
reference shows; ``attention`` (and ``sharp``, the same network trained for the eye) is deeper and attends to the places around
the one that the flow names.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reducio_codec.config import LiteConfig
from reducio_codec.models.lite.between import Between, disagreement, moved_small
from reducio_codec.models.lite.blocks import (
    KeyframePyramid,
    LatentTrunk,
    ResBlock,
    act,
    blocks_to_pixels,
    conv,
    conv_act,
    idle,
    joined,
    of_each,
    pixels_to_blocks,
    runs_now,
    upsample,
    zero_conv,
)
from reducio_codec.models.lite.frames import MAPS, FrameDecoder, FrameMaker, by_frames, size_of
from reducio_codec.models.lite.linear_code import Clue, doubled_pictures, moved_pictures, spread, warp_features
from reducio_codec.models.lite.local_attention import LocalAttention
from reducio_codec.models.lite.plan import Plan
from reducio_codec.models.lite.second import SecondReference
from reducio_codec.models.motion import warp


class LatentOnlyDecoder(nn.Module):
    """``none``: the latent alone, without any reference; untrained it is grey."""

    def __init__(self, config: LiteConfig) -> None:
        super().__init__()
        c4, c8, c16 = config.channels_4, config.channels_8, config.channels_16
        self.trunk = LatentTrunk(config)
        self.in_8 = conv(c16, c8)
        self.before_8 = ResBlock(c8, temporal=True)
        self.blocks_8 = nn.Sequential(ResBlock(c8, temporal=True), ResBlock(c8, temporal=True))
        self.up_4 = conv(c8, 4 * c16)
        self.in_4 = conv(c16, c4)
        self.blocks_4 = nn.Sequential(ResBlock(c4), ResBlock(c4))
        self.out_4 = zero_conv(c4, 48)

    def forward(self, latent: Tensor) -> Tensor:
        """(B, z, 4, h, w) normalised -> (B*16, 3, H, W)."""
        x = self.before_8(conv_act(self.in_8, upsample(self.trunk(latent), 2)))  # (B*16, C8, H/8, W/8)
        x = F.pixel_shuffle(self.up_4(self.blocks_8(x)), 2)  # (B*16, C16, H/4, W/4)
        x = self.blocks_4(conv_act(self.in_4, act(x)))  # (B*16, C4, H/4, W/4)
        return F.pixel_shuffle(self.out_4(act(x)).float(), 4)


@dataclass(frozen=True, kw_only=True)
class Effort:
    """What a decoder spends beyond the rest."""

    blocks_8: int
    """Residual blocks at an eighth of the size."""
    blocks_4: int
    """At a quarter."""
    looks_around: bool
    """Attention over the places around those that the flow names."""


EFFORTS = {
    "attention": Effort(blocks_8=2, blocks_4=2, looks_around=True),
    "sharp": Effort(blocks_8=2, blocks_4=2, looks_around=True),
    "add": Effort(blocks_8=2, blocks_4=2, looks_around=False),
}


class _Some(NamedTuple):
    """What is known of n of the frames when their pictures are made."""

    near: Tensor
    """(n,): the reference of each."""
    flow: Tensor
    """(n, 2, H/8, W/8) float32, to there."""
    features_8: Tensor
    """(n, C8, H/8, W/8)."""
    residual: Tensor
    """(n, 3, H/4, W/4) float32, of the latent."""


class AlignedDecoder(FrameDecoder):
    """A frame from its near reference, then, where there is a second one, from both."""

    def __init__(self, config: LiteConfig, effort: Effort) -> None:
        super().__init__()
        c4, c8, c16 = config.channels_4, config.channels_8, config.channels_16
        self.content = KeyframePyramid(config)
        self.in_8 = conv(c16 + 2 * c4 + 2, c8)
        self.blocks_8 = nn.Sequential(*(ResBlock(c8, temporal=True) for _ in range(effort.blocks_8)))
        self.flow_8 = zero_conv(c8, 2)
        # what lies between the blocks sees one position: at this size to look around is what a decoder costs
        self.up_4 = conv(c8, 4 * c16, kernel=1)
        self.in_4 = conv(c16 + c4 // 2 + 48 + 3, c4, kernel=1)
        self.blocks_4 = nn.Sequential(*(ResBlock(c4) for _ in range(effort.blocks_4)))
        self.out_4 = zero_conv(c4, 48 + 16, kernel=1)
        self.around_8 = LocalAttention(c8, c4) if effort.looks_around else None
        self.between_8 = zero_conv(_EVIDENCE, c8)
        self.second = SecondReference(config)

    def prepare(
        self, features: Tensor, clue: Clue, pictures: Tensor, *, plan: Plan, between: Between | None
    ) -> FrameMaker:
        """See ``FrameDecoder``."""
        pictures = pictures.float()
        content_4, content_8 = self.content(pictures)  # (B*R, C4/2, H/4, W/4), (B*R, C4, H/8, W/8)
        small = pictures if between is None else F.avg_pool2d(pictures, 4)  # (B*R, 3, H/4, W/4)

        def fused(some: slice) -> Tensor:  # of n of the frames: (n, C8, H/8, W/8)
            flow = clue.flow[some]
            still_8 = of_each(content_8, plan.near[some])  # (n, C4, H/8, W/8)
            moved_8 = warp_features(still_8, flow / 8)
            x = upsample(features[some], 2)  # (n, C16, H/8, W/8)
            x = self.in_8(joined(x, moved_8, still_8, flow / 8))  # (n, C8, H/8, W/8)
            if between is not None and not idle(self.between_8):
                x = self._with_evidence(x, small, flow, plan=plan, between=between, some=some)
            if self.around_8 is not None:
                x = self.around_8(x, moved_8)
            return act(x)

        size = size_of(pictures)
        features_8 = by_frames(fused, features, size=size, most=MAPS)
        for block in self.blocks_8:
            features_8 = by_frames(partial(block, features_8), features_8, size=size, most=MAPS)
        flow = clue.flow + self.flow_8(features_8).float()
        large = doubled_pictures(pictures)  # (B*R, 3, 2H, 2W)

        def pixels(some: slice) -> Tensor:  # n of the frames: (n, 3, H, W)
            found = _Some(plan.near[some], flow[some], features_8[some], clue.residual[some])
            frames, features_4 = self._from_near(found, pictures, large, content_4)
            here, own = plan.among(some)
            if between is None or _none(own):
                return frames
            parts = (x[own] for x in (frames, found.flow, found.features_8, features_4))
            second = self.second(*parts, large=large, small=small, far=plan.far[here], between=between.of(here))
            if isinstance(own, slice):
                frames[own] = second
                return frames
            return frames.index_copy_(0, own, second)

        return pixels

    def _with_evidence(
        self, x: Tensor, small: Tensor, flow: Tensor, *, plan: Plan, between: Between, some: slice
    ) -> Tensor:
        """Features (n, C8, H/8, W/8), and what the motion between references says of those that lie between two."""
        here, own = plan.among(some)
        if _none(own):
            return x
        evidence = _evidence(small, flow[own], near=plan.near[some][own], far=plan.far[here], between=between.of(here))
        seen = self.between_8(evidence.to(x.dtype)).to(x.dtype)
        if isinstance(own, slice):
            x[own] += seen
            return x
        return x.index_add(0, own, seen)

    def _from_near(self, some: _Some, pictures: Tensor, large: Tensor, content_4: Tensor) -> tuple[Tensor, Tensor]:
        """n frames (n, 3, H, W) float32 from their near references alone, and what is known of them (n, C4, H/4, W/4)."""
        still = of_each(pictures, some.near)  # (n, 3, H, W)
        moved = moved_pictures(large, some.near, some.flow)
        moved_4 = warp_features(of_each(content_4, some.near), upsample(some.flow, 2) / 4)  # (n, C4/2, H/4, W/4)
        x = F.pixel_shuffle(self.up_4(some.features_8), 2)  # (n, C16, H/4, W/4)
        pixels = pixels_to_blocks(moved.to(x.dtype))
        x = conv_act(self.in_4, joined(act(x), moved_4, pixels, some.residual))  # (n, C4, H/4, W/4)
        features_4 = act(self.blocks_4(x))
        x = self.out_4(features_4)  # (n, 64, H/4, W/4)
        # Whole pictures in float32 are what memory and time go to from here on: as few as can be. The gate lets in the
        # reference that isn't moved, for what doesn't move.
        gate = blocks_to_pixels(x[:, 48:]).float()  # (n, 1, H, W)
        frames = torch.lerp(moved, still, gate, out=moved if runs_now(moved) else None)
        del moved, still, gate
        return frames.add_(blocks_to_pixels(x[:, :48] + spread(some.residual.to(x.dtype)))), features_4


_EVIDENCE = 2 + 1 + 1 + 1


def _none(places: Tensor | slice) -> bool:
    return isinstance(places, Tensor) and not places.numel()


@torch.no_grad()
def _evidence(small: Tensor, flow: Tensor, *, near: Tensor, far: Tensor, between: Between) -> Tensor:
    """(N, 5, H/8, W/8): the straight motion against the latent's, how well the references agree by each, and the time."""
    chained = flow + warp(between.ahead, flow / 8)
    by_latent = disagreement(moved_small(small, near, flow), moved_small(small, far, chained))
    straight = between.straight_near, between.straight_far
    by_straight = disagreement(moved_small(small, near, straight[0]), moved_small(small, far, straight[1]))
    time = between.time.expand(-1, 1, *flow.shape[-2:])
    return torch.cat(((between.straight_near - flow) / 8, by_latent, by_straight, time), 1)
