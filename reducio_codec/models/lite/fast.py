"""The fast decoder, ``linear``: what the latent knows is worked out at a sixteenth of the size, what the picture knows at a
quarter, and whole pictures are touched as few times as can be: moved, looked at in blocks of 4x4, added to."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from reducio_codec.config import LiteConfig
from reducio_codec.models.lite.between import Between
from reducio_codec.models.lite.blocks import (
    ResBlock,
    act,
    add_conv,
    blocks_to_pixels,
    conv,
    conv_act,
    joined,
    of_each,
    zero_conv,
)
from reducio_codec.models.lite.frames import FrameDecoder, FrameMaker
from reducio_codec.models.lite.linear_code import Clue, doubled_pictures, moved_pictures, spread
from reducio_codec.models.lite.plan import Plan
from reducio_codec.models.motion import FLOW_STRIDE


class FastDecoder(FrameDecoder):
    """A frame from its near reference alone. Untrained it is the hand-made code, as for the others."""

    def __init__(self, config: LiteConfig) -> None:
        super().__init__()
        c4, wide = 2 * config.channels_4 // 3, config.channels_8
        self.in_16 = conv(config.channels_16 + 2 * 4, wide)
        self.blocks_16 = nn.Sequential(ResBlock(wide, temporal=True), ResBlock(wide, temporal=True))
        self.flow_16 = zero_conv(wide, 2 * 4)
        self.up_4 = nn.ConvTranspose2d(wide, c4, 4, 4)
        self.residual_4 = conv(3, c4)
        self.moved_4, self.still_4 = nn.Conv2d(3, c4, 4, 4), nn.Conv2d(3, c4, 4, 4)
        self.blocks_4 = nn.Sequential(ResBlock(c4), ResBlock(c4))
        self.out_4 = zero_conv(c4, 48, kernel=1)

    def prepare(
        self, features: Tensor, clue: Clue, pictures: Tensor, *, plan: Plan, between: Between | None
    ) -> FrameMaker:
        """See ``FrameDecoder``; ``between`` is of no use here."""
        pictures, flow = pictures.float(), clue.flow
        x = conv_act(self.in_16, joined(features, F.pixel_unshuffle(flow / FLOW_STRIDE, 2)))  # (B*16, C, H/16, W/16)
        x = self.blocks_16(x)
        flow = flow + F.pixel_shuffle(self.flow_16(x).float(), 2)  # (B*16, 2, H/8, W/8)
        still = self.still_4(pictures)  # (B*R, C4, H/4, W/4)
        large = doubled_pictures(pictures)  # (B*R, 3, 2H, 2W)

        def pixels(some: slice) -> Tensor:  # n of the frames: (n, 3, H, W)
            near, residual = plan.near[some], clue.residual[some]
            frames = moved_pictures(large, near, flow[some])
            y = add_conv(self.up_4(x[some]), self.residual_4, residual)  # (n, C4, H/4, W/4)
            y = add_conv(y, self.moved_4, frames.to(y.dtype, copy=True))  # a copy: frames change
            y = self.blocks_4(act(y + of_each(still, near)))
            y = add_conv(spread(residual.to(y.dtype)), self.out_4, act(y))  # (n, 48, H/4, W/4)
            return frames.add_(blocks_to_pixels(y))

        return pixels
