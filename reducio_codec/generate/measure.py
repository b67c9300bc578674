"""How much moves in a clip, and whether it changes in brightness."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from reducio_codec.io.pixels import to_unit
from reducio_codec.models.motion import estimate_flow

Clip = NDArray[np.uint8]
"""(16, H, W, 3)."""


def motion_magnitude(clip: Clip, *, keyframe_index: int) -> float:
    """Mean length of the flow from the key frame to the other frames, in pixels; the codec's own motion search."""
    video = to_unit(torch.from_numpy(np.ascontiguousarray(clip)).permute(3, 0, 1, 2)[None])  # (1, 3, 16, H, W)
    others = [index for index in range(video.shape[2]) if index != keyframe_index]
    with torch.inference_mode():
        flow = estimate_flow(video[:, :, others], video[:, :, keyframe_index])  # (1, 15, 2, H / 8, W / 8)
    return float(flow.square().sum(2).sqrt().mean())


def brightness_drift(clip: Clip) -> float:
    """Mean level of the last four frames less that of the first four, 0 to 255."""
    levels = clip.astype(np.float32).mean((1, 2, 3))
    return float(levels[-4:].mean() - levels[:4].mean())
