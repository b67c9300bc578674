"""Clips to validate on, and what a model makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reducio_codec.config import CLIP_LENGTH
from reducio_codec.io.pixels import to_bytes, to_unit
from reducio_codec.metrics.psnr import PsnrMeter, psnr
from reducio_codec.models.contract import CodecModel, Reference
from reducio_codec.train.render import resize
from reducio_codec.train.scan import Video
from reducio_codec.train.store import FrameStore

Clip = npt.NDArray[np.uint8]
"""(16, H, W, 3)."""
Picture = npt.NDArray[np.uint8]
"""(H, W, 3)."""

_COPY = "copy"


@dataclass(frozen=True, kw_only=True)
class HeldOutClip:
    """A clip, and the frames that are the key frames of the clips before and after; None where the scene has none."""

    frames: Clip
    neighbours: tuple[Picture | None, Picture | None]
    keyframe_index: int

    def between(self) -> list[int]:
        """Frames between two key frames."""
        before, after = self.neighbours
        first = range(0 if before is not None else self.keyframe_index, self.keyframe_index)
        return [*first, *range(self.keyframe_index + 1, CLIP_LENGTH if after is not None else 0)]


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


def centre_crop(frames: Tensor, *, side: int) -> Clip:
    """(n, H, W, 3) to (n, side, side, 3) uint8: the shorter side resized to ``side``, the centre cut out."""
    height, width = frames.shape[1:3]
    scale = side / min(height, width)
    clip = resize(frames, height=max(side, round(height * scale)), width=max(side, round(width * scale)))
    top, left = (clip.shape[2] - side) // 2, (clip.shape[3] - side) // 2
    clip = clip[:, :, top : top + side, left : left + side]  # (3, n, side, side)
    return np.ascontiguousarray(clip.permute(1, 2, 3, 0).numpy())


@dataclass(frozen=True, kw_only=True)
class Validation:
    """PSNR in dB, pooled over the 15 frames that aren't the key frame, mean over clips."""

    copied: float
    """Of the key frame repeated."""
    decoders: dict[str, float]
    second: dict[str, float]
    """Of decoders that build on another: how much better than that one the frames between two key frames are, by clips."""
    bases: dict[str, str]
    """Which decoder that is, for each of them."""

    def log(self) -> dict[str, float]:
        """Values by the names of the log."""
        gains = {f"val/{name}/gain": round(psnr - self.copied, 3) for name, psnr in self.decoders.items()}
        return {
            "val/copy": round(self.copied, 3),
            **{f"val/{k}": round(v, 3) for k, v in self.decoders.items()},
            **gains,
            **{f"val/{name}/over {self.bases[name]}": round(gain, 3) for name, gain in self.second.items()},
        }

    def words(self) -> str:
        """All of it in one line for people."""
        found = []
        for name, value in self.decoders.items():
            over = ""
            if name in self.second:
                over = f", {self.second[name]:+.2f} over {self.bases[name]} between key frames"
            found.append(f"{name} {value:.2f} dB ({value - self.copied:+.2f}{over})")
        return f"{', '.join(found)}; repeating the key frame {self.copied:.2f} dB"


@torch.inference_mode()
def validate(
    model: CodecModel,
    clips: Sequence[HeldOutClip],
    *,
    decoders: Sequence[str],
    device: torch.device,
    autocast: Callable[[], torch.autocast],
) -> Validation:
    """Raw key frames, latent as it is."""
    bases = {name: base for name in decoders if (base := model.decoder(name).builds_on)}
    measured = dict.fromkeys((*decoders, *bases.values()))
    meters = {name: PsnrMeter() for name in (_COPY, *decoders)}
    gains: dict[str, list[float]] = {name: [] for name in bases}
    for clip in clips:
        index, frames = clip.keyframe_index, clip.frames
        shown = {_COPY: np.repeat(frames[index : index + 1], CLIP_LENGTH, 0)}
        shown |= decode_all(model, clip, decoders=list(measured), device=device, autocast=autocast)
        for name, meter in meters.items():
            meter.add(frames, shown[name], keyframe=index)
        if between := clip.between():
            for name, base in bases.items():
                gain = psnr(frames[between], shown[name][between]) - psnr(frames[between], shown[base][between])
                gains[name].append(gain)
    found = {name: meter.result().pooled_without_keyframe or 0.0 for name, meter in meters.items()}
    second = {name: float(np.mean(values)) for name, values in gains.items() if values}
    return Validation(copied=found.pop(_COPY), decoders=found, second=second, bases=bases)


@torch.inference_mode()
def decode_all(
    model: CodecModel,
    clip: HeldOutClip,
    *,
    decoders: Sequence[str],
    device: torch.device,
    autocast: Callable[[], torch.autocast],
) -> dict[str, Clip]:
    """The clip as each decoder shows it."""
    video = to_unit(torch.from_numpy(clip.frames).permute(3, 0, 1, 2)[None]).to(device)  # (1, 3, 16, H, W)
    index = clip.keyframe_index
    own = Reference(picture=video[:, :, index].contiguous(), place=index)
    references = [own]
    for picture, place in zip(clip.neighbours, (index - CLIP_LENGTH, index + CLIP_LENGTH), strict=True):
        if picture is not None:
            unit = to_unit(torch.from_numpy(picture).permute(2, 0, 1)[None]).to(device)
            references.append(Reference(picture=unit, place=place, beside=True))
    with autocast():
        latent = model.latent(model.encode(video, references=[own]).mode())
        shown = {}
        for name in decoders:
            used = model.decoder(name).select(references)
            shown[name] = _levels(model.decode(latent, used, decoder=name))
        return shown


def _levels(video: Tensor) -> Clip:
    return np.ascontiguousarray(to_bytes(video.float().clamp(-1, 1))[0].permute(1, 2, 3, 0).cpu().numpy())
