"""How much moves in a clip, how sharp its outer frames are, and whether it changes in brightness."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from reducio_codec.io.pixels import to_bytes, to_unit
from reducio_codec.models.motion import estimate_flow, warp

Clip = NDArray[np.uint8]
"""(16, H, W, 3)."""

OUTER = (0, 1, 14, 15)
"""Frames furthest from the key frame, or nearly: what a generator smears first."""

_LUMA = (0.299, 0.587, 0.114)


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


def grey(video: Tensor) -> Tensor:
    """(1, 3, T, H, W) in [-1, 1] to grey levels (T, H, W), -127.5 to 127.5."""
    return 127.5 * torch.einsum("bcthw,c->thw", video, torch.tensor(_LUMA))


def detail(levels: Tensor) -> Tensor:
    """Grey levels (n, H, W) to their absolute Laplacian (n, H - 2, W - 2)."""
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    return functional.conv2d(levels[:, None], kernel)[:, 0].abs()


def outer_sharpness(clip: Clip, *, picture: NDArray[np.uint8]) -> float:
    """Mean absolute Laplacian of the outer four frames over that of the picture (H, W, 3) that the clip was made from."""
    frames = np.concatenate([clip[list(OUTER)], picture[None]])
    video = to_unit(torch.from_numpy(frames).permute(3, 0, 1, 2)[None])  # (1, 3, 5, H, W)
    *outer, own = detail(grey(video)).mean((1, 2)).tolist()
    return float(np.mean(outer) / max(own, 1e-6))


def distance_to_moved(
    clip: Clip, *, picture: NDArray[np.uint8], perceptual: Callable[[Clip, Clip], NDArray[np.float64]]
) -> float:
    """How far the outer four frames are from the picture, moved as they move: what else has changed in them.

    Args:
        picture: (H, W, 3), what the clip was made from.
        perceptual: of frames (n, H, W, 3) twice, (n,): LPIPS.
    """
    frames = clip[list(OUTER)]
    video = to_unit(torch.from_numpy(frames).permute(3, 0, 1, 2)[None])  # (1, 3, 4, H, W)
    key = to_unit(torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None])  # (1, 3, H, W)
    with torch.inference_mode():
        flow = estimate_flow(video, key)[0]  # (4, 2, H / 8, W / 8)
        whole = functional.interpolate(flow, key.shape[-2:], mode="bilinear", align_corners=False)
        moved = warp(key.expand(len(frames), -1, -1, -1), whole)  # (4, 3, H, W)
    return float(perceptual(np.ascontiguousarray(to_bytes(moved).permute(0, 2, 3, 1).numpy()), frames).mean())
