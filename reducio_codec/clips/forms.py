"""Videos, frames and pictures in whatever holds them: one place that all entry points take them through.

uint8 or float in [-1, 1], NumPy or torch, channels last or first, one after another or in one array; Pillow's pictures are RGB
as files are: grey repeated, transparency on black. Every refusal names the value, what is allowed, and what to do.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from reducio_codec.errors import InputError
from reducio_codec.io.images import picture_to_rgb
from reducio_codec.io.pixels import to_bytes, to_unit

RANGE_TOLERANCE = 1e-3
"""How far a float may leave [-1, 1]: resampling and half precision overshoot by less."""

FRAME_FORMS = "uint8 or float in [-1, 1], (H, W, 3) or (3, H, W), NumPy or torch, or a picture of Pillow"

VIDEO_FORMS = (
    "a uint8 (T, H, W, 3) array or tensor, or float in [-1, 1]; also (3, T, H, W), (T, 3, H, W), "
    "(B, 3, T, H, W) and (B, T, H, W, 3); frames one by one; or a path"
)

_LAYOUTS = {
    3: {-1: "(H, W, 3)", 0: "(3, H, W)"},
    4: {-1: "(T, H, W, 3)", 0: "(3, T, H, W)", 1: "(T, 3, H, W)"},
    5: {-1: "(B, T, H, W, 3)", 1: "(B, 3, T, H, W)"},
}
"""By the number of axes: where the channels may be."""


def as_video(video: Any, *, name: str = "video") -> Tensor:
    """Any allowed form of video, in memory, as one layout.

    Args:
        video: ``(T, H, W, 3)``, ``(3, T, H, W)``, ``(T, 3, H, W)``, ``(B, 3, T, H, W)`` or ``(B, T, H, W, 3)``, uint8 or float in
            [-1, 1], NumPy or torch; a picture of Pillow (one frame); or anything that gives frames, see ``as_frame``. Where
            two readings fit, bytes have their channels last, and five axes of floats ``(B, 3, T, H, W)``.
        name: what messages call it.

    Returns:
        ``(B, 3, T, H, W)`` uint8 or float, sharing the input's memory where that is possible.

    Raises:
        InputError: another type, dtype, shape or range, no frames, no pixels, or NaN.
    """
    if isinstance(video, Image.Image):
        video = [video]
    if not isinstance(video, np.ndarray | Tensor):
        tensor = _stacked(_given_frames(video, name=name), name=name)
    else:
        tensor = _as_tensor(video, name=name, allowed=VIDEO_FORMS)
        axis = _channels(tensor, video, name=name, axes=(4, 5))
        tensor = (tensor if tensor.ndim == 5 else tensor[None]).movedim(axis if axis < 0 else axis + 5 - tensor.ndim, 1)
    if tensor.numel() == 0:
        shape = tuple(np.shape(video)) or tuple(tensor.shape)
        raise InputError(f"{name} has shape {shape}; it needs at least one frame of at least one pixel")
    if tensor.is_floating_point():
        check_range(tensor, name=name, doubt=True)
    return tensor.detach()


def as_keyframes(keyframe: Any) -> Tensor:
    """Key frames as ``(B, 3, N, H, W)`` float: such a tensor as it is, one picture as ``as_frame`` takes it, or N of them in any
    form of ``as_video``."""
    if isinstance(keyframe, Tensor) and keyframe.is_floating_point() and keyframe.ndim == 5 and keyframe.numel():
        check_range(keyframe, name="keyframe", doubt=True)
        return keyframe
    if isinstance(keyframe, Image.Image) or (isinstance(keyframe, np.ndarray | Tensor) and keyframe.ndim < 4):
        return to_unit(as_picture(keyframe, name="keyframe")).permute(2, 0, 1)[None, :, None]
    return to_unit(as_video(keyframe, name="keyframe"))


def frames_of(video: Any) -> Iterator[NDArray[np.uint8]]:
    """The frames ``(H, W, 3)`` uint8 of one video in any form of ``as_video``, one by one; what gives frames is read no further
    than it is asked for."""
    if isinstance(video, np.ndarray | Tensor | Image.Image):
        whole = as_video(video)  # (B, 3, T, H, W)
        if len(whole) > 1:
            raise InputError(f"video is a batch of {len(whole)} videos; allowed: one")
        for number in range(whole.shape[2]):
            yield to_bytes(whole[0, :, number]).permute(1, 2, 0).cpu().numpy()
        return
    size: tuple[int, int] | None = None
    for frame in _given_frames(video, name="video"):
        array = as_frame(frame, size=size)
        size = array.shape[0], array.shape[1]
        yield array


def as_frame(frame: Any, *, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """One frame of a stream as ``(H, W, 3)`` uint8, of the stream's ``size`` (height, width) where that is known.

    Args:
        frame: uint8 or float in [-1, 1], ``(H, W, 3)`` or ``(3, H, W)``, NumPy or torch, or a picture of Pillow.
    """
    picture = as_picture(frame, name="frame", doubt=size is None)
    _check_size(picture, size)
    return picture.cpu().numpy()


def as_picture(picture: Any, *, name: str, doubt: bool = True) -> Tensor:
    """One picture, as ``as_frame`` takes it, as ``(H, W, 3)`` uint8; ``doubt`` as for ``check_range``."""
    found = _as_picture(picture, name=name)
    if found.is_floating_point():
        check_range(found, name=name, doubt=doubt)
    return to_bytes(found)


def check_range(tensor: Tensor, *, name: str, doubt: bool = False) -> None:
    """Refuse floats outside [-1, 1] and NaN. With ``doubt`` warn of those that look like [0, 1]: not one is below 0."""
    low, high = (float(value) for value in tensor.detach().aminmax())
    if low != low or high != high:
        raise InputError(f"{name} holds NaN; allowed: floats in [-1, 1]")
    if low < -1 - RANGE_TOLERANCE or high > 1 + RANGE_TOLERANCE:
        hint = "; divide bytes by 127.5 and subtract 1" if high > 2 else ""
        raise InputError(f"{name} has values from {low:.4g} to {high:.4g}; allowed: -1 to 1{hint}")
    if doubt and 0 <= low < high:
        warnings.warn(
            f"no value of {name} is below 0, as if they were in [0, 1]; floats are taken to be in [-1, 1], where 0 is mid-grey. "
            f"For values in [0, 1] give 2 * {name} - 1",
            stacklevel=_level_of_caller(),
        )


def _level_of_caller() -> int:
    """``stacklevel`` of a warning that shows the line from which this package was called."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).split(".")[0] == "reducio_codec":
        level, frame = level + 1, frame.f_back
    return level


