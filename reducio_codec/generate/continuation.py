"""Longer than a clip: the last frame of a clip becomes the key picture of the next (Sec. 4.3).

The paper's key frame is a clip's middle one (index k = 7), and the next clip is made around it: what it shows of the time
before its key picture has been told already and is left out, so a clip adds its last 15 - k = 8 frames. Three things keep
the join from being seen:

- motion: the frames before the join are encoded around the new key picture, and the positions in time of the latent
  that they fill are given to the sampler instead of being made up. The new clip then goes on as the old one moved, where
  a key picture alone says where things are and not where they go;
- sharpness: every clip is a little softer than its key picture, so that after a few nothing would be left. A new key picture
  is sharpened until it has as much detail as the first one had;
- brightness: what the decoder makes of the key picture's mean colour, against that picture, is taken off the whole clip.
  It is nothing for decoders that show the key frame itself, and else would add up from clip to clip.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from reducio_codec.codec import ReducioCodec
from reducio_codec.config import CLIP_LENGTH, check_amount
from reducio_codec.errors import InputError
from reducio_codec.generate.measure import detail, grey
from reducio_codec.generate.sampling import Known

FRAME_RATE = 16
"""Frames per second of generated video: what the models are trained on (Sec. 3.1)."""


def frames_of(seconds: float) -> int:
    """Frames that ``seconds`` make; a clip is the least."""
    if check_amount(seconds, name="seconds") < 1:
        raise InputError(f"seconds is {seconds}; a clip is 1 second, so it must be 1 or more")
    return round(seconds * FRAME_RATE)


def clips_of(frames: int, *, keyframe_index: int) -> int:
    """Clips that ``frames`` frames take: the first gives 16, each other what lies behind its key frame."""
    more = max(0, frames - CLIP_LENGTH)
    added = CLIP_LENGTH - 1 - keyframe_index
    if more and not added:
        raise InputError(
            f"{frames} frames need more than a clip, and no clip goes on behind this codec's key frame, its last frame"
        )
    return 1 + (-(-more // added) if more else 0)


def known_start(codec: ReducioCodec, frames: Tensor, *, keyframe_index: int) -> Known | None:
    """The latent's first positions in time of the clip that goes on after ``frames``.

    Args:
        codec: whose latents are made.
        frames: (B, 16, H, W, 3) uint8, the clip before; its last one is the new key picture.
        keyframe_index: where the key picture will be.

    Returns:
        None where no position lies wholly before the key frame.
    """
    slots = (keyframe_index + 1) // codec.model.config.temporal_compression_ratio
    if slots == 0:
        return None
    past = frames[:, CLIP_LENGTH - 1 - keyframe_index :]  # (B, k + 1, H, W, 3)
    still = frames[:, -1:].expand(-1, CLIP_LENGTH - past.shape[1], -1, -1, -1)
    latent, _ = codec.encode(torch.cat([past, still], dim=1), keyframe_index=keyframe_index)
    return Known(latent=latent.plain(), slots=slots)


def without_offset(video: Tensor, keyframe: Tensor, *, keyframe_index: int) -> Tensor:
    """Take the decoder's error in mean colour at the key frame off all frames.

    Args:
        video: (B, 3, 16, H, W) float in [-1, 1].
        keyframe: (B, 3, H, W) float in [-1, 1].

    Returns:
        (B, 3, 16, H, W), clipped to [-1, 1].
    """
    offset = (video[:, :, keyframe_index] - keyframe).mean(dim=(-2, -1))  # (B, 3)
    return (video - offset[:, :, None, None, None]).clamp(-1, 1)


def forth_and_back(frames: Tensor) -> Tensor:
    """Frames (B, T, H, W, 3), then those between the last and the first backwards: (B, 2 T - 2, H, W, 3)."""
    return torch.cat([frames, frames[:, 1:-1].flip(1)], dim=1)


def picture_detail(picture: Tensor) -> Tensor:
    """Mean ``measure.detail`` of pictures (B, 3, H, W): (B,)."""
    return detail(grey(picture.movedim(0, 1)[None])).mean((1, 2))


_SHARPEST = 1.0
"""At most so many times is added what a blur takes away; more rings."""


def sharpened(picture: Tensor, *, to: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) in [-1, 1] with as much detail as ``to`` (B,), where they have less and as far as it can be had
    by adding what a small blur takes away."""
    padded = functional.pad(picture, (1, 1, 1, 1), mode="replicate")
    line = torch.tensor([0.25, 0.5, 0.25])
    blurred = functional.conv2d(padded, (line[:, None] * line).expand(3, 1, 3, 3), groups=3)
    lost = picture - blurred
    low, high = torch.zeros(len(picture)), torch.full((len(picture),), _SHARPEST)
    for _ in range(12):  # detail grows with what is added
        middle = (low + high) / 2
        short = picture_detail(picture + middle[:, None, None, None] * lost) < to
        low, high = torch.where(short, middle, low), torch.where(short, high, middle)
    return (picture + low[:, None, None, None] * lost).clamp(-1, 1)
