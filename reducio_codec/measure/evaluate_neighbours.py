"""What the neighbours' key frames give: a decoder with them against the same one without, from the same latents.

    python -m reducio_codec.measure.evaluate_neighbours MODEL --data VIDEOS --cache DIR --out results.json

Protocol: sequences of clips one after another within a scene; shorter side resized to 256, centre crop. Key frames and
latent as they are ("raw"), and as in a file ("coded": AVIF at --quality, latent quantised with --step, and with --effort
refined for two references before). PSNR is pooled
over a clip's frames between two key frames, on 8-bit values, mean over clips; terciles by the PSNR of the repeated key
frame. Joins: mean absolute difference, in grey levels, of the last frame of a clip and the first of the next, and of
all other frames and those after them; the source's own beside it. ``--strips`` draws the frames around each
sequence's first join.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from reducio_codec.clips.references import references_of_clips
from reducio_codec.clips.spans import plan_clips
from reducio_codec.clips.streams import encode_clip
from reducio_codec.codec import ReducioCodec
from reducio_codec.coding.effort import plan_refinement
from reducio_codec.config import CLIP_LENGTH
from reducio_codec.io.files import atomic_write
from reducio_codec.io.pixels import to_unit
from reducio_codec.io.strips import clip_strip
from reducio_codec.measure.evaluate import summary
from reducio_codec.metrics.over_time import changes
from reducio_codec.metrics.psnr import psnr
from reducio_codec.models.contract import choose_decoder
from reducio_codec.rdc.keyframe import code_keyframe
from reducio_codec.training.crops import centre_crop
from reducio_codec.training.manifest import find_videos
from reducio_codec.training.scan import ScanOptions, scan
from reducio_codec.training.store import open_store

Frames = npt.NDArray[np.uint8]
"""(T, H, W, 3)."""

REFERENCES = {"1 reference": 1, "2 references": 2}
"""A clip's own key frame, or those of its neighbours, too."""

Shown = dict[str, Frames]
"""A sequence and what became of it, by name."""


def sequences(data: str, *, cache: Path, clips: int, side: int) -> list[Frames]:
    """As many as fit one after another into each scene of a folder of videos, of ``clips`` clips each; at least one."""
    options = ScanOptions(frame_rate=16.0, stored_side=288, store=True, find_cuts=True)
    videos = scan(find_videos(data), cache=cache, options=options).videos
    store = open_store(videos, storage="disk", device=torch.device("cpu"))
    length = clips * CLIP_LENGTH
    found = [
        centre_crop(store.frames(number, range(start, start + length)), side=side)
        for number, video in enumerate(videos)
        for first, last in video.scenes
        for start in range(first, last - length + 1, length)
    ]
    if not found:
        raise click.UsageError(f"no scene in {data} has {clips} clips of {CLIP_LENGTH} frames")
    return found


def encode(
    codec: ReducioCodec, frames: Frames, *, decoder: str, quality: int | None, step: float | None, effort: int = 0
) -> tuple[Tensor, Tensor, float]:
    """Latent (1, z, N*t, h, w) and key frames (1, 3, N, H, W) as a decoder would have them, and kbit of a clip's latent; None:
    unchanged, and no bits. With ``effort`` each latent is refined for two references."""
    index = codec.model.default_keyframe_index
    spans = plan_clips(len(frames), keyframe_index=index)
    keyframes = []
    for picture in map(np.ascontiguousarray, frames[index::CLIP_LENGTH]):
        if quality is not None:
            _, picture = code_keyframe(picture, quality=quality)
        keyframes.append(to_unit(torch.from_numpy(picture).permute(2, 0, 1)[None]))  # (1, 3, H, W)
    refinement = None
    if step is not None:
        refinement = plan_refinement(effort, runner=codec.runner, coder=codec.coder, decoder=decoder, latent_step=step)
    latents, kbit = [], []
    for span, references in zip(spans, references_of_clips(keyframes, spans, keyframe_index=index), strict=True):
        own = frames[span.start : span.start + CLIP_LENGTH]
        latent = encode_clip(
            codec.runner,
            torch.from_numpy(own).permute(3, 0, 1, 2)[None],  # (1, 3, 16, H, W)
            references=references,
            span=span,
            refinement=refinement,
        )
        if step is not None:
            data, motion = codec.coder.code(latent[0].numpy(), step=step)
            latent = torch.from_numpy(motion)[None]
            kbit.append(len(data) / 125)
        latents.append(latent)
    return torch.cat(latents, 2), torch.stack(keyframes, 2), float(np.mean(kbit or [0.0]))


