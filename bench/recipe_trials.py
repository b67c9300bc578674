"""What each switch of the recipe ``lite`` and each design is worth: one change at a time, from scratch, at equal time.

    python -m bench.recipe_trials --data TRAIN --val VIDEOS --cache DIR --runs RUNS -o bench/results/recipe-trials.json

Every trial is the recipe with a short warm-up and the changes below, trained for --minutes and measured on the same clips
by ``reducio_codec.measure.evaluate``'s protocol: key frame raw, then coded (AVIF of --quality), then the latent quantised,
and with a grey picture in the key frame's place. Trials that are in the results are skipped; a run that was cut off goes
on. One seed: differences below about 0.1 dB mean nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from bench.json_files import write_json
from bench.machine import describe
from reducio_codec.codec import ReducioCodec
from reducio_codec.config import CLIP_LENGTH
from reducio_codec.io.pixels import to_bytes, to_unit
from reducio_codec.measure.evaluate import Clip, clips_of, measure, summary
from reducio_codec.metrics.psnr import psnr
from reducio_codec.models.contract import Reference
from reducio_codec.train.recipe import read_recipe
from reducio_codec.train.task import train

PROTOCOL = "recipe-trials/1"
RECIPE = "lite"
COMMON = ("optimizer.warmup=30", "data.workers=0", "run.validate_minutes=0.0")
"""Of every trial: ten minutes are too short for the recipe's warm-up."""

TRIALS: dict[str, tuple[str, ...]] = {
    "the recipe": (),
    "no quantisation noise": ("latent.quantize=[]",),
    "Gaussian noise of 0.3 in its place": ("latent.quantize=[]", "latent.noise=0.3"),
    "60% of the key frames coded": ("keyframe.coded=0.6", "keyframe.quality=[10, 80]"),
    "10% of the key frames grey": ("keyframe.dropout=0.1",),
    "16 components of flow, none of the residual": ("start.flow_channels=16",),
    "no searched flow at the start": ("start.flow=false",),
}
"""What each trial changes. The first five are about switches, the others about the design."""


def lost_keyframe(codec: ReducioCodec, clip: Clip) -> float:
    """PSNR where a decoder has a grey picture instead of the key frame."""
    index = codec.model.default_keyframe_index
    video = to_unit(torch.from_numpy(clip.copy()).permute(3, 0, 1, 2)[None])  # (1, 3, 16, H, W)
    latent = codec.runner.encode(video, references=[Reference.of_frame(video, index)])
    with torch.inference_mode(), codec.runner.autocast():
        grey = Reference(picture=torch.zeros_like(video[:, :, index]), place=index)
        decoded: Tensor = codec.model.decode(latent, [grey])
    shown = to_bytes(decoded)[0].permute(1, 2, 3, 0).numpy()
    others = [i for i in range(CLIP_LENGTH) if i != index]
    return psnr(clip[others], shown[others])


def run_trial(
    changes: Sequence[str], *, minutes: float, data: str, cache: Path, out: Path, clips: Sequence[Clip], quality: int
) -> dict[str, Any]:
    """Train one and measure it.

    Raises:
        KeyboardInterrupt: the run was told to end; it goes on from its checkpoint next time.
    """
    recipe = read_recipe(RECIPE, changes=[f"run.minutes={minutes}", *COMMON, *changes])
    report = train(recipe, data=data, val=None, out=out, cache=cache)
    if report.model is None:
        raise KeyboardInterrupt
    codec = ReducioCodec.from_pretrained(report.model, dtype="auto")
    decoder = codec.model.default_decoder
    rows = []
    for clip in clips:
        found = measure(codec, clip, quality=quality, steps=(0.5, 1.0), efforts=(0,))
        found["raw"] = found.pop(decoder)
        rows.append({**found, "grey key frame": lost_keyframe(codec, clip)})
    parameters = sum(p.numel() for p in codec.model.parameters())  # type: ignore[attr-defined]
    return {"changes": list(changes), "steps": report.step, "parameters": parameters, "psnr": summary(rows)["all"]}


@click.command()
@click.option("--data", required=True, help="Folder of videos to train on.")
@click.option("--val", required=True, help="Folder of videos to measure on.")
@click.option("--cache", type=click.Path(path_type=Path), required=True, help="Where decoded videos are kept.")
@click.option("--runs", type=click.Path(path_type=Path), required=True, help="Where training runs are kept.")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="JSON to write.")
@click.option("--minutes", default=10.0, show_default=True, help="Of training for each trial.")
@click.option("--quality", default=20, show_default=True, help="AVIF quality of the coded key frame.")
@click.option("--every", default=4, show_default=True, type=click.IntRange(1), help="Take one clip in so many.")
@click.option("--only", multiple=True, type=click.Choice(list(TRIALS)), help="These trials; repeatable.")
def main(
    data: str,
    val: str,
    cache: Path,
    runs: Path,
    out: Path,
    minutes: float,
    quality: int,
    every: int,
    only: tuple[str, ...],
) -> None:
    clips = clips_of(val, cache=cache / "val", every=every)
    config = {"recipe": RECIPE, "common": list(COMMON), "minutes": minutes, "quality": quality, "clips": len(clips)}
    result: dict[str, Any] = {"protocol": PROTOCOL, "config": config, "trials": {}}
    if out.exists():
        result = json.loads(out.read_text(encoding="utf-8"))
        if (result.get("protocol"), result.get("config")) != (PROTOCOL, config):
            raise click.UsageError(f"{out} has results of other settings")
    for name in only or TRIALS:
        if name in result["trials"]:
            continue
        folder = runs / name.replace(" ", "-")
        result["trials"][name] = run_trial(
            TRIALS[name],
            minutes=minutes,
            data=data,
            cache=cache / "train",
            out=folder,
            clips=clips,
            quality=quality,
        )
        result["trials"] = {key: result["trials"][key] for key in TRIALS if key in result["trials"]}
        result["machine"] = describe()
        write_json(out, result)
        click.echo(f"{name}: {result['trials'][name]['psnr']}")


if __name__ == "__main__":
    main()
