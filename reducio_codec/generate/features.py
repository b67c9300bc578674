"""Features of a clip that need no trained network: what moves, what changes and how sharp it is, place by place.

They stand in for those of I3D where its weights aren't at hand. A Frechet distance on them is no FVD and compares with no
published number; it orders sets of clips that were measured together.
"""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from reducio_codec.generate.measure import Clip, detail, grey
from reducio_codec.io.pixels import to_unit
from reducio_codec.models.motion import estimate_flow

NAME = "motion-change-sharpness-2x2 (hand-made stand-in, not FVD)"
_GRID = 2
_FRAMES = (0, 3, 5, 9, 11, 15)
"""Whose flow from the key frame counts."""
_LAGS = (1, 2, 4)
_FLOOR = 0.05
"""Added before logarithms: pixels of flow, grey levels of change or detail that count as none."""


@torch.inference_mode()
def clip_features(clip: Clip, *, keyframe_index: int) -> NDArray[np.float64]:
    """(16, H, W, 3) uint8 to (48,), on a 2x2 grid of places: the logarithms of

    the flow's length from the key frame to six others, the mean absolute change over 1, 2 and 4 frames, and the
    mean absolute Laplacian of the first, the middle and the last frame.
    """
    video = to_unit(torch.from_numpy(np.ascontiguousarray(clip)).permute(3, 0, 1, 2)[None])  # (1, 3, 16, H, W)
    frames = [index for index in _FRAMES if index != keyframe_index]
    flow = estimate_flow(video[:, :, frames], video[:, :, keyframe_index])  # (1, n, 2, H / 8, W / 8)
    levels = grey(video)  # (16, H, W)
    change = torch.stack([(levels[lag:] - levels[:-lag]).abs().mean(0) for lag in _LAGS])  # (3, H, W)
    sharp = detail(levels[[0, len(levels) // 2, len(levels) - 1]])  # (3, H - 2, W - 2)
    parts = [_cells(part) for part in (flow[0].square().sum(1).sqrt(), change, sharp)]
    return np.asarray(torch.log(torch.cat(parts) + _FLOOR).double().numpy())


def _cells(maps: Tensor) -> Tensor:
    """(n, H, W) to (n * 4,)."""
    return rearrange(functional.adaptive_avg_pool2d(maps[None], _GRID), "1 n y x -> (n y x)")
