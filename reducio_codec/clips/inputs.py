"""What users hand over, checked: every refusal names the value and what is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reducio_codec.config import CLIP_LENGTH, check_whole
from reducio_codec.errors import InputError
from reducio_codec.models.contract import Decoder

if TYPE_CHECKING:
    from reducio_codec.clips.runner import ClipRunner

RANGE_TOLERANCE = 1e-3
"""How far a float may leave [-1, 1]: resampling and half precision overshoot by less."""

VIDEO_FORMS = (
    "a uint8 (T, H, W, 3) array or tensor, a uint8 (B, T, H, W, 3) one, "
    "a float (B, 3, T, H, W) tensor in [-1, 1], or a path"
)


def as_video(video: Any) -> Tensor:
    """Any allowed form of video, in memory, as one layout.

    Args:
        video: uint8 ``(T, H, W, 3)`` or ``(B, T, H, W, 3)``, or float ``(B, 3, T, H, W)`` in [-1, 1]; NumPy or torch.

    Returns:
        ``(B, 3, T, H, W)`` uint8 or float, sharing the input's memory where that is possible.

    Raises:
        InputError: another type, dtype, shape or range, no frames, no pixels, or NaN.
    """
    tensor = _as_tensor(video)
    shape = tuple(tensor.shape)
    if tensor.dtype == torch.uint8:
        if tensor.ndim not in (4, 5) or shape[-1] != 3:
            raise InputError(f"uint8 video has shape {shape}; allowed: (T, H, W, 3) or (B, T, H, W, 3)")
        tensor = (tensor if tensor.ndim == 5 else tensor[None]).permute(0, 4, 1, 2, 3)  # (B, 3, T, H, W)
    elif tensor.is_floating_point():
        if tensor.ndim != 5 or shape[1] != 3:
            raise InputError(f"float video has shape {shape}; allowed: (B, 3, T, H, W)")
    else:
        raise InputError(f"video has dtype {tensor.dtype}; allowed: uint8, or float in [-1, 1]")
    if tensor.numel() == 0:
        raise InputError(f"video has shape {shape}; it needs at least one frame of at least one pixel")
    if tensor.is_floating_point():
        check_range(tensor, name="video")
    return tensor.detach()


def _as_tensor(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray) and (value.dtype == np.uint8 or value.dtype.kind == "f"):
        # negative strides (a flipped array) and read-only memory are NumPy's alone
        return torch.from_numpy(np.require(value, requirements=["C", "W"]))
    found = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
    raise InputError(f"video is {found}; allowed: {VIDEO_FORMS}")


def check_range(tensor: Tensor, *, name: str) -> None:
    """Refuse floats outside [-1, 1] and NaN."""
    low, high = (float(value) for value in tensor.aminmax())
    if low != low or high != high:
        raise InputError(f"{name} holds NaN; allowed: floats in [-1, 1]")
    if low < -1 - RANGE_TOLERANCE or high > 1 + RANGE_TOLERANCE:
        hint = "; divide bytes by 127.5 and subtract 1" if high > 2 else ""
        raise InputError(f"{name} has values from {low:.4g} to {high:.4g}; allowed: -1 to 1{hint}")


def check_latent(latent: Any, keyframe: Any, *, runner: ClipRunner) -> int:
    """Refuse a latent and key frames that don't fit each other or the model; give the number of clips."""
    for name, value, layout in (("latent", latent, "(B, z, N*t, h, w)"), ("keyframe", keyframe, "(B, 3, N, H, W)")):
        if not isinstance(value, Tensor):
            raise InputError(f"{name} is a {type(value).__name__}; allowed: a float tensor {layout}")
        if not value.is_floating_point() or value.ndim != 5 or not value.numel():
            raise InputError(f"{name} is {value.dtype} {tuple(value.shape)}; allowed: a float tensor {layout}")
    shape, channels, length = tuple(latent.shape), runner.latent_channels, runner.latent_frames
    if shape[1] != channels or shape[2] % length:
        raise InputError(f"latent has shape {shape}; this model needs (B, {channels}, N*{length}, h, w)")
    clips: int = shape[2] // length
    if tuple(keyframe.shape[:3]) != (shape[0], 3, clips):
        raise InputError(
            f"keyframe has shape {tuple(keyframe.shape)}; a latent of {clips} clips and a batch of {shape[0]} "
            f"needs ({shape[0]}, 3, {clips}, H, W)"
        )
    height, width = keyframe.shape[-2:]
    if shape[-2:] != runner.grid(height, width):
        raise InputError(
            f"latent has a grid of {shape[-2:]}; a key frame of {width}x{height} pixels "
            f"needs {runner.grid(height, width)}"
        )
    check_range(keyframe, name="keyframe")
    return clips


def check_neighbours(neighbours: Any, keyframe: Tensor, *, decoder: Decoder) -> None:
    """Refuse key frames beside a part of a video that don't look like its own (B, 3, N, H, W), or have no use."""
    if not decoder.uses_neighbours:
        raise InputError(f"neighbours are given, and the decoder {decoder.name!r} has no use for them")
    if not isinstance(neighbours, tuple | list) or len(neighbours) != 2:
        raise InputError(
            "neighbours must be two: the key frame before the first clip and the one after the last, or None"
        )
    expected = (*keyframe.shape[:2], *keyframe.shape[3:])
    for picture in neighbours:
        if picture is None:
            continue
        if not isinstance(picture, Tensor) or not picture.is_floating_point() or tuple(picture.shape) != expected:
            found = f"{picture.dtype} {tuple(picture.shape)}" if isinstance(picture, Tensor) else type(picture).__name__
            raise InputError(f"neighbours holds {found}; allowed: float tensors {expected}, or None")
        check_range(picture, name="neighbours")


def as_frame(frame: Any, *, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """One frame of a stream: uint8 ``(H, W, 3)``, of the stream's ``size`` (height, width) where that is known."""
    array = frame.cpu().numpy() if isinstance(frame, Tensor) else frame
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8:
        found = getattr(array, "dtype", type(array).__name__)
        raise InputError(f"frame is {found}; allowed: uint8 (H, W, 3)")
    if array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise InputError(f"frame has shape {array.shape}; allowed: (H, W, 3)")
    if size is not None and array.shape[:2] != size:
        raise InputError(
            f"frame is {array.shape[1]}x{array.shape[0]}, the ones before were {size[1]}x{size[0]}; "
            "all frames of a video have one size"
        )
    return array


def check_keyframe_index(index: int | None, *, default: int) -> int:
    """Which of a clip's 16 frames is its key frame: 0 to 15, or the model's default."""
    if index is None:
        return default
    return check_whole(index, name="keyframe_index", most=CLIP_LENGTH - 1)