def _as_picture(picture: Any, *, name: str) -> Tensor:
    """(H, W, 3) uint8 or float, its range not yet checked."""
    if isinstance(picture, Image.Image):
        return torch.from_numpy(picture_to_rgb(picture))
    tensor = _as_tensor(picture, name=name, allowed=FRAME_FORMS)
    tensor = tensor.detach().movedim(_channels(tensor, picture, name=name, axes=(3,)), -1)
    if tensor.numel() == 0:
        raise InputError(f"{name} has shape {tuple(picture.shape)}; it needs at least one pixel")
    return tensor


def _given_frames(video: Any, *, name: str) -> Iterable[Any]:
    if isinstance(video, str | bytes | bytearray | memoryview | Mapping) or not isinstance(video, Iterable):
        raise InputError(f"{name} is a {type(video).__name__}; allowed: {VIDEO_FORMS}")
    return video


def _stacked(frames: Iterable[Any], *, name: str) -> Tensor:
    """(1, 3, T, H, W) of frames of one size and kind."""
    pictures: list[Tensor] = []
    for frame in frames:
        picture = _as_picture(frame, name="frame")
        if pictures:
            _check_size(picture, (pictures[0].shape[0], pictures[0].shape[1]))
            if picture.dtype != pictures[0].dtype:
                raise InputError(
                    f"frame is {picture.dtype}, the ones before were {pictures[0].dtype}; all frames of a video have one dtype"
                )
        pictures.append(picture)
    if not pictures:
        raise InputError(f"{name} has 0 frames; it needs at least one")
    return torch.stack(pictures).permute(3, 0, 1, 2)[None]


