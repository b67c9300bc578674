"""The small model's motion encoder: a hand-made flow, carried linearly into the latent, and what learning adds."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from reducio_codec.config import CLIP_LENGTH, LiteConfig
from reducio_codec.models.lite.blocks import SLOTS, ResBlock, act, conv, per_frame, unfold_slots, upsample, zero_conv
from reducio_codec.models.motion import estimate_flow, warp
from reducio_codec.models.precision import exact


class LiteMotionEncoder(nn.Module):
    """Clip and key frame -> latent mean, before its statistics are normalised.

    ``flow_in`` is a linear map of the searched flow, one for each time position (grouped), and starts as the leading
    principal components of real flow; ``residual_in`` is one of what those components leave unexplained. The network
    sees frames, that residual and the flow, and its last layer starts at zero: at step 0 the latent is a hand-made code.
    """

    flow_basis: Tensor

    def __init__(self, config: LiteConfig) -> None:
        super().__init__()
        c4, c8, c32, z = config.channels_4 // 2, config.channels_8 // 2, config.channels_32, config.latent_channels
        self.flow_in = nn.Conv2d(2 * CLIP_LENGTH, SLOTS * z, 2, 2, groups=SLOTS, bias=False)
        self.register_buffer(
            "flow_basis", torch.zeros_like(self.flow_in.weight)
        )  # orthonormal; what flow_in starts from
        self.residual_in = nn.Conv2d(3 * CLIP_LENGTH, SLOTS * z, 8, 8, groups=SLOTS, bias=False)
        nn.init.zeros_(self.residual_in.weight)
        self.in_conv = conv(24, c4)
        self.down_8 = conv(c4, c8, stride=2)
        self.block_8 = ResBlock(c8 + 4)
        self.down_16 = conv(c8 + 4, 2 * c8, stride=2)
        self.block_16 = ResBlock(2 * c8, temporal=True)
        self.fold = conv(CLIP_LENGTH * 2 * c8, c32, kernel=1)
        self.down_32 = conv(c32, c32, stride=2)
        self.blocks_32 = nn.Sequential(ResBlock(c32), ResBlock(c32))
        self.out_conv = zero_conv(c32, SLOTS * z)

    def forward(self, video: Tensor, keyframe: Tensor, keyframe_index: int) -> tuple[Tensor, Tensor]:
        """video (B, 3, 16, H, W) and keyframe (B, 3, H, W) in [-1, 1] -> two (B, z, 4, H/32, W/32).

        The first is linear in the flow (pixels) and the residual (pixel values); the second is what learning adds, in
        standard deviations of the latent's channels.
        """
        with torch.no_grad(), exact(video.device):
            flow = estimate_flow(video, keyframe)  # (B, 16, 2, H/8, W/8)
            flow[:, keyframe_index] = 0
            coarse = rearrange(F.avg_pool2d(flow.flatten(0, 1), 2), "(b t) c h w -> b (t c) h w", t=CLIP_LENGTH)
            frames = F.avg_pool2d(rearrange(video, "b c t h w -> (b t) c h w"), 2)  # (B*16, 3, H/2, W/2)
            linear = self.linear_flow(coarse)  # (B*16, 2, H/16, W/16)
            residual = frames - warp(per_frame(F.avg_pool2d(keyframe, 2)), upsample(linear, 8) / 2)
            residual.unflatten(0, (-1, CLIP_LENGTH))[:, keyframe_index] = 0  # the decoder has that frame
            evidence = F.pixel_unshuffle(torch.cat((frames, residual), 1), 2)  # (B*16, 24, H/4, W/4)
            flow = flow.flatten(0, 1)
            flows = torch.cat((flow, flow - upsample(linear, 2)), 1) / 8  # (B*16, 4, H/8, W/8)
            residual = rearrange(F.avg_pool2d(residual, 2), "(b t) c h w -> b (t c) h w", t=CLIP_LENGTH)
        x = act(self.in_conv(evidence))  # (B*16, C4/2, H/4, W/4)
        x = act(self.down_8(x))  # (B*16, C8/2, H/8, W/8)
        x = self.block_8(torch.cat((x, flows), 1))
        x = self.block_16(act(self.down_16(x)))  # (B*16, C8, H/16, W/16)
        x = act(self.fold(rearrange(x, "(b t) c h w -> b (t c) h w", t=CLIP_LENGTH)))  # (B, C32, H/16, W/16)
        x = self.blocks_32(act(self.down_32(x)))  # (B, C32, H/32, W/32)
        with exact(video.device):  # a flow of 30 px in bfloat16 is wrong by 0.1 px
            motion = self.flow_in(coarse) + self.residual_in(residual)
        return unfold_slots(motion), unfold_slots(self.out_conv(act(x)).float())

    def linear_flow(self, coarse: Tensor) -> Tensor:
        """Searched flow (B, 32, H/16, W/16), as much of it as the hand-made code has: (B*16, 2, H/16, W/16)."""
        code = F.conv2d(coarse, self.flow_basis, stride=2, groups=SLOTS)
        flow = F.conv_transpose2d(code, self.flow_basis, stride=2, groups=SLOTS)
        return rearrange(flow, "b (t c) h w -> (b t) c h w", t=CLIP_LENGTH)
