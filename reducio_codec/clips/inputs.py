"""Latents and key frames that users hand over, checked: every refusal names the value and what is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from reducio_codec.clips.forms import check_range
from reducio_codec.clips.latent import known_facts
from reducio_codec.clips.spans import count_clips
from reducio_codec.config import CLIP_LENGTH, check_whole
from reducio_codec.errors import InputError
from reducio_codec.models.contract import Decoder

if TYPE_CHECKING:
    from reducio_codec.clips.runner import ClipRunner


def as_tensor(latent: Any) -> Any:
    """A latent of NumPy as a tensor; anything else as it is."""
    return torch.from_numpy(np.require(latent, requirements=["C", "W"])) if isinstance(latent, np.ndarray) else latent


def check_latent(latent: Any, keyframe: Any, *, runner: ClipRunner) -> int:
    """Refuse a latent and key frames that don't fit each other or the model; give the number of clips."""
    clips = check_shapes(latent, keyframe, runner=runner)
    check_range(keyframe, name="keyframe")
    return clips


def check_shapes(latent: Any, keyframe: Any, *, runner: ClipRunner) -> int:
    """``check_latent`` without a look at the values, for which an accelerator would have to be waited for."""
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
    return clips


def frames_and_index(
    latent: Tensor, clips: int, *, num_frames: int | None, keyframe_index: int | None, runner: ClipRunner
) -> tuple[int, int]:
    """How many frames a latent of so many clips stands for, and which of a clip's is the key frame: as said, else as the
    latent knows."""
    known_frames, known_index = known_facts(latent)
    if num_frames is None:
        num_frames = clips * CLIP_LENGTH if known_frames is None else known_frames
    if count_clips(num_frames) != clips:
        low, high = (clips - 1) * CLIP_LENGTH + 1, clips * CLIP_LENGTH
        raise InputError(f"num_frames is {num_frames}; a latent of {clips} clips holds {low} to {high}")
    carried = runner.model.default_keyframe_index if known_index is None else known_index
    return num_frames, check_keyframe_index(keyframe_index, default=carried)


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


def check_keyframe_index(index: int | None, *, default: int) -> int:
    """Which of a clip's 16 frames is its key frame: 0 to 15, or the model's default."""
    if index is None:
        return default
    return check_whole(index, name="keyframe_index", most=CLIP_LENGTH - 1)
