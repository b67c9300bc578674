"""Longer than a clip: the last frame of a clip becomes the key picture of the next (Sec. 4.3).

The paper's key frame is a clip's middle one (index k = 7), and the next clip is made around it: what it shows of the time
before its key picture has been told already and is left out, so a clip adds its last 15 - k = 8 frames. Two things keep
the join from being seen:

- motion: the frames before the join are encoded around the new key picture, and the positions in time of the latent
  that they fill are given to the sampler instead of being made up. The new clip then goes on as the old one moved, where
  a key picture alone says where things are and not where they go;
- brightness: what the decoder makes of the key picture's mean colour, against that picture, is taken off the whole clip.
  It is nothing for decoders that show the key frame itself, and else would add up from clip to clip.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reducio_codec.codec import ReducioCodec
from reducio_codec.config import CLIP_LENGTH
from reducio_codec.errors import InputError
from reducio_codec.generate.sampling import Known

FRAME_RATE = 16
"""Frames per second of generated video: what the models are trained on (Sec. 3.1)."""


def frames_of(seconds: float) -> int:
    """Frames that ``seconds`` make; a clip is the least."""
    if not math.isfinite(seconds) or seconds < 1:
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
