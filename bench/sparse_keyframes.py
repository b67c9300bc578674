"""Key frames every 16 frames, or pairs of them every 32: quality and bits of both.

    python -m bench.sparse_keyframes --data VIDEOS --cache DIR -o bench/results/sparse-keyframes.json

The file format lets every clip say which of its frames is the key frame. With the last one of a clip and the first one of the
next, two key frames lie side by side and the second is nearly given by the first, but the frames furthest away are 15
frames away, not 8. Key frames of a sequence are coded together, as files do it, and the decoder has two references.
PSNR is pooled over all frames of a sequence, on 8-bit values; bits are those of key frames and latents.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import torch

from bench.json_files import write_json
from bench.machine import describe
from reducio_codec.codec import ReducioCodec
from reducio_codec.config import CLIP_LENGTH
from reducio_codec.io.pixels import to_bytes, to_unit
from reducio_codec.measure.evaluate_neighbours import Frames, sequences
from reducio_codec.metrics.psnr import psnr
from reducio_codec.models.contract import Reference
from reducio_codec.rdc.keyframe import code_keyframes

PROTOCOL = "sparse-keyframes/1"
DECODER = "attention"
LAYOUTS = {"every 16 frames": (7, 7, 7, 7), "two side by side every 32": (15, 0, 15, 0)}
"""Place of the key frame in each clip of a sequence."""


def code(codec: ReducioCodec, frames: Frames, *, places: Sequence[int], quality: int, step: float) -> dict[str, float]:
    """PSNR of a sequence of ``len(places)`` clips, and its kbit a clip."""
    keys = [number * CLIP_LENGTH + place for number, place in enumerate(places)]
    coded, seen = code_keyframes([np.ascontiguousarray(frames[key]) for key in keys], codec="avif", quality=quality)
    pictures = [to_unit(torch.from_numpy(picture).permute(2, 0, 1)[None]) for picture in seen]  # (1, 3, H, W)
    decoded, latent_bytes = np.empty_like(frames), 0
    for number in range(len(places)):
        start = number * CLIP_LENGTH
        own = slice(start, start + CLIP_LENGTH)
        clip = torch.from_numpy(frames[own]).permute(3, 0, 1, 2)[None]  # (1, 3, 16, H, W)
        references = [
            Reference(picture=picture, place=key - start, beside=other != number)
            for other, (picture, key) in enumerate(zip(pictures, keys, strict=True))
            if abs(other - number) <= 1
        ]
        latent = codec.runner.encode(clip, references=references)[0]
        symbols, quantized = codec.coder.code(latent.float().numpy(), step=step)
        latent_bytes += len(symbols)
        with torch.inference_mode(), codec.runner.autocast():
            video = codec.model.decode(torch.from_numpy(quantized)[None], references, decoder=DECODER)
        decoded[own] = to_bytes(video)[0].permute(1, 2, 3, 0).numpy()
    return {
        "psnr": psnr(frames, decoded),
        "key frame kbit": sum(map(len, coded)) * 8 / 1000 / len(places),
        "latent kbit": latent_bytes * 8 / 1000 / len(places),
    }


@click.command()
@click.option("--model", default="reducio-lite", show_default=True, help="A name or a folder.")
@click.option("--data", required=True, help="Folder of videos.")
@click.option("--cache", type=click.Path(path_type=Path), required=True, help="Where decoded videos are kept.")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="JSON to write.")
@click.option("--quality", "qualities", multiple=True, default=[5, 20, 50], show_default=True, help="May be repeated.")
@click.option("--step", default=0.5, show_default=True, help="latent_step.")
@click.option("--side", default=256, show_default=True, type=click.IntRange(32), help="Pixels.")
@click.option("--every", default=1, show_default=True, type=click.IntRange(1), help="Take one sequence in so many.")
def main(
    model: str, data: str, cache: Path, out: Path, qualities: tuple[int, ...], step: float, side: int, every: int
) -> None:
    codec = ReducioCodec.from_pretrained(model, decoders=(DECODER,), dtype="auto")
    clips = len(next(iter(LAYOUTS.values())))
    chosen = sequences(data, cache=cache, clips=clips, side=side)[::every]
    points = []
    for layout, places in LAYOUTS.items():
        for quality in qualities:
            rows = [code(codec, frames, places=places, quality=quality, step=step) for frames in chosen]
            means = {name: round(float(np.mean([row[name] for row in rows])), 3) for name in rows[0]}
            bits = 1000 * (means["key frame kbit"] + means["latent kbit"])
            points.append({"layout": layout, "quality": quality, **means, "bpp": bits / (CLIP_LENGTH * side**2)})
            click.echo(json.dumps(points[-1]))
    result = {
        "protocol": PROTOCOL,
        "model": codec.model_hash,
        "sequences": len(chosen),
        "clips of a sequence": clips,
        "side": side,
        "step": step,
        "points": points,
        "machine": describe(),
    }
    write_json(out, result)


if __name__ == "__main__":
    main()
