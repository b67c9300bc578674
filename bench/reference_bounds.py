"""How much two references could give at most: what the decoder reaches, and what an oracle would.

    python -m bench.reference_bounds --data VIDEOS --cache DIR -o bench/results/reference-bounds.json

The middle one of three clips: key frames in AVIF of --quality, latent quantised with --step. The oracle knows the source
and takes for each block, without spending a bit on it, the frame made of one reference, the neighbour's key frame moved to fit
it, or the mean of both, whichever is nearest. "Found" motion is searched with the decoded frame, as a decoder could;
"true" motion with the source's. With --effort the latent is refined for one reference or for two: what an encoder that
knows the neighbours could do for the same decoder at about equal bits. PSNR is pooled over the 15 frames that aren't
the key frame, on 8-bit values; means over clips.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.json_files import write_json
from bench.machine import describe
from reducio_codec.clips.refine import refine
from reducio_codec.codec import ReducioCodec
from reducio_codec.coding.effort import plan_refinement
from reducio_codec.config import CLIP_LENGTH
from reducio_codec.io.pixels import to_bytes, to_unit
from reducio_codec.measure.evaluate import summary
from reducio_codec.measure.evaluate_neighbours import Frames, sequences
from reducio_codec.metrics.psnr import decibels
from reducio_codec.models.contract import Reference
from reducio_codec.models.lite.blocks import upsample
from reducio_codec.models.motion import FLOW_STRIDE, estimate_flow, warp
from reducio_codec.rdc.keyframe import code_keyframe

PROTOCOL = "reference-bounds/1"
BLOCKS = (32, 16, 8)
CLIPS = 3
DECODER = "attention"


def measure(codec: ReducioCodec, frames: Frames, *, quality: int, step: float, effort: int) -> dict[str, float]:
    """PSNR of every way to make the middle clip of a sequence of three, and kbit of its latents."""
    index = codec.model.default_keyframe_index
    video = torch.from_numpy(frames).permute(3, 0, 1, 2)[None]  # (1, 3, T, H, W)
    before, keyframe, after = (
        _coded(frames[number * CLIP_LENGTH + index], quality=quality) for number in range(CLIPS)
    )  # (1, 3, H, W) each
    clip = video[:, :, CLIP_LENGTH : 2 * CLIP_LENGTH]
    rest = [number for number in range(CLIP_LENGTH) if number != index]
    source = to_unit(clip)[0].transpose(0, 1)[rest]  # (15, 3, H, W)
    own = Reference(picture=keyframe, place=index)
    beside = [
        Reference(picture=picture, place=index + far, beside=True)
        for picture, far in ((before, -CLIP_LENGTH), (after, CLIP_LENGTH))
    ]
    ways = {"1 reference": [own], "2 references": [own, *beside]}

    def decode(latent: Tensor, references: list[Reference]) -> Tensor:
        size = (keyframe.shape[-2], keyframe.shape[-1])
        whole = torch.empty(1, 3, CLIP_LENGTH, *size)
        for piece in codec.runner.decode_pieces(latent, references, decoder=DECODER, size=size):
            piece.place(whole)
        return to_unit(to_bytes(whole))[0].transpose(0, 1)[rest]

    found: dict[str, float] = {"copy": psnr((keyframe - source).square())}
    latent = codec.runner.encode(clip, references=[own])
    symbols, quantized = codec.coder.code(latent[0].numpy(), step=step)
    found["latent kbit"] = len(symbols) * 8 / 1000
    shown = {way: decode(torch.from_numpy(quantized)[None], references) for way, references in ways.items()}
    found |= {way: psnr((picture - source).square()) for way, picture in shown.items()}
    single = shown["1 reference"]
    for motion, guide in (("found", single), ("true", source)):
        moved = torch.cat(
            [_moved(before, guide[:index]), _moved(after, guide[index:])]
        )  # (15, 3, H, W), each frame from the neighbour on its own side
        candidates = [single, moved, (single + moved) / 2]
        for block in BLOCKS:
            found[f"oracle, {motion} motion, blocks of {block}"] = best_of(candidates, source, block=block)
    for way, references in ways.items() if effort else ():
        refinement = plan_refinement(effort, runner=codec.runner, coder=codec.coder, decoder=DECODER, latent_step=step)
        assert refinement is not None
        better = refine(
            codec.runner,
            latent,
            clip,
            references=references,
            frames=slice(0, CLIP_LENGTH),
            refinement=refinement,
        )
        symbols, quantized = codec.coder.code(better[0].numpy(), step=step)
        name = f"{way}, effort {effort}"
        found[name] = psnr((decode(torch.from_numpy(quantized)[None], references) - source).square())
        found[f"{name}, latent kbit"] = len(symbols) * 8 / 1000
    return found


def best_of(candidates: list[Tensor], source: Tensor, *, block: int) -> float:
    """PSNR of the nearest candidate (N, 3, H, W) of every block of every frame."""
    errors = [F.avg_pool2d((picture - source).square().mean(1, True), block) for picture in candidates]
    return psnr(torch.stack(errors).amin(0))


def psnr(squares: Tensor) -> float:
    """dB, of squared errors of pictures on [-1, 1]."""
    return decibels(float(squares.mean() / 4))


def _coded(picture: np.ndarray, *, quality: int) -> Tensor:
    seen = code_keyframe(np.ascontiguousarray(picture), quality=quality)[1]
    return to_unit(torch.from_numpy(seen).permute(2, 0, 1)[None])


def _moved(neighbour: Tensor, guide: Tensor) -> Tensor:
    """The key frame (1, 3, H, W) moved to look like each of the frames (N, 3, H, W)."""
    flow = estimate_flow(guide.transpose(0, 1)[None], neighbour)[0]  # (N, 2, H/8, W/8)
    return warp(neighbour.expand(len(guide), -1, -1, -1), upsample(flow, FLOW_STRIDE))


@click.command()
@click.option("--model", default="reducio-lite", show_default=True, help="A name or a folder.")
@click.option("--data", required=True, help="Folder of videos.")
@click.option("--cache", type=click.Path(path_type=Path), required=True, help="Where decoded videos are kept.")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="JSON to write.")
@click.option("--quality", default=50, show_default=True, help="AVIF quality of the key frames.")
@click.option("--step", default=0.5, show_default=True, help="latent_step.")
@click.option("--effort", default=20, show_default=True, help="Gradient steps; 0: leave that part out.")
@click.option("--side", default=256, show_default=True, type=click.IntRange(32), help="Pixels.")
@click.option("--every", default=1, show_default=True, type=click.IntRange(1), help="Take one sequence in so many.")
def main(
    model: str, data: str, cache: Path, out: Path, quality: int, step: float, effort: int, side: int, every: int
) -> None:
    codec = ReducioCodec.from_pretrained(model, decoders=(DECODER,), dtype="auto")
    rows: list[dict[str, float]] = []
    chosen = sequences(data, cache=cache, clips=CLIPS, side=side)[::every]
    if len(chosen) < 3:
        raise click.UsageError(f"terciles of motion need at least 3 sequences, there are {len(chosen)}")
    for frames in chosen:
        rows.append(measure(codec, frames, quality=quality, step=step, effort=effort))
        click.echo(json.dumps(rows[-1]))
    result = {
        "protocol": PROTOCOL,
        "model": codec.model_hash,
        "sequences": len(rows),
        "side": side,
        "quality": quality,
        "step": step,
        "effort": effort,
        "groups": summary(rows),
        "machine": describe(),
    }
    write_json(out, result)


if __name__ == "__main__":
    main()