def decode(
    codec: ReducioCodec, frames: Frames, *, decoder: str, quality: int, step: float, effort: int
) -> tuple[Shown, dict[str, float]]:
    """The sequence itself, its key frames repeated, and what one and two references give; and kbit of a clip's latent."""
    index = codec.model.default_keyframe_index
    keys = np.arange(index, len(frames), CLIP_LENGTH)
    shown = {"source": frames, "copy": frames[np.repeat(keys, CLIP_LENGTH)]}
    bits = {}
    raw, coded = {"quality": None, "step": None}, {"quality": quality, "step": step}
    both = tuple(REFERENCES)
    ways: list[tuple[str, dict[str, Any], Sequence[str]]] = [("raw, {}", raw, both), ("coded, {}", coded, both)]
    if effort:
        ways.append((f"coded, {{}}, effort {effort}", {**coded, "effort": effort}, both[1:]))
    for way, options, names in ways:
        latent, keyframes, kbit = encode(codec, frames, decoder=decoder, **options)
        for words in names:
            name, count = way.format(words), 1 if REFERENCES[words] == 2 else keyframes.shape[2]
            parts = zip(latent.chunk(count, 2), keyframes.chunk(count, 2), strict=True)
            shown[name] = np.concatenate(
                [codec.decode(*part, decoder=decoder, output="uint8")[0].numpy() for part in parts]
            )
            if kbit:
                bits[name] = kbit
    return shown, bits


def measure(shown: Shown, *, keyframe_index: int) -> list[dict[str, float]]:
    """PSNR of each clip."""
    frames = shown["source"]
    keys = np.arange(keyframe_index, len(frames), CLIP_LENGTH)
    rows = []
    for number, key in enumerate(keys):
        own = range(number * CLIP_LENGTH, (number + 1) * CLIP_LENGTH)
        between = [i for i in own if i != key and keys[0] < i < keys[-1]]
        rows.append({name: psnr(frames[between], x[between]) for name, x in shown.items() if name != "source"})
    return rows


def join_strip(shown: Shown) -> Frames:
    """Eight frames around the first join: the source, and what one and two references made of the coded sequence."""
    around = slice(CLIP_LENGTH - 4, CLIP_LENGTH + 4)
    labels = {
        "source": f"source, frames {around.start} to {around.stop - 1}, a new clip begins at {CLIP_LENGTH}",
        **{f"coded, {words}": words for words in REFERENCES},
    }
    return clip_strip({label: shown[name][around] for name, label in labels.items()})


def join_summary(found: Sequence[dict[str, tuple[float, float]]]) -> dict[str, dict[str, float]]:
    """Means over sequences, and the change at joins over the source's."""
    means = {name: np.mean([row[name] for row in found], 0) for name in found[0]}
    return {
        name: {
            "at joins": round(float(joins), 3),
            "elsewhere": round(float(elsewhere), 3),
            "at joins, over source": round(float(joins / max(means["source"][0], 1e-6)), 3),
            "elsewhere, over source": round(float(elsewhere / max(means["source"][1], 1e-6)), 3),
        }
        for name, (joins, elsewhere) in means.items()
    }


@click.command()
@click.argument("model")
@click.option("--data", required=True, help="Folder of videos.")
@click.option("--cache", type=click.Path(path_type=Path), required=True, help="Where decoded videos are kept.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="JSON to write.")
@click.option("--clips", default=3, show_default=True, type=click.IntRange(2), help="Clips of a sequence.")
@click.option("--side", default=256, show_default=True, type=click.IntRange(32), help="Pixels.")
@click.option("--quality", default=50, show_default=True, help="AVIF quality of a coded key frame.")
@click.option("--step", default=0.5, show_default=True, help="latent_step of a coded latent.")
@click.option("--effort", default=0, show_default=True, help="Refine the coded latents for two references, too.")
@click.option("--every", default=1, show_default=True, type=click.IntRange(1), help="Take one sequence in so many.")
@click.option("--decoder", default=None, help="By default the first that makes use of neighbours.")
@click.option("--strips", type=click.Path(path_type=Path), help="Folder for a strip of each sequence.")
def main(
    model: str,
    data: str,
    cache: Path,
    out: Path,
    clips: int,
    side: int,
    quality: int,
    step: float,
    effort: int,
    every: int,
    decoder: str | None,
    strips: Path | None,
) -> None:
    codec = ReducioCodec.from_pretrained(model, dtype="auto")
    name = choose_decoder(codec.model, decoder=decoder, references=2).decoder
    rows: list[dict[str, float]] = []
    joins, bits = [], []
    chosen = sequences(data, cache=cache, clips=clips, side=side)[::every]
    for number, frames in enumerate(chosen):
        shown, kbit = decode(codec, frames, decoder=name, quality=quality, step=step, effort=effort)
        bits.append(kbit)
        rows += measure(shown, keyframe_index=codec.model.default_keyframe_index)
        places = range(CLIP_LENGTH, len(frames), CLIP_LENGTH)
        joins.append({name: changes(result, joins=places) for name, result in shown.items() if name != "copy"})
        if strips is not None:
            strips.mkdir(parents=True, exist_ok=True)
            with atomic_write(strips / f"join-{number:02d}.png") as file:
                Image.fromarray(join_strip(shown)).save(file, "PNG")
    result = {
        "model": codec.model_hash,
        "decoder": name,
        "sequences": len(joins),
        "clips of a sequence": clips,
        "side": side,
        "quality": quality,
        "step": step,
        "psnr between key frames": summary(rows),
        "latent kbit": {name: round(float(np.mean([row[name] for row in bits])), 2) for name in bits[0]},
        "joins": join_summary(joins),
    }
    with atomic_write(out) as file:
        file.write((json.dumps(result, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
