"""A coded reference, mended: what its picture codec did to it is undone as far as it can be, before anything is moved."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from reducio_codec.config import LiteConfig
from reducio_codec.models.lite.blocks import ResBlock, act, conv, conv_act, idle, zero_conv


class Mend(nn.Module):
    """Runs once for each reference, for all decoders. Untrained it changes nothing."""

    def __init__(self, config: LiteConfig) -> None:
        super().__init__()
        c4 = config.channels_4
        self.in_conv = conv(48, c4)
        self.blocks = nn.Sequential(ResBlock(c4), ResBlock(c4))
        self.out_conv = zero_conv(c4, 48)

    def forward(self, pictures: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] to the same, float32."""
        if idle(self.out_conv):
            return pictures.float()
        x = self.blocks(conv_act(self.in_conv, F.pixel_unshuffle(pictures, 4)))  # (N, C4, H/4, W/4)
        return pictures.float() + F.pixel_shuffle(self.out_conv(act(x)).float(), 4)
