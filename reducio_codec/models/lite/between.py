"""Motion between two references, found by the decoder: it costs no bits. No weights.

For every frame that lies between two references there are two guesses at where it comes from. *Chained*: the latent's motion
to the near reference, then the motion from there to the far one. *Straight*: the motion between the references at constant
speed; it is much finer than the latent's, and knows what comes into the picture, but not how speed changes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from reducio_codec.models.lite.blocks import upsample
from reducio_codec.models.lite.plan import Plan
from reducio_codec.models.motion import FLOW_STRIDE, estimate_flow, warp
from reducio_codec.models.precision import exact


class Between(NamedTuple):
    """N frames between two references. Flows are float32 in pixels at H/8, W/8."""

    ahead: Tensor
    """(N, 2, H/8, W/8): from the near reference to the far one."""
    straight_near: Tensor
    """(N, 2, H/8, W/8): from the frame to the near reference, at constant speed."""
    straight_far: Tensor
    """(N, 2, H/8, W/8): from the frame to the far reference, likewise."""
    mismatch: Tensor
    """(N, 1, H/8, W/8): how far the motion between the references, seen from the near one, is from being the same both ways,
    in eighths of the picture's positions."""
    time: Tensor
    """(N, 1, 1, 1): 0 is the near reference's, 1 the far one's."""

    def of(self, some: Tensor | slice) -> Between:
        """The same of some of the N frames."""
        return Between(*(each[some] for each in self))


@torch.no_grad()
def motion_between(pictures: Tensor, plan: Plan) -> Between:
    """pictures (B*R, 3, H, W) in [-1, 1]."""
    with exact(pictures.device):
        near, far = pictures.float()[plan.pairs[0]], pictures.float()[plan.pairs[1]]  # (P, 3, H, W)
        both = estimate_flow(torch.cat((near, far))[:, :, None], torch.cat((far, near)))[:, 0]  # (2 * P, 2, H/8, W/8)
        ahead, back = both.unflatten(0, (2, -1))
        mismatch = (ahead + warp(back, ahead / FLOW_STRIDE)).norm(dim=1, keepdim=True) / FLOW_STRIDE
        ahead, back, mismatch = ahead[plan.pair], back[plan.pair], mismatch[plan.pair]  # (N, ...)
        time = plan.time[:, None, None, None]
        return Between(ahead, _partway(ahead, -time), _partway(back, time - 1), mismatch, time)


def _partway(motion: Tensor, share: Tensor) -> Tensor:
    """The motion is known where a reference has it; a frame's own place is found in steps."""
    flow = share * motion
    for _ in range(2):
        flow = share * warp(motion, flow / FLOW_STRIDE)
    return flow


@torch.no_grad()
def disagreement(first: Tensor, second: Tensor) -> Tensor:
    """(N, 3, H/4, W/4) twice to (N, 1, H/8, W/8): mean absolute difference."""
    return F.avg_pool2d((first - second).abs().mean(1, keepdim=True), 2)


@torch.no_grad()
def moved_small(pictures: Tensor, which: Tensor, flow: Tensor) -> Tensor:
    """Pictures (B*R, 3, H/4, W/4), ``which`` (N,) of them, moved by flow (N, 2, H/8, W/8): (N, 3, H/4, W/4)."""
    return warp(pictures[which], upsample(flow, 2) / 4)
