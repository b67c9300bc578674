"""``bidirectional``: the warp decoder's frames, improved from the key frame of the clip before or after, as B-frames are.

A frame before the clip's own key frame lies between the previous clip's key frame and its own, a frame after it between
its own and the next clip's: each frame has one neighbour of use. The motion towards it costs no bits, the decoder finds
it. Only what is added to the warp decoder lives here; without a neighbour a frame stays what the warp decoder made.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reducio_codec.config import CLIP_LENGTH, LiteConfig
from reducio_codec.models.contract import Reference
from reducio_codec.models.lite.blocks import ResBlock, act, conv, upsample, zero_conv
from reducio_codec.models.lite.decoders import Parts, WarpResult
from reducio_codec.models.motion import FLOW_STRIDE, estimate_flow, warp
from reducio_codec.models.precision import exact

_SHARPNESS = 32.0
"""How much a proposed flow loses against the others for an error of 1 (127.5 grey levels), before training."""


class BidirectionalDecoder(nn.Module):
    """Proposes three flows to the neighbour, mixes and corrects them, then blends the neighbour's pixels in.

    The last layer starts at zero: untrained, every frame is the warp decoder's, bit for bit.
    """

    def __init__(self, config: LiteConfig) -> None:
        super().__init__()
        c4, c8 = config.channels_4, config.channels_8
        self.in_8 = conv(c8 + 13, c8)
        self.block_8 = ResBlock(c8, hidden=3 * c8 // 4)
        self.flow_8 = zero_conv(c8, 3 + 2)
        self.up_4 = conv(c8, 4 * c4, kernel=1)
        self.features_4 = conv(c4, c4, kernel=1)
        self.pictures_4 = nn.Conv2d(3 + 3 + 1, c4, kernel_size=4, stride=4)
        self.blocks_4 = nn.Sequential(ResBlock(c4), ResBlock(c4))
        self.out_4 = zero_conv(c4, 48 + 16)

    def forward(self, parts: Parts, single: WarpResult) -> Tensor:
        """The clip's frames, (B*16, 3, H, W), from what the warp decoder made of the same parts."""
        own = parts.own
        frames = single.frames.unflatten(0, (-1, CLIP_LENGTH))  # (B, 16, 3, H, W)
        sides = slice(0, own.place), slice(own.place + 1, CLIP_LENGTH)
        shown = [frames[:, sides[0]], frames[:, own.place, None], frames[:, sides[1]]]
        for reference in parts.beside:
            number = int(reference.place > own.place)
            between = sides[number]
            if between.start == between.stop:
                continue
            side = _Side(single, own, between=between, place=reference.place)
            better = self._improve(side, reference.picture.float())
            if reference.present is not None:
                better = torch.where(reference.present[:, None, None, None, None], better, shown[2 * number])
            shown[2 * number] = better
        return torch.cat(shown, 1).flatten(0, 1)

    def _improve(self, own: _Side, neighbour: Tensor) -> Tensor:
        """(B, n, 3, H, W): the frames of one side of the key frame."""
        flows, consistency = _propose(own, neighbour)  # (N, 3, 2, H/8, W/8), (N, 1, H/8, W/8), N = B * n
        errors = _errors(own, neighbour, flows)  # (N, 3, H/8, W/8)
        x = own.features_8
        known = torch.cat((flows.flatten(1, 2) / 8, own.flow / 8, errors, consistency, own.time_map()), 1)
        x = self.block_8(act(self.in_8(torch.cat((x, known.to(x.dtype)), 1))))  # (N, C8, H/8, W/8)
        found = self.flow_8(x).float()  # (N, 5, H/8, W/8)
        share = torch.softmax(found[:, :3] - _SHARPNESS * errors, 1)
        flow = (flows * share[:, :, None]).sum(1) + found[:, 3:]  # (N, 2, H/8, W/8)
        moved = warp(own.each(neighbour), upsample(flow, FLOW_STRIDE))  # (N, 3, H, W)
        x = F.pixel_shuffle(self.up_4(x), 2) + self.features_4(own.features_4)  # (N, C4, H/4, W/4)
        x = x + self.pictures_4(_compare(own.frames.to(x.dtype), moved.to(x.dtype)))
        x = self.out_4(act(self.blocks_4(act(x))))  # (N, 64, H/4, W/4)
        gate = F.pixel_shuffle(x[:, 48:].float(), 4)  # (N, 1, H, W)
        better = own.frames.lerp(moved, gate).add_(F.pixel_shuffle(x[:, :48].float(), 4))
        unfolded: Tensor = better.unflatten(0, (-1, own.count))
        return unfolded


