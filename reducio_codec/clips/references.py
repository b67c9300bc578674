"""Coded pictures that clips are decoded from: by their frame in the video, and as a model takes them, by their place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reducio_codec.clips.spans import ClipSpan, own_keyframe
from reducio_codec.config import CLIP_LENGTH
from reducio_codec.models import contract


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """A coded frame of a video. What a model gets of it is a ``models.contract.Reference``."""

    frame: int
    """Its number in the video."""
    picture: NDArray[np.uint8]
    """``(H, W, 3)``."""


def as_batch(picture: NDArray[np.uint8]) -> Tensor:
    """(H, W, 3) to (1, 3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None]


def for_model(
    inside: Iterable[Reference], beside: Iterable[Reference], *, span: ClipSpan
) -> tuple[contract.Reference, ...]:
    """References of a clip, and of the clips beside it, as a model takes them; pictures stay uint8."""
    return tuple(
        contract.Reference(picture=as_batch(item.picture), place=span.place(item.frame), beside=other)
        for items, other in ((inside, False), (beside, True))
        for item in items
    )


def references_of_clips(
    keyframes: Sequence[Tensor],
    spans: Sequence[ClipSpan],
    *,
    keyframe_index: int,
    outside: tuple[Tensor | None, Tensor | None] = (None, None),
) -> list[tuple[contract.Reference, ...]]:
    """For each clip of a video its own key frame and those of the clips beside it.

    Args:
        keyframes: ``(B, 3, H, W)`` of each clip.
        spans: where the clips' frames lie.
        keyframe_index: which of a clip's 16 frames is its key frame.
        outside: key frames before the first clip, 16 frames before its own, and after the last, or None.
    """
    frames = [span.start + own_keyframe(span.frames, keyframe_index=keyframe_index) for span in spans]
    frames = [frames[0] - CLIP_LENGTH, *frames, frames[-1] + CLIP_LENGTH]
    pictures = [outside[0], *keyframes, outside[1]]
    return [
        tuple(
            contract.Reference(picture=picture, place=span.place(frames[other]), beside=other != number)
            for other in (number, number - 1, number + 1)
            if (picture := pictures[other]) is not None
        )
        for number, span in enumerate(spans, start=1)
    ]
