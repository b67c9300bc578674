"""A plan to pixels: crop, resize, flip, reversal, and the key frame that the decoder will have."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from reducio_codec.bitstream.keyframe import decode_keyframe, encode_keyframe
from reducio_codec.train.sampling import ClipPlan
from reducio_codec.train.store import FrameStore

GREY = 128
"""What a dropped key frame is filled with."""


def render(store: FrameStore, plan: ClipPlan, *, codec: str) -> tuple[Tensor, Tensor]:
    """The clip (3, 16, side, side) and its key frame (3, side, side), uint8 both."""
    frames = store.frames(plan.video, plan.frames)  # (16, H, W, 3)
    frames = frames[:, plan.top : plan.top + plan.height, plan.left : plan.left + plan.width]
    if plan.flip:
        frames = frames.flip(2)
    if plan.reverse:
        frames = frames.flip(0)
    clip = resize(frames, height=plan.side, width=plan.side)  # (3, 16, side, side)
    keyframe = clip[:, plan.keyframe_index].contiguous()  # (3, side, side)
    if plan.drop_keyframe:
        return clip, torch.full_like(keyframe, GREY)
    if plan.quality is not None:
        keyframe = _through_codec(keyframe, codec=codec, quality=plan.quality)
    return clip, keyframe


def resize(frames: Tensor, *, height: int, width: int) -> Tensor:
    """(n, H, W, 3) uint8 to (3, n, height, width) uint8: bilinear, averaged where it shrinks."""
    x = frames.permute(0, 3, 1, 2)  # (n, 3, H, W)
    if x.shape[2:] != (height, width):
        floats = functional.interpolate(x.float(), (height, width), mode="bilinear", antialias=True)
        x = floats.round_().clamp_(0, 255).to(torch.uint8)
    return x.transpose(0, 1).contiguous()


def _through_codec(picture: Tensor, *, codec: str, quality: int) -> Tensor:
    pixels = np.ascontiguousarray(picture.permute(1, 2, 0).cpu().numpy())  # (side, side, 3)
    data = encode_keyframe(pixels, codec=codec, quality=quality)
    back = decode_keyframe(data, codec=codec, width=pixels.shape[1], height=pixels.shape[0])
    return torch.from_numpy(back).permute(2, 0, 1).contiguous().to(picture.device)