def _check_size(picture: Tensor, size: tuple[int, int] | None) -> None:
    if size is not None and tuple(picture.shape[:2]) != size:
        raise InputError(
            f"frame is {picture.shape[1]}x{picture.shape[0]}, the ones before were {size[1]}x{size[0]}; "
            "all frames of a video have one size"
        )


def _as_tensor(value: Any, *, name: str, allowed: str) -> Tensor:
    if isinstance(value, Tensor):
        kind, good = str(value.dtype), value.dtype == torch.uint8 or value.is_floating_point()
        if good:
            return value
        hint = f"{name}.to(torch.uint8)"
    elif isinstance(value, np.ndarray):
        kind, good = f"an array of {value.dtype}", value.dtype == np.uint8 or value.dtype.kind == "f"
        if good:  # negative strides (a flipped array) and read-only memory are NumPy's alone
            return torch.from_numpy(np.require(value, requirements=["C", "W"]))
        hint = f"{name}.astype(numpy.uint8)"
    else:
        raise InputError(f"{name} is a {type(value).__name__}; allowed: {allowed}")
    raise InputError(f"{name} is {kind}; allowed: {allowed}. For values from 0 to 255 give {hint}")


def _channels(tensor: Tensor, given: Any, *, name: str, axes: tuple[int, ...]) -> int:
    """Which axis has the three channels; InputError where none has, or where two could have."""
    shape, layouts = tuple(tensor.shape), _LAYOUTS.get(tensor.ndim, {}) if tensor.ndim in axes else {}
    fits = [axis for axis in layouts if shape[axis] == 3]
    if not fits:
        allowed = " or ".join(layout for count in axes for layout in _LAYOUTS[count].values())
        raise InputError(f"{name} has shape {shape}; allowed: {allowed}{_advice(shape, given, name=name, axes=axes)}")
    if len(fits) == 1:
        return fits[0]
    if tensor.ndim == 4 and (tensor.is_floating_point() or -1 not in fits):
        readings = " or ".join(layouts[axis] for axis in fits)
        raise InputError(f"{name} has shape {shape}, which could be {readings}; give it five axes: (B, 3, T, H, W)")
    return -1 if tensor.dtype == torch.uint8 else fits[-1]


def _advice(shape: tuple[int, ...], given: Any, *, name: str, axes: tuple[int, ...]) -> str:
    """How to make what is allowed of a shape that isn't."""
    if 3 in axes and len(shape) == 4:
        return (
            ". This looks like a video: give its frames; several videos of one size and length are one (B, T, H, W, 3)"
        )
    if 4 in axes and len(shape) == 3 and 3 in (shape[0], shape[-1]):
        return f". This looks like one picture: give {name}[None]"
    if len(shape) == 5 and shape[2] == 3:
        return f". For (B, T, 3, H, W) give {name}.{'permute' if isinstance(given, Tensor) else 'transpose'}(0, 2, 1, 3, 4)"
    repeat, dim = ("repeat_interleave", "dim") if isinstance(given, Tensor) else ("repeat", "axis")
    if len(shape) == axes[0] - 1:
        return f". This looks grey: give {name}[..., None].{repeat}(3, {dim}=-1)"
    for axis in _LAYOUTS.get(len(shape), ()):
        if shape[axis] == 1:
            return f". This looks grey: give {name}.{repeat}(3, {dim}={axis})"
        if shape[axis] == 4:
            part = "..., :3" if axis < 0 else ":, " * axis + ":3"
            return f". The fourth channel looks like transparency: give {name}[{part}] without it"
    return ""
