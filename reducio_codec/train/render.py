"""A plan to pixels: crop, resize, flip, reversal, and the key frame that the decoder will have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from reducio_codec.rdc.keyframe import code_keyframe
from reducio_codec.train.sampling import ClipPlan
from reducio_codec.training.crops import resize
from reducio_codec.training.store import FrameStore

GREY = 128
"""What a dropped key frame is filled with."""


def render(store: FrameStore, plan: ClipPlan, *, codec: str) -> tuple[Tensor, Tensor]:
    """The clip (3, 16, side, side) and its key frame (3, side, side), uint8 both."""
    clip = _pictures(store, plan, plan.frames)  # (3, 16, side, side)
    if plan.reverse:
        clip = clip.flip(1)
    keyframe = clip[:, plan.keyframe_index].contiguous()  # (3, side, side)
    if plan.drop_keyframe:
        return clip, torch.full_like(keyframe, GREY)
    return clip, _as_decoded(keyframe, plan, codec=codec)


def render_neighbours(store: FrameStore, plan: ClipPlan, *, codec: str) -> tuple[Tensor, tuple[bool, bool]]:
    """Key frames of the clips before and after, (2, 3, side, side) uint8, grey where there is none; and which there are."""
    pictures = torch.full((2, 3, plan.side, plan.side), GREY, dtype=torch.uint8)
    for place, frame in enumerate(plan.neighbours):
        if frame is not None:
            pictures[place] = _as_decoded(_pictures(store, plan, (frame,))[:, 0], plan, codec=codec)
    before, after = plan.neighbours
    return pictures, (before is not None, after is not None)


def _pictures(store: FrameStore, plan: ClipPlan, numbers: Sequence[int]) -> Tensor:
    """Frames of the plan's video, cut, mirrored and resized as it says: (3, n, side, side) uint8."""
    frames = store.frames(plan.video, numbers)  # (n, H, W, 3)
    frames = frames[:, plan.top : plan.top + plan.height, plan.left : plan.left + plan.width]
    return resize(frames.flip(2) if plan.flip else frames, height=plan.side, width=plan.side)


def _as_decoded(picture: Tensor, plan: ClipPlan, *, codec: str) -> Tensor:
    """The picture (3, side, side) as it comes out of the picture codec, where the plan has one."""
    if plan.quality is None:
        return picture
    pixels = np.ascontiguousarray(picture.permute(1, 2, 0).cpu().numpy())  # (side, side, 3)
    _, back = code_keyframe(pixels, codec=codec, quality=plan.quality)
    return torch.from_numpy(back).permute(2, 0, 1).contiguous().to(picture.device)
