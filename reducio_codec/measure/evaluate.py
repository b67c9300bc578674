"""Quality of a model's decoders on a folder of videos, against repeating the key frame; the source of a card's figures.

    python -m reducio_codec.measure.evaluate reducio-lite --data VIDEOS --cache DIR --out results.json

Protocol: shorter side resized to 256 (bilinear, antialiased), centre crop, clips of 16 frames one after another; PSNR
pooled over the 15 frames of a clip that aren't the key frame, on 8-bit values; mean over clips. Terciles are by the
PSNR of the repeated key frame: a third of the clips each, "hard" has the most motion.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reducio_codec.clips.forms import frames_of
from reducio_codec.clips.refine import refine
from reducio_codec.codec import ReducioCodec
from reducio_codec.coding.effort import plan_refinement
from reducio_codec.config import CLIP_LENGTH
from reducio_codec.errors import InputError
from reducio_codec.io.files import atomic_write
from reducio_codec.io.pixels import to_bytes
from reducio_codec.metrics.psnr import psnr
from reducio_codec.models.contract import CodecModel, Reference
from reducio_codec.rdc.keyframe import code_keyframe
from reducio_codec.training.held_out import validation_clips
from reducio_codec.training.manifest import find_videos
from reducio_codec.training.scan import ScanOptions, scan
from reducio_codec.training.store import open_store

Clip = npt.NDArray[np.uint8]


def measure(
    codec: ReducioCodec, clip: Any, *, quality: int, steps: Sequence[float], efforts: Sequence[int]
) -> dict[str, float]:
    """PSNR of each decoder (raw key frame, latent as it is), and of the default one with both coded; kbit of a clip.

    ``clip`` is a video of 16 frames in any form of ``clips.forms.as_video``.
    """
    model: CodecModel = codec.model
    clip = np.stack(list(frames_of(clip)))  # (16, H, W, 3)
    if len(clip) != CLIP_LENGTH:
        raise InputError(f"the clip has {len(clip)} frames; allowed: {CLIP_LENGTH}")
    index = model.default_keyframe_index
    others = [i for i in range(CLIP_LENGTH) if i != index]
    video = torch.from_numpy(clip.copy()).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    found = {"copy": psnr(clip[others], np.repeat(clip[index : index + 1], len(others), 0))}

    @torch.inference_mode()
    def decoded_psnr(latent: Tensor, keyframe: Tensor, decoder: str) -> float:
        with codec.runner.autocast():
            decoded = model.decode(latent, model.decoder(decoder).select(own(keyframe)), decoder=decoder)
        shown = to_bytes(decoded)[0].permute(1, 2, 3, 0).numpy()  # (16, H, W, 3)
        return psnr(clip[others], shown[others])

    def own(keyframe: Tensor) -> list[Reference]:
        return [Reference(picture=keyframe, place=index)]

    def encode(keyframe: Tensor) -> Tensor:
        return codec.runner.encode(video, references=own(keyframe))

    raw = encode(video[:, :, index])
    for name in model.decoder_names:
        found[name] = decoded_psnr(raw, video[:, :, index], name)
    data, coded = code_keyframe(clip[index], quality=quality)
    keyframe = torch.from_numpy(coded).permute(2, 0, 1)[None].float() / 127.5 - 1
    latent, decoder = encode(keyframe), model.default_decoder
    found["key frame kbit"] = len(data) / 125
    found["coded key frame"] = decoded_psnr(latent, keyframe, decoder)
    for step, effort in product(steps, efforts):
        plan = plan_refinement(effort, runner=codec.runner, coder=codec.coder, decoder=decoder, latent_step=step)
        better = latent
        if plan is not None:
            better = refine(codec.runner, latent, video, references=own(keyframe), frames=slice(16), refinement=plan)
        data, motion = codec.coder.code(better[0].numpy(), step=step)
        name = f"step {step:g}" + (f", effort {effort}" if effort else "")
        found[f"latent kbit, {name}"] = len(data) / 125
        found[f"coded, {name}"] = decoded_psnr(torch.from_numpy(motion)[None], keyframe, decoder)
    return found


def clips_of(data: str, *, cache: Path, every: int) -> list[Clip]:
    """One clip in so many of a folder of videos, (16, 256, 256, 3) each."""
    options = ScanOptions(frame_rate=16.0, stored_side=0, store=True, find_cuts=False)
    videos = scan(find_videos(data), cache=cache, options=options).videos
    store = open_store(videos, storage="disk", device=torch.device("cpu"))
    return [clip.frames for clip in validation_clips(videos, store, side=256)[::every]]


def summary(rows: list[dict[str, float]]) -> dict[str, Any]:
    """Means over clips and over terciles of motion."""
    order = np.argsort([row["copy"] for row in rows])  # the most motion first
    thirds = dict(zip(("hard", "middle", "easy"), np.array_split(order, 3), strict=True))
    groups = {"all": order, **thirds}
    return {
        group: {key: round(float(np.mean([rows[i][key] for i in places])), 3) for key in rows[0]}
        for group, places in groups.items()
    }


def effort_gains(
    rows: list[dict[str, float]], *, steps: Sequence[float], efforts: Sequence[int]
) -> dict[str, dict[str, float]]:
    """What refinement gives: dB of the median clip, and its bits over those without."""
    found = {}
    for step, effort in product(steps, [effort for effort in efforts if effort and 0 in efforts]):
        plain, refined = f"step {step:g}", f"step {step:g}, effort {effort}"
        bits = [float(np.mean([row[f"latent kbit, {name}"] for row in rows])) for name in (refined, plain)]
        gains = [row[f"coded, {refined}"] - row[f"coded, {plain}"] for row in rows]
        found[refined] = {"median gain": round(float(np.median(gains)), 3), "bits": round(bits[0] / bits[1], 3)}
    return found


@click.command()
@click.argument("model")
@click.option("--data", required=True, help="Folder of videos.")
@click.option("--cache", type=click.Path(path_type=Path), required=True, help="Where decoded videos are kept.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="JSON to write.")
@click.option("--quality", default=50, help="AVIF quality of the coded key frame.")
@click.option("--step", "steps", multiple=True, default=[0.25, 0.5], show_default=True, help="latent_step; repeatable.")
@click.option("--effort", "efforts", multiple=True, default=[0], show_default=True, help="Gradient steps; repeatable.")
@click.option("--every", default=1, help="Take one clip in so many.")
def main(
    model: str,
    data: str,
    cache: Path,
    out: Path,
    quality: int,
    steps: Sequence[float],
    efforts: Sequence[int],
    every: int,
) -> None:
    codec = ReducioCodec.from_pretrained(model, dtype="auto")
    clips = clips_of(data, cache=cache, every=every)
    rows = [measure(codec, clip, quality=quality, steps=steps, efforts=efforts) for clip in clips]
    found = {
        "model": codec.model_hash,
        "clips": len(rows),
        "quality": quality,
        "psnr": summary(rows),
        "effort": effort_gains(rows, steps=steps, efforts=efforts),
    }
    with atomic_write(out) as file:
        file.write((json.dumps(found, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
