"""Clips to judge a model on, always the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reducio_codec.config import CLIP_LENGTH
from reducio_codec.training.crops import centre_crop
from reducio_codec.training.scan import Video
from reducio_codec.training.store import FrameStore

Clip = npt.NDArray[np.uint8]
"""(16, H, W, 3)."""
Picture = npt.NDArray[np.uint8]
"""(H, W, 3)."""


@dataclass(frozen=True, kw_only=True)
class HeldOutClip:
    """A clip, and the frames that are the key frames of the clips before and after; None where the scene has none."""

    frames: Clip
    neighbours: tuple[Picture | None, Picture | None]
    keyframe_index: int


def validation_clips(
    videos: Sequence[Video], store: FrameStore, *, side: int, count: int = 0, keyframe_index: int = 7
) -> list[HeldOutClip]:
    """Clips one after another within each scene; the shorter side resized to ``side``, the centre cropped.

    Args:
        count: at most so many, evenly spread; 0 for all.
        keyframe_index: which frame of a clip is its key frame.
    """
    places = [
        (number, start, scene)
        for number, video in enumerate(videos)
        for scene in video.scenes
        for start in range(scene[0], scene[1] - CLIP_LENGTH + 1, CLIP_LENGTH)
    ]
    if 0 < count < len(places):
        places = [places[i] for i in np.linspace(0, len(places) - 1, count).round().astype(int)]
    clips = []
    for number, start, (first, last) in places:
        key = start + keyframe_index
        before, after = key - CLIP_LENGTH >= first, key + CLIP_LENGTH < last
        numbers = [key - CLIP_LENGTH] * before + list(range(start, start + CLIP_LENGTH)) + [key + CLIP_LENGTH] * after
        pictures = centre_crop(store.frames(number, numbers), side=side)
        clips.append(
            HeldOutClip(
                frames=pictures[int(before) : int(before) + CLIP_LENGTH],
                neighbours=(pictures[0] if before else None, pictures[-1] if after else None),
                keyframe_index=keyframe_index,
            )
        )
    return clips
