"""A transformer on pictures of real videos: does it move as they do, does it keep the picture, is it told from a still?

    python -m reducio_codec.generate.evaluate runs/dit/model --data VIDEOS --cache DIR --out results.json

Protocol: clips of 16 frames one after another, shorter side resized to 256, centre crop; a clip is generated from each
one's key frame, with the clip's number as its seed. Motion is the mean length of the flow from the key frame (the codec's
own motion search), in pixels. Drift is the mean level of the last four frames less that of the first four. Distances to
the real clips are Frechet distances on I3D's features with ``--i3d`` (FVD), and otherwise on a hand-made stand-in
(``features``). Beside the generated clips stand three others: the real ones as the codec shows them (no transformer on
this codec gets nearer), the key frame repeated, and, for the distance alone, one half of the real clips against the other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from reducio_codec.codec import ReducioCodec
from reducio_codec.config import CLIP_LENGTH
from reducio_codec.generate.features import NAME, clip_features
from reducio_codec.generate.measure import Clip, brightness_drift, motion_magnitude
from reducio_codec.generate.pipeline import ReducioDiTPipeline
from reducio_codec.io.files import atomic_write
from reducio_codec.metrics.frechet import frechet_distance
from reducio_codec.metrics.fvd import I3d, find_i3d
from reducio_codec.pictures import clip_strip
from reducio_codec.train.manifest import find_videos
from reducio_codec.train.scan import ScanOptions, scan
from reducio_codec.train.store import open_store
from reducio_codec.train.validate import validation_clips

Features = Callable[[Clip], NDArray[Any]]

_BATCH = 4
_STRIPS = 10


def generate(pipeline: ReducioDiTPipeline, clips: Sequence[Clip], **sampling: Any) -> list[Clip]:
    """A clip from the key frame of each; ``sampling`` is steps, guidance and cache_blocks of the pipeline."""
    index = pipeline.keyframe_index
    made: list[Clip] = []
    for first in range(0, len(clips), _BATCH):
        part = clips[first : first + _BATCH]
        seeds = list(range(first, first + len(part)))
        made += list(pipeline(image=[clip[index] for clip in part], seed=seeds, **sampling))
    return made


def measure(
    sets: dict[str, list[Clip]], *, keyframe_index: int, features: Features, feature_name: str
) -> dict[str, dict[str, Any]]:
    """What every set of clips is like, the first of which is the real one."""
    real_name, real = next(iter(sets.items()))
    vectors = {name: np.stack([features(clip) for clip in clips]) for name, clips in sets.items()}
    motion = {
        name: [motion_magnitude(clip, keyframe_index=keyframe_index) for clip in clips] for name, clips in sets.items()
    }
    result: dict[str, dict[str, Any]] = {}
    for name, clips in sets.items():
        drift = np.array([brightness_drift(clip) for clip in clips])
        kept = [_psnr(clip[keyframe_index], source[keyframe_index]) for clip, source in zip(clips, real, strict=True)]
        found: dict[str, Any] = {
            "motion_px": _round(np.mean(motion[name])),
            "motion_over_real": _round(np.mean(motion[name]) / max(float(np.mean(motion[real_name])), 1e-6)),
            "brightness_drift_mean": _round(drift.mean()),
            "brightness_drift_abs": _round(np.abs(drift).mean()),
            "keyframe_psnr_least": _round(min(kept)),
        }
        if name == real_name:
            half = vectors[name][::2], vectors[name][1::2]
            if min(map(len, half)) >= 2:
                found["frechet_between_halves"] = _round(frechet_distance(*half))
        elif len(clips) >= 2:
            found["frechet"] = _round(frechet_distance(vectors[real_name], vectors[name]))
        result[name] = found
    return {"features": {"name": feature_name, "size": int(vectors[real_name].shape[1])}, **result}


def as_the_codec_shows(codec: ReducioCodec, clip: Clip) -> Clip:
    """Encoded and decoded, nothing quantised."""
    latent, keyframe = codec.encode(torch.from_numpy(clip.copy()))
    return np.ascontiguousarray(codec.decode(latent, keyframe, output="uint8")[0].numpy())


def _psnr(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """dB, at most 78: of equal pictures."""
    error = np.square(first.astype(np.float32) - second).mean()
    return float(10 * np.log10(255**2 / max(float(error), 1e-3)))


def _round(value: Any) -> float:
    return round(float(value), 3)


@click.command()
@click.argument("model")
@click.option("--data", required=True, help="Folder or list of videos that it wasn't trained on.")
@click.option("--cache", type=click.Path(path_type=Path), required=True, help="Where decoded videos are kept.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="JSON to write.")
@click.option("--codec", help="Name or folder of the codec.  [default: the one that the transformer names]")
@click.option("--side", default=256, show_default=True, help="Of the clips in pixels.")
@click.option("--clips", default=0, help="At most so many, evenly spread; 0: all.")
@click.option("--steps", type=int, help="Of the sampler.  [default: the model's]")
@click.option("--guidance", type=float, help="Of the sampler.  [default: the model's]")
@click.option("--cache-blocks", default=0, show_default=True, help="Middle blocks that run at every second step only.")
@click.option("--i3d", type=click.Path(path_type=Path), help="I3D's TorchScript file: distances are FVD then.")
@click.option("--strips", type=click.Path(path_type=Path), help="Folder for strips of ten clips.")
def main(
    model: str,
    data: str,
    cache: Path,
    out: Path,
    codec: str | None,
    side: int,
    clips: int,
    steps: int | None,
    guidance: float | None,
    cache_blocks: int,
    i3d: Path | None,
    strips: Path | None,
) -> None:
    pipeline = ReducioDiTPipeline.from_pretrained(model, codec=codec)
    index = pipeline.keyframe_index
    sampling = {
        "steps": pipeline.config.sampling_steps(steps),
        "guidance": pipeline.config.sampling_guidance(guidance),
        "cache_blocks": cache_blocks,
    }
    plain = ReducioCodec.from_pretrained(codec or pipeline.config.codec)
    options = ScanOptions(frame_rate=16.0, stored_side=0, store=True, find_cuts=True)
    videos = scan(find_videos(data), cache=cache, options=options).videos
    store = open_store(videos, storage="disk", device=torch.device("cpu"))
    real = [clip.frames for clip in validation_clips(videos, store, side=side, count=clips)]
    sets = {
        "real": real,
        "codec": [as_the_codec_shows(plain, clip) for clip in real],
        "generated": generate(pipeline, real, **sampling),
        "keyframe_repeated": [np.repeat(clip[index : index + 1], CLIP_LENGTH, 0) for clip in real],
    }
    extractor: Features = (
        (lambda clip: clip_features(clip, keyframe_index=index)) if i3d is None else I3d(find_i3d(i3d))
    )
    name = NAME if i3d is None else "I3D, Kinetics-400 (FVD)"
    found = {
        "model": model,
        "latent_space": pipeline.config.latent_space,
        "clips": len(real),
        "side": side,
        **sampling,
        **measure(sets, keyframe_index=index, features=extractor, feature_name=name),
    }
    with atomic_write(out) as file:
        file.write((json.dumps(found, indent=2) + "\n").encode())
    if strips is not None:
        strips.mkdir(parents=True, exist_ok=True)
        for place in np.linspace(0, len(real) - 1, min(_STRIPS, len(real))).round().astype(int):
            rows = {label: sets[label][place] for label in ("real", "codec", "generated")}
            with atomic_write(strips / f"clip-{place:04d}.png") as file:
                Image.fromarray(clip_strip(rows)).save(file, "PNG")
    click.echo(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