class _Side:
    """The warp decoder's frames on one side of the key frame, folded into the batch: N = B * n."""

    def __init__(self, single: WarpResult, own: Reference, *, between: slice, place: int) -> None:
        self.keyframe = own.picture.float()
        self.count = between.stop - between.start
        self.frames, self.flow, self.features_8, self.features_4 = (
            x.unflatten(0, (-1, CLIP_LENGTH))[:, between].flatten(0, 1) for x in single
        )
        numbers = torch.arange(between.start, between.stop, device=self.keyframe.device)
        time = (numbers - own.place) / (place - own.place)
        # (N, 1, 1, 1): 0 at the key frame's place, 1 at the neighbour's
        self.time = time.repeat(len(self.keyframe))[:, None, None, None]

    def each(self, x: Tensor) -> Tensor:
        """(B, ...) -> (N, ...): a clip's picture, once for each of the frames."""
        return x.repeat_interleave(self.count, 0)

    def time_map(self) -> Tensor:
        return self.time.expand(-1, 1, *self.flow.shape[-2:])


@torch.no_grad()
def _propose(own: _Side, neighbour: Tensor) -> tuple[Tensor, Tensor]:
    """Three flows from each frame to the neighbour, (N, 3, 2, H/8, W/8) in pixels, and how far the motion between the key
    frames is from being the same both ways, (N, 1, H/8, W/8).

    Chained: the frame's flow to its own key frame, then the motion from there. Searched: the warp decoder's frame, looked
    for in the neighbour. Straight: the neighbour's motion from the key frame, at constant speed; it also knows what comes
    into the picture between the two.
    """
    with exact(neighbour.device):
        pair = own.keyframe, neighbour
        both_ways = estimate_flow(torch.cat(pair)[:, :, None], torch.cat(pair[::-1]))[:, 0]  # (2 * B, 2, H/8, W/8)
        ahead, back = both_ways.chunk(2)
        returned = (ahead + warp(back, ahead / FLOW_STRIDE)).norm(dim=1, keepdim=True) / FLOW_STRIDE
        consistency = warp(own.each(returned), own.flow / FLOW_STRIDE)
        chained = own.flow + warp(own.each(ahead), own.flow / FLOW_STRIDE)
        searched = _search(own, neighbour, chained)
        back, rest = own.each(back), own.time - 1
        straight = rest * back
        for _ in range(2):  # the motion is known where the neighbour has it; this frame's place is found in steps
            straight = rest * warp(back, straight / FLOW_STRIDE)
        return torch.stack((chained, searched, straight), 1), consistency


def _search(own: _Side, neighbour: Tensor, chained: Tensor) -> Tensor:
    """(N, 2, H/8, W/8): every second frame is looked for; between them, what was found beyond the chain is averaged."""
    frames, chain = (x.unflatten(0, (-1, own.count)) for x in (own.frames, chained))  # (B, n, ...)
    beyond = estimate_flow(frames[:, ::2].transpose(1, 2), neighbour) - chain[:, ::2]
    following = torch.cat((beyond[:, 1:], beyond[:, -1:]), 1)
    every: Tensor = torch.stack((beyond, (beyond + following) / 2), 2).flatten(1, 2)[:, : own.count]
    searched: Tensor = (chain + every).flatten(0, 1)
    return searched


@torch.no_grad()
def _errors(own: _Side, neighbour: Tensor, flows: Tensor) -> Tensor:
    """(N, 3, H/8, W/8): mean absolute difference of the frame and the neighbour moved by each flow."""
    frame, picture = F.avg_pool2d(own.frames, 4), own.each(F.avg_pool2d(neighbour, 4))
    found = [
        F.avg_pool2d((warp(picture, upsample(flow, 2) / 4) - frame).abs().mean(1, True), 2) for flow in flows.unbind(1)
    ]
    return torch.cat(found, 1)


def _compare(single: Tensor, moved: Tensor) -> Tensor:
    """(N, 7, H, W): both pictures, and how far apart each pixel is."""
    return torch.cat((single, moved, (single - moved).abs().mean(1, True)), 1)
