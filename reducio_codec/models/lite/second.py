"""What the second reference adds to frames that lie between two, as B-frames are made."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reducio_codec.config import LiteConfig
from reducio_codec.models.lite.between import Between, disagreement, moved_small
from reducio_codec.models.lite.blocks import (
    ResBlock,
    act,
    blocks_to_pixels,
    channels_last,
    conv,
    conv_act,
    joined,
    zero_conv,
)
from reducio_codec.models.lite.linear_code import moved_pictures
from reducio_codec.models.motion import FLOW_STRIDE, warp
from reducio_codec.models.precision import exact

_SHARPNESS = 32.0
"""How much a guess loses against the others for an error of 1 (127.5 grey levels), before training."""

_GUESSES = 2
"""Chained and straight, see ``between``."""


class SecondReference(nn.Module):
    """Weighs the guesses at where a frame lies in the far reference, corrects them, and blends its pixels in by a gate.

    The last layer starts at zero: untrained, a frame stays what the near reference made of it.
    """

    def __init__(self, config: LiteConfig) -> None:
        super().__init__()
        c4, c8 = config.channels_4, config.channels_8
        self.in_8 = conv(c8 + 3 * _GUESSES + 4, c8)
        self.block_8 = ResBlock(c8, hidden=3 * c8 // 4)
        self.flow_8 = zero_conv(c8, _GUESSES + 2)
        self.up_4 = conv(c8, 4 * c4, kernel=1)
        self.features_4 = conv(c4, c4, kernel=1)
        self.pictures_4 = nn.Conv2d(3 + 3 + 1, c4, kernel_size=4, stride=4)
        self.blocks_4 = nn.Sequential(ResBlock(c4), ResBlock(c4))
        self.out_4 = zero_conv(c4, 48 + 16, kernel=1)

    def forward(
        self,
        frames: Tensor,
        flow: Tensor,
        features_8: Tensor,
        features_4: Tensor,
        *,
        large: Tensor,
        small: Tensor,
        far: Tensor,
        between: Between,
    ) -> Tensor:
        """Better frames (N, 3, H, W).

        Args:
            frames, flow, features_8, features_4: (N, ...) what the near reference made of them, and how.
            large, small: (B*R, 3, 2H, 2W) and (B*R, 3, H/4, W/4), the references, ``doubled`` and as small as that.
            far: (N,), which of them is a frame's far one.
        """
        flows, errors = self._guess(frames, flow, small, far=far, between=between)
        time = between.time.expand(-1, 1, *flow.shape[-2:])
        mismatch = warp(between.mismatch, flow / FLOW_STRIDE)
        known = joined(features_8, flows.flatten(1, 2) / 8, flow / 8, errors, mismatch, time)
        x = self.block_8(conv_act(self.in_8, known))  # (N, C8, H/8, W/8)
        found = self.flow_8(x).float()
        share = torch.softmax(found[:, :_GUESSES] - _SHARPNESS * errors, 1)
        far_flow = (flows * share[:, :, None]).sum(1) + found[:, _GUESSES:]  # (N, 2, H/8, W/8)
        moved = moved_pictures(large, far, far_flow)  # (N, 3, H, W)
        x = self.features_4(channels_last(features_4)) + F.pixel_shuffle(self.up_4(x), 2)  # (N, C4, H/4, W/4)
        x = x + self.pictures_4(_compare(frames.to(x.dtype), moved.to(x.dtype)))
        x = self.out_4(act(self.blocks_4(act(x))))  # (N, 64, H/4, W/4)
        gate = blocks_to_pixels(x[:, 48:]).float()  # (N, 1, H, W)
        return frames.lerp(moved, gate).add_(blocks_to_pixels(x[:, :48]))

    @torch.no_grad()
    def _guess(
        self, frames: Tensor, flow: Tensor, small: Tensor, *, far: Tensor, between: Between
    ) -> tuple[Tensor, Tensor]:
        """Flows (N, 2, 2, H/8, W/8) to the far reference, and how far each misses the frame, (N, 2, H/8, W/8)."""
        with exact(frames.device):
            chained = flow + warp(between.ahead, flow / FLOW_STRIDE)
            flows = (chained, between.straight_far)
            shown = F.avg_pool2d(frames, 4)
            errors = [disagreement(moved_small(small, far, guess), shown) for guess in flows]
            return torch.stack(flows, 1), torch.cat(errors, 1)


def _compare(single: Tensor, moved: Tensor) -> Tensor:
    """(N, 7, H, W): both pictures, and how far apart each pixel is."""
    return torch.cat((single, moved, (single - moved).abs().mean(1, True)), 1)
