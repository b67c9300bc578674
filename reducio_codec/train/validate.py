"""What a model makes of the clips it is validated on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reducio_codec.config import CLIP_LENGTH
from reducio_codec.io.pixels import to_bytes, to_unit
from reducio_codec.metrics.psnr import PsnrMeter
from reducio_codec.models.contract import CodecModel, Reference
from reducio_codec.training.held_out import Clip, HeldOutClip

_COPY = "copy"


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

    def words(self) -> str:
        """All of it in one line for people."""
        found = [f"{name} {value:.2f} dB ({value - self.copied:+.2f})" for name, value in self.decoders.items()]
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
    meters = {name: PsnrMeter() for name in (_COPY, *decoders)}
    for clip in clips:
        index, frames = clip.keyframe_index, clip.frames
        shown = {_COPY: np.repeat(frames[index : index + 1], CLIP_LENGTH, 0)}
        shown |= decode_all(model, clip, decoders=decoders, device=device, autocast=autocast)
        for name, meter in meters.items():
            meter.add(frames, shown[name], keyframe=index)
    found = {name: meter.result().pooled_without_keyframe or 0.0 for name, meter in meters.items()}
    return Validation(copied=found.pop(_COPY), decoders=found)


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
