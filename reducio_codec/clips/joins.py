"""Where clips meet. Each is decoded by itself, so what the last frame of one and the first of the next get wrong differs, and the
eye sees a pulse once a clip. Of the difference that is left after motion, the frames beside a join take over what is smooth:
both of them half, so that they agree, and those behind them a quarter. Details stay, since a mean of two is a blur.

``python -m bench.over_time`` measures it: the pulse all but goes, and both PSNR and LPIPS gain a little.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from reducio_codec.io.pixels import to_unit
from reducio_codec.models.motion import estimate_flow, halved, warp

Frames = NDArray[np.uint8]
"""(n, H, W, 3)."""

SHARES = (0.5, 0.25)
"""Of the difference, taken over by the frames next to a join and by those behind them."""

_SMALL = 4
"""Everything is worked out at a quarter of the size: what is smooth is all there, and it takes a sixteenth of the time."""

_LINE = (1 / 6, 4 / 6, 1 / 6)
"""What is smooth: such a mean over neighbours. With less of a mean pulses are weaker, and LPIPS worse than without all this."""

_MOST = 0.2
"""Of the difference, on [-1, 1]: a flash or what comes into the picture isn't spread over the join."""


def changed(frames: int) -> int:
    """How many frames at each end of a clip change where it meets another."""
    return min(len(SHARES), frames // 2)


@torch.inference_mode()
def drawn(frames: Frames, across: NDArray[np.uint8], *, shares: Sequence[float]) -> Frames:
    """Frames (n, H, W, 3) uint8 drawn towards one on the other side of a join, (H, W, 3), each by its share of the difference."""
    own, other = _small(frames), _small(across[None])  # (n, 3, H/4, W/4), (1, 3, H/4, W/4)
    flow = estimate_flow(own.transpose(0, 1)[None], other)[0]  # (n, 2, H/32, W/32), in pixels of these pictures
    flow = F.interpolate(flow, own.shape[-2:], mode="bilinear", align_corners=False)
    difference = F.pad(warp(other.expand_as(own), flow) - own, (1, 1, 1, 1), mode="replicate")
    line = own.new_tensor(_LINE)
    kernel = (line[:, None] * line).expand(3, 1, 3, 3)
    smooth = F.conv2d(difference, kernel, groups=3).clamp_(-_MOST, _MOST)
    size = _SMALL * smooth.shape[-2], _SMALL * smooth.shape[-1]
    height, width = frames.shape[1:3]
    result = np.empty_like(frames)
    for number, share in enumerate(shares):  # one by one: large pictures in floats are few
        part = smooth[number, None] * (127.5 * share)
        more = F.interpolate(part, size, mode="bilinear", align_corners=False)[0]  # (3, H, W), and a rim
        picture = torch.from_numpy(frames[number]).permute(2, 0, 1) + more[:, :height, :width]
        torch.from_numpy(result[number]).permute(2, 0, 1).copy_(picture.round_().clamp_(0, 255))
    return result


def _small(frames: Frames) -> Tensor:
    """(n, 3, H/4, W/4) float32 in [-1, 1], both sides rounded up to multiples of 32, as the search for motion takes them."""
    pictures = to_unit(torch.from_numpy(frames).permute(0, 3, 1, 2))  # (n, 3, H, W)
    bottom, right = (-length % (32 * _SMALL) for length in frames.shape[1:3])
    return halved(halved(F.pad(pictures, (0, right, 0, bottom), mode="replicate")))
