"""Clips to validate on, and what a model makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reducio_codec.config import CLIP_LENGTH
from reducio_codec.metrics.psnr import PsnrMeter
from reducio_codec.models.interface import CodecModel
from reducio_codec.pixels import to_bytes, to_unit
from reducio_codec.train.render import resize
from reducio_codec.train.scan import Video
from reducio_codec.train.store import FrameStore

Clip = npt.NDArray[np.uint8]
"""(16, H, W, 3)."""

_COPY = "copy"


def validation_clips(videos: Sequence[Video], store: FrameStore, *, side: int, count: int = 0) -> list[Clip]:
    """Clips one after another within each scene; the shorter side resized to ``side``, the centre cropped.

    Args:
        count: at most so many, evenly spread; 0 for all.
    """
    places = [
        (number, start)
        for number, video in enumerate(videos)
        for first, last in video.scenes
        for start in range(first, last - CLIP_LENGTH + 1, CLIP_LENGTH)
    ]
    if 0 < count < len(places):
        places = [places[i] for i in np.linspace(0, len(places) - 1, count).round().astype(int)]
    clips = []
    for number, start in places:
        frames = store.frames(number, range(start, start + CLIP_LENGTH))  # (16, H, W, 3)
        height, width = frames.shape[1:3]
        scale = side / min(height, width)
        clip = resize(frames, height=max(side, round(height * scale)), width=max(side, round(width * scale)))
        top, left = (clip.shape[2] - side) // 2, (clip.shape[3] - side) // 2
        clip = clip[:, :, top : top + side, left : left + side]  # (3, 16, side, side)
        clips.append(np.ascontiguousarray(clip.permute(1, 2, 3, 0).numpy()))
    return clips


@dataclass(frozen=True, kw_only=True)
class Validation:
    """PSNR in dB, pooled over the 15 frames that aren't the key frame, mean over clips."""

    copied: float
    """Of the key frame repeated."""
    decoders: dict[str, float]

    def log(self) -> dict[str, float]:
        """Values by the names of the log."""
        gains = {f"val/{name}/gain": round(psnr - self.copied, 3) for name, psnr in self.decoders.items()}
        return {
            "val/copy": round(self.copied, 3),
            **{f"val/{k}": round(v, 3) for k, v in self.decoders.items()},
            **gains,
        }


@torch.inference_mode()
def validate(
    model: CodecModel,
    clips: Sequence[Clip],
    *,
    decoders: Sequence[str],
    device: torch.device,
    autocast: Callable[[], torch.autocast],
) -> Validation:
    """Raw key frame, latent as it is."""
    index = model.default_keyframe_index
    meters = {name: PsnrMeter() for name in (_COPY, *decoders)}
    for clip in clips:
        shown = {_COPY: np.repeat(clip[index : index + 1], CLIP_LENGTH, 0)}
        shown |= decode_all(model, clip, decoders=decoders, device=device, autocast=autocast)
        for name, frames in shown.items():
            meters[name].add(clip, frames, keyframe=index)
    found = {name: meter.result().pooled_without_keyframe or 0.0 for name, meter in meters.items()}
    return Validation(copied=found.pop(_COPY), decoders=found)


@torch.inference_mode()
def decode_all(
    model: CodecModel,
    clip: Clip,
    *,
    decoders: Sequence[str],
    device: torch.device,
    autocast: Callable[[], torch.autocast],
) -> dict[str, Clip]:
    """The clip as each decoder shows it."""
    video = to_unit(torch.from_numpy(clip).permute(3, 0, 1, 2)[None]).to(device)  # (1, 3, 16, H, W)
    keyframe = video[:, :, model.default_keyframe_index].contiguous()
    with autocast():
        latent = model.latent(model.encode(video).mode())
        return {name: _levels(model.decode(latent, keyframe, decoder=name)) for name in decoders}


def _levels(video: Tensor) -> Clip:
    return np.ascontiguousarray(to_bytes(video.float().clamp(-1, 1))[0].permute(1, 2, 3, 0).cpu().numpy())
