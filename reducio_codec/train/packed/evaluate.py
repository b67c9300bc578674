"""How good a training's decoders are, on packed scenes that it hasn't seen.

    python -m reducio_codec.train.packed.pack VAL --out PACK_VAL --quality 95
    python -m reducio_codec.train.packed.evaluate RUN --pack PACK_VAL --lpips lpips-alex.safetensors --out results.json

The middle 256x256 pixels, clips of 16 frames one after another, PSNR pooled over the 15 frames that aren't the key frame,
mean over clips. ``raw``: the key frame as it is, alone, and the latent as it is. ``coded``: AVIF quality 50, latent step 0.5,
and the neighbours' key frames. Of the latter ``rate`` is about the bits of one of the latent's values, ``by frame`` PSNR along
the clip, ``outer`` the mean of its first and last two frames under that of the two on each side of the key frame.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from reducio_codec.config import CLIP_LENGTH
from reducio_codec.models.contract import Reference
from reducio_codec.models.lite.model import ReducioLite
from reducio_codec.models.precision import fast_autocast
from reducio_codec.train.losses import rate_loss
from reducio_codec.train.packed.data import Frames, open_pack
from reducio_codec.train.packed.parts import load_weights
from reducio_codec.train.packed.perceptual import Lpips

_SIDE, _KEY, _QUALITY, _STEP = 256, 7, 50, 0.5


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """A clip and the key frames of its neighbours, by their places."""

    frames: Frames
    beside: dict[int, Frames]


def held_out(scenes: Sequence[Frames], *, every: int) -> Iterator[HeldOut]:
    """One clip in so many of all."""
    number = 0
    for scene in scenes:
        top, left = ((length - _SIDE) // 2 for length in scene.shape[1:3])
        middle = scene[:, max(top, 0) : max(top, 0) + _SIDE, max(left, 0) : max(left, 0) + _SIDE]
        for start in range(0, len(scene) - CLIP_LENGTH + 1, CLIP_LENGTH):
            if number % every == 0:
                places = [p for p in (_KEY - CLIP_LENGTH, _KEY + CLIP_LENGTH) if 0 <= start + p < len(scene)]
                beside = {place: middle[start + place] for place in places}
                yield HeldOut(frames=middle[start : start + CLIP_LENGTH], beside=beside)
            number += 1


def _coded(picture: Frames) -> Tensor:
    """(1, 3, H, W) in [-1, 1], as a reader gets it."""
    data = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(picture))
    image.save(data, "AVIF", quality=_QUALITY, subsampling="4:4:4", speed=4)
    with Image.open(data) as coded:
        return _unit(np.asarray(coded.convert("RGB"))[None])[:, :, 0]


def _unit(frames: Frames) -> Tensor:
    """(T, H, W, 3) -> (1, 3, T, H, W)."""
    return torch.from_numpy(np.array(frames)).permute(3, 0, 1, 2)[None].float() / 127.5 - 1


def _levels(decoded: Tensor, video: Tensor) -> list[float]:
    """Mean squared error of each frame, in 8-bit levels."""
    shown = ((decoded.float().clamp(-1, 1) + 1) * 127.5).round() - (video + 1) * 127.5
    return [float(value) for value in shown.square().mean((0, 1, 3, 4))]


def _decibels(error: float) -> float:
    return -10 * math.log10(max(error, 1e-3) / 255**2)


@torch.inference_mode()
def measure(
    model: ReducioLite, clip: HeldOut, *, widths: Tensor, decoders: Sequence[str], lpips: Lpips | None
) -> dict[str, Any]:
    device = model.latent_std.device
    video = _unit(clip.frames).to(device)
    others = [frame for frame in range(CLIP_LENGTH) if frame != _KEY]
    repeated = np.array(_levels(video[:, :, _KEY, None], video))
    found: dict[str, Any] = {"copy": _decibels(float(np.mean(repeated[others])))}

    def decode(own: Tensor, beside: Sequence[Reference], *, step: float | None) -> dict[str, Tensor]:
        key = Reference(picture=own.to(device), place=_KEY)
        latent = model.latent(model.encode(video, references=[key]).mode())
        if step is not None:
            found["rate"] = float(rate_loss(latent, widths.to(device)[:, None, None, None]))
            units = step * widths.to(device)[:, None, None, None]
            latent = (latent / units).round() * units
        return model.decode_by(decoders, latent, [key, *beside])

    with fast_autocast(device):
        raw = decode(video[:, :, _KEY], [], step=None)
        beside = [
            Reference(picture=_coded(picture).to(device), place=place, beside=True)
            for place, picture in clip.beside.items()
        ]
        coded = decode(_coded(clip.frames[_KEY]), beside, step=_STEP)
    for name in decoders:
        found[f"{name} raw"] = _decibels(float(np.mean(np.array(_levels(raw[name], video))[others])))
        errors = _levels(coded[name], video)
        found[f"{name} coded"] = _decibels(float(np.mean(np.array(errors)[others])))
        by_frame = found[f"{name} by frame"] = np.array([_decibels(error) for error in errors])
        found[f"{name} outer"] = float(by_frame[[5, 6, 8, 9]].mean() - by_frame[[0, 1, 14, 15]].mean())
        if lpips is not None:
            pair = (x[0].transpose(0, 1).float() for x in (coded[name], video))
            found[f"{name} lpips"] = float(lpips(*pair).mean())
    return found


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--pack", type=click.Path(path_type=Path), required=True, help="Packed scenes.")
@click.option("--lpips", type=click.Path(path_type=Path), default=None, help="AlexNet's file.")
@click.option("--decoder", "decoders", multiple=True, default=("attention", "add", "linear"), show_default=True)
@click.option("--every", default=1, show_default=True, help="Take one clip in so many.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="JSON to write.")
def main(run: Path, pack: Path, lpips: Path | None, decoders: tuple[str, ...], every: int, out: Path) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, widths = load_weights(run)
    model.to(device).eval().requires_grad_(False)
    metric = None if lpips is None else Lpips(lpips).to(device)
    rows = [
        measure(model, clip, widths=widths, decoders=decoders, lpips=metric)
        for clip in held_out(open_pack(pack), every=every)
    ]
    means = {key: np.mean([row[key] for row in rows], 0).round(4).tolist() for key in rows[0]}
    out.write_text(json.dumps({"clips": len(rows), **means}, indent=2) + "\n")


if __name__ == "__main__":
    main()
