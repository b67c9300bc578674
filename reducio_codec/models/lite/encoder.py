"""The small model's motion encoder for references at any places: hand-made flow, carried linearly, and what learning adds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from reducio_codec.config import CLIP_LENGTH, LiteConfig
from reducio_codec.io.pixels import to_unit
from reducio_codec.models.lite.blocks import SLOTS, ResBlock, act, conv, runs_now, unfold_slots, upsample, zero_conv
from reducio_codec.models.lite.frames import MAPS, at_a_time, at_once, runs, size_of
from reducio_codec.models.motion import estimate_flow, halved, warp
from reducio_codec.models.precision import exact, in_float32


class MotionEncoder(nn.Module):
    """Clip and references -> latent mean, before its statistics are normalised.

    ``flow_in`` is a linear map of the searched flow, one for each time position (grouped), and starts as the leading
    principal components of real flow; ``residual_in`` is one of what those components leave unexplained. The network
    sees frames, that residual and the flow, and its last layer starts at zero: at step 0 the latent is a hand-made code.
    """

    flow_basis: Tensor

    def __init__(self, config: LiteConfig) -> None:
        super().__init__()
        c4, c8, c32, z = config.channels_4 // 2, config.channels_8 // 2, config.channels_32, config.latent_channels
        self.flow_in = nn.Conv2d(2 * CLIP_LENGTH, SLOTS * z, 2, 2, groups=SLOTS, bias=False)
        # orthonormal; flow_in starts from it. Not by zeros_like: on the meta device that imports sympy, 0.4 s and 33 MB
        self.register_buffer("flow_basis", torch.zeros(self.flow_in.weight.shape))
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

    def forward(
        self, video: Tensor, pictures: Tensor, *, near: Sequence[int], shown: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Two (B, z, 4, H/32, W/32): what is linear in the flow and the residual, and, in standard deviations of the
        latent's channels, what learning adds.

        Args:
            video: (B, 3, 16, H, W) in [-1, 1], or uint8.
            pictures: (B, R, 3, H, W), references as the decoder will have them.
            near: of each frame, the reference that its motion leads to.
            shown: frames that are references themselves: they need no motion, and no residual.
        """
        with torch.no_grad(), exact(video.device):
            flow = _flow_to_near(video, pictures, near)  # (B, 16, 2, H/8, W/8)
            for frame in shown:
                flow[:, frame] = 0
            coarse = rearrange(F.avg_pool2d(flow.flatten(0, 1), 2), "(b t) c h w -> b (t c) h w", t=CLIP_LENGTH)
            linear = self.linear_flow(coarse).unflatten(0, (-1, CLIP_LENGTH))  # (B, 16, 2, H/16, W/16)
            half = halved(pictures.flatten(0, 1).float()).unflatten(0, (len(pictures), -1))  # (B, R, 3, H/2, W/2)

        def seen(some: slice) -> tuple[Tensor, Tensor]:
            """Of n frames the residual (B, n, 3, H/4, W/4), and what the network sees in them, (B, n, C8, H/16, W/16)."""
            numbers = range(CLIP_LENGTH)[some]
            with torch.no_grad(), exact(video.device):
                frames = halved(to_unit(video[:, :, some].transpose(1, 2).flatten(0, 1)))  # (B*n, 3, H/2, W/2)
                rough, fine = linear[:, some].flatten(0, 1), flow[:, some].flatten(0, 1)
                references = torch.stack([half[:, near[number]] for number in numbers], 1).flatten(0, 1)
                residual = frames - warp(references, upsample(rough, 8) / 2)
                for place, number in enumerate(numbers):
                    if number in shown:  # the decoder has those
                        residual.unflatten(0, (-1, len(numbers)))[:, place] = 0
                evidence = F.pixel_unshuffle(torch.cat((frames, residual), 1), 2)  # (B*n, 24, H/4, W/4)
                flows = torch.cat((fine, fine - upsample(rough, 2)), 1) / 8  # (B*n, 4, H/8, W/8)
                residual = F.avg_pool2d(residual, 2)
            x = act(self.in_conv(evidence))  # (B*n, C4/2, H/4, W/4)
            x = act(self.down_8(x))  # (B*n, C8/2, H/8, W/8)
            x = self.block_8(torch.cat((x, flows.to(x.dtype)), 1))
            x = act(self.down_16(x))  # (B*n, C8, H/16, W/16)
            return residual.unflatten(0, (-1, len(numbers))), x.unflatten(0, (-1, len(numbers)))

        parts = [*at_once(seen, _times(video), size=size_of(video), like=video)]
        residual, x = (_joined(values) for values in zip(*parts, strict=True))
        residual = rearrange(residual, "b t c h w -> b (t c) h w")
        x = self.block_16(x.flatten(0, 1))  # (B*16, C8, H/16, W/16)
        x = act(self.fold(rearrange(x, "(b t) c h w -> b (t c) h w", t=CLIP_LENGTH)))  # (B, C32, H/16, W/16)
        x = self.blocks_32(act(self.down_32(x)))  # (B, C32, H/32, W/32)
        with exact(video.device):  # a flow of 30 px in bfloat16 is wrong by 0.1 px
            motion = in_float32(self.flow_in, coarse) + in_float32(self.residual_in, residual)
        return unfold_slots(motion), unfold_slots(self.out_conv(act(x)).float())

    def linear_flow(self, coarse: Tensor) -> Tensor:
        """Searched flow (B, 32, H/16, W/16), as much of it as the hand-made code has: (B*16, 2, H/16, W/16)."""
        basis = self.flow_basis.float()
        code = F.conv2d(coarse, basis, stride=2, groups=SLOTS)
        flow = F.conv_transpose2d(code, basis, stride=2, groups=SLOTS)
        return rearrange(flow, "b (t c) h w -> (b t) c h w", t=CLIP_LENGTH)


def _flow_to_near(video: Tensor, pictures: Tensor, near: Sequence[int]) -> Tensor:
    """(B, 16, 2, H/8, W/8): of each frame to its own reference."""
    jobs: list[tuple[int, list[int]]] = []  # a reference, and some of the frames that are nearest to it
    for number in sorted(set(near)):
        own = [frame for frame, found in enumerate(near) if found == number]
        jobs += [(number, own[some]) for some in _times(video, count=len(own))]

    def search(job: tuple[int, list[int]]) -> Tensor:
        number, frames = job
        clip = to_unit(torch.stack([video[:, :, frame] for frame in frames], 2))
        return estimate_flow(clip, pictures[:, number], far=True)  # (B, n, 2, H/8, W/8)

    flows = [torch.empty(0)] * len(near)
    for (_, frames), found in zip(jobs, at_once(search, jobs, size=size_of(video), like=video), strict=True):
        for frame, flow in zip(frames, found.unbind(1), strict=True):
            flows[frame] = flow
    return torch.stack(flows, 1)


def _times(video: Tensor, *, count: int = CLIP_LENGTH) -> list[slice]:
    """``count`` frames of each clip of a batch (B, 3, 16, H, W), as many together as are computed together."""
    if not runs_now(video):
        return [slice(None)]
    return runs(count, most=max(1, at_a_time(size_of(video), MAPS) // len(video)))


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """(B, n, ...) each, along the times."""
    return parts[0] if len(parts) == 1 else torch.cat([*parts], 1)
