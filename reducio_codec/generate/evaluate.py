"""A transformer on pictures of real videos: does it move as they do, does it keep the picture, is it told from a still?

    python -m reducio_codec.generate.evaluate runs/dit/model --data VIDEOS --cache DIR --out results.json

Protocol: clips of 16 frames one after another, shorter side resized to 256, centre crop; a clip is generated from each
one's key frame, with the clip's number as its seed. Motion is the mean length of the flow from the key frame (the codec's
own motion search), in pixels. Sharpness is that of the outer four frames over the key frame's (mean absolute Laplacian of
grey); ``lpips_moved`` is their LPIPS (AlexNet) to the key frame, moved as they move. Drift is the mean level of the last
four frames less that of the first four. Distances to the real clips are Frechet distances on I3D's features with ``--i3d``
(FVD), and otherwise on a hand-made stand-in (``features``), or with ``--transnet`` on those of a network that watches video
for cuts. Beside the generated clips stand three others: the real ones as the codec shows them (no transformer on this codec
gets nearer), the key frame repeated, and, for the distance alone, one half of the real clips against the other.

``--setting steps=4 --setting model=runs/student/model`` and so on: several settings take turns at each clip, so that
their times compare. The first is the one under ``generated``, and the one whose distance those of all are divided by. A
time is that of a whole call with one picture: conditions, sampling, decoding.

``--controls 32``: of so many pictures clips are made with motions and cameras that are asked for, and compared with what they
turn out to have (``asked``).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from reducio_codec.codec import ReducioCodec
from reducio_codec.config import CLIP_LENGTH
from reducio_codec.errors import InputError
from reducio_codec.generate.asked import asked_against_made
from reducio_codec.generate.block_cache import BlockCache
from reducio_codec.generate.command import OneLineErrors
from reducio_codec.generate.features import NAME, clip_features
from reducio_codec.generate.measure import Clip, brightness_drift, distance_to_moved, motion_magnitude, outer_sharpness
from reducio_codec.generate.pipeline import ReducioDiTPipeline
from reducio_codec.generate.protocols.settings import environment
from reducio_codec.generate.train.validate import spread
from reducio_codec.io.files import atomic_write
from reducio_codec.io.strips import clip_strip
from reducio_codec.metrics.frechet import frechet_distance
from reducio_codec.metrics.fvd import I3d, find_i3d
from reducio_codec.metrics.lpips import Lpips
from reducio_codec.metrics.psnr import psnr
from reducio_codec.metrics.transnet import NAME as TRANSNET
from reducio_codec.metrics.transnet import TransNet
from reducio_codec.training.held_out import validation_clips
from reducio_codec.training.manifest import find_videos
from reducio_codec.training.scan import ScanOptions, scan
from reducio_codec.training.store import open_store

Features = Callable[[Clip], NDArray[Any]]

_STRIPS = 10


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One way to make the clips; None is what the model was made for."""

    model: str
    """Name or folder."""
    name: str = ""
    """What results call the model; empty: ``model``."""
    steps: int | None = None
    guidance: float | None = None
    cache_blocks: int = 0
    motion: float | None = None


def read_setting(text: str, *, model: str) -> Setting:
    """``"steps=4,guidance=1"`` and the like. InputError for another name, or a value that is no number."""
    kinds: dict[str, Callable[[str], Any]] = {"steps": int, "guidance": float, "cache_blocks": int, "motion": float}
    names = [each.name for each in fields(Setting)]
    values: dict[str, Any] = {"model": model}
    for part in text.split(","):
        name, _, value = (word.strip() for word in part.partition("="))
        if name not in names or not value:
            raise InputError(f"setting {text!r} has {part!r}; it must be NAME=VALUE, names: {', '.join(names)}")
        try:
            values[name] = kinds.get(name, str)(value)
        except ValueError:
            raise InputError(f"setting {text!r}: {name} is {value!r}; it must be a number") from None
    return Setting(**values)


@dataclass(kw_only=True)
class Tally:
    """What a set of clips is like. The clips themselves aren't kept."""

    keyframe_index: int
    features: Features
    perceptual: Callable[[Clip, Clip], NDArray[np.float64]]
    """LPIPS of frames."""
    vectors: list[NDArray[Any]] = field(default_factory=list)
    motion: list[float] = field(default_factory=list)
    drift: list[float] = field(default_factory=list)
    kept: list[float] = field(default_factory=list)
    """PSNR of the key frame in dB."""
    sharp: list[float] = field(default_factory=list)
    """Of the outer frames, over the real key frame's."""
    moved: list[float] = field(default_factory=list)
    """LPIPS of the outer frames to the real key frame, moved."""

    def add(self, clip: Clip, *, source: Clip) -> None:
        """``source`` is the real clip."""
        index = self.keyframe_index
        self.vectors.append(self.features(clip))
        self.motion.append(motion_magnitude(clip, keyframe_index=index))
        self.drift.append(brightness_drift(clip))
        self.kept.append(psnr(clip[index], source[index]))
        self.sharp.append(outer_sharpness(clip, picture=source[index]))
        self.moved.append(distance_to_moved(clip, picture=source[index], perceptual=self.perceptual))

    def summary(self, *, real: Tally) -> dict[str, float]:
        """Means over the clips, and the distance to the real ones (which needs two clips)."""
        motion, drift = np.mean(self.motion), np.array(self.drift)
        found = {
            "motion_px": _round(motion),
            "motion_over_real": _round(motion / max(float(np.mean(real.motion)), 1e-6)),
            "outer_sharpness": _round(np.mean(self.sharp)),
            "lpips_moved": _round(np.mean(self.moved)),
            "brightness_drift_mean": _round(drift.mean()),
            "brightness_drift_abs": _round(np.abs(drift).mean()),
            "keyframe_psnr_least": _round(min(self.kept)),
        }
        first, second, name = real.vectors, self.vectors, "frechet"
        if self is real:
            first, second, name = self.vectors[::2], self.vectors[1::2], "frechet_between_halves"
        if len(second) >= 2:
            found[name] = _round(frechet_distance(np.stack(first), np.stack(second)))
        return found


@dataclass(kw_only=True)
class Subject:
    """A setting at work."""

    pipeline: ReducioDiTPipeline
    named: dict[str, Any]
    """model, as results call it; of a student also distilled_guidance."""
    sampling: dict[str, Any]
    """steps, guidance, cache_blocks and, where it isn't left to the model, motion."""
    seconds: list[float] = field(default_factory=list)
    """Of each clip."""

    @property
    def title(self) -> str:
        facts = {**self.named, **self.sampling}
        return ", ".join(str(value) if name == "model" else f"{name} {value}" for name, value in facts.items())

    def make(self, picture: NDArray[np.uint8], *, seed: int) -> Clip:
        """The clip around ``picture`` (H, W, 3)."""
        started = time.perf_counter()
        clip: Clip = self.pipeline(image=picture, seed=seed, **self.sampling)
        self.seconds.append(time.perf_counter() - started)
        return clip


def open_subjects(settings: Sequence[Setting], *, codec: str | None) -> list[Subject]:
    """One for each setting; a model is loaded once.

    Raises:
        InputError: a setting that its model can't do, or models of different codecs.
    """
    pipelines: dict[str, ReducioDiTPipeline] = {}
    subjects = []
    for setting in settings:
        if setting.model not in pipelines:
            pipelines[setting.model] = ReducioDiTPipeline.from_pretrained(setting.model, codec=codec)
        config, first = pipelines[setting.model].config, pipelines[settings[0].model].config
        if config.latent_space != first.latent_space:
            raise InputError(
                f"{setting.model!r} makes latents of {config.latent_space}, {settings[0].model!r} those of "
                f"{first.latent_space}; models that are compared share a codec"
            )
        if setting.cache_blocks:
            BlockCache(setting.cache_blocks, depth=config.depth)
        inside = {"distilled_guidance": config.distilled_guidance} if config.distilled_steps else {}
        sampling: dict[str, Any] = {
            "steps": config.sampling_steps(setting.steps),
            "guidance": config.sampling_guidance(setting.guidance),
            "cache_blocks": setting.cache_blocks,
            **({} if setting.motion is None else {"motion": setting.motion}),
        }
        pipelines[setting.model].check(**sampling)
        named = {"model": setting.name or setting.model, **inside}
        subjects.append(Subject(pipeline=pipelines[setting.model], named=named, sampling=sampling))
    return subjects


def as_the_codec_shows(codec: ReducioCodec, clip: Clip) -> Clip:
    """Encoded and decoded, nothing quantised."""
    latent, keyframe = codec.encode(torch.from_numpy(clip.copy()))
    return np.ascontiguousarray(codec.decode(latent, keyframe, output="uint8")[0].numpy())


def compare(
    subjects: Sequence[Subject],
    real: Sequence[Clip],
    *,
    codec: ReducioCodec,
    tally: Callable[[], Tally],
    strips: Path | None,
) -> dict[str, Any]:
    """What each makes of the key frames of ``real``, beside the three others, as JSON values."""
    index = codec.model.default_keyframe_index
    others = {name: tally() for name in ("real", "codec", "keyframe_repeated")}
    made = [tally() for _ in subjects]
    drawn = spread(range(len(real)), _STRIPS)
    with click.progressbar(list(real), label="clips", file=sys.stderr) as bar:
        for number, clip in enumerate(bar):
            rows = {"real": clip, "codec": as_the_codec_shows(codec, clip)}
            repeated = np.repeat(clip[index : index + 1], CLIP_LENGTH, 0)
            for name, shown in {**rows, "keyframe_repeated": repeated}.items():
                others[name].add(shown, source=clip)
            for subject, each in zip(subjects, made, strict=True):
                rows[subject.title] = subject.make(clip[index], seed=number)
                each.add(rows[subject.title], source=clip)
            if strips is not None and number in drawn:
                with atomic_write(strips / f"clip-{number:04d}.png") as file:
                    Image.fromarray(clip_strip(rows)).save(file, "PNG")
    found = {name: each.summary(real=others["real"]) for name, each in others.items()}
    generated = [each.summary(real=others["real"]) for each in made]
    settings: list[dict[str, Any]] = []
    for subject, values in zip(subjects, generated, strict=True):
        entry = {**subject.named, **subject.sampling, "seconds_per_clip": _round(median(subject.seconds)), **values}
        if "frechet" in values:
            entry["frechet_over_first"] = _round(values["frechet"] / max(generated[0]["frechet"], 1e-6))
        settings.append(entry)
    return {
        "real": found["real"],
        "codec": found["codec"],
        "generated": generated[0],
        "keyframe_repeated": found["keyframe_repeated"],
        "settings": settings,
    }


def _round(value: Any) -> float:
    return round(float(value), 3)


@click.command(cls=OneLineErrors)
@click.argument("model")
@click.option("--data", required=True, help="Folder or list of videos that it wasn't trained on.")
@click.option("--cache", type=click.Path(path_type=Path), required=True, help="Where decoded videos are kept.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="JSON to write.")
@click.option("--codec", help="Name or folder of the codec.  [default: the one that the transformer names]")
@click.option("--side", default=256, show_default=True, help="Of the clips in pixels.")
@click.option("--clips", default=0, help="At most so many, evenly spread; 0: all.")
@click.option(
    "--setting",
    "settings",
    multiple=True,
    metavar="NAME=VALUE,...",
    help="How clips are made, repeatable: steps, guidance, cache_blocks, motion (see 'reducio-codec generate'), model (instead "
    "of MODEL), name (what results call it).  [default: what MODEL was made for]",
)
@click.option("--i3d", type=click.Path(path_type=Path), help="I3D's TorchScript file: distances are FVD then.")
@click.option("--transnet", is_flag=True, help="Distances are on TransNet V2's features; no FVD.")
@click.option(
    "--controls",
    default=0,
    show_default=True,
    help="So many of the pictures are asked for motions and cameras: how what is made correlates with them.",
)
@click.option("--strips", type=click.Path(path_type=Path), help="Folder for strips of ten clips.")
def main(
    model: str,
    data: str,
    cache: Path,
    out: Path,
    codec: str | None,
    side: int,
    clips: int,
    settings: tuple[str, ...],
    i3d: Path | None,
    transnet: bool,
    controls: int,
    strips: Path | None,
) -> None:
    if transnet and i3d is not None:
        raise click.UsageError("give --i3d or --transnet, not both")
    plan = [read_setting(text, model=model) for text in settings] or [Setting(model=model)]
    subjects = open_subjects(plan, codec=codec)
    first = subjects[0].pipeline
    index = first.keyframe_index
    if controls and not first.config.motion_unit:
        raise InputError(f"--controls is {controls}, but {model!r} was trained without motion and camera")
    features: Features = partial(clip_features, keyframe_index=index)
    name = NAME
    if i3d is not None:
        features, name = I3d(find_i3d(i3d)), "I3D, Kinetics-400 (FVD)"
    elif transnet:
        features, name = TransNet(), TRANSNET
    options = ScanOptions(frame_rate=16.0, stored_side=0, store=True, find_cuts=True)
    videos = scan(find_videos(data), cache=cache, options=options).videos
    store = open_store(videos, storage="disk", device=torch.device("cpu"))
    real = [clip.frames for clip in validation_clips(videos, store, side=side, count=clips)]
    if not real:
        raise InputError(f"{data} has no scene of {CLIP_LENGTH} frames or more")
    if strips is not None:
        strips.mkdir(parents=True, exist_ok=True)
    own_codec = ReducioCodec.from_pretrained(codec or first.config.codec)
    compared = compare(
        subjects,
        real,
        codec=own_codec,
        tally=partial(Tally, keyframe_index=index, features=features, perceptual=Lpips()),
        strips=strips,
    )
    if controls:
        pictures = [clip[index] for clip in spread(real, controls)]
        with click.progressbar(length=len(pictures), label="controls", file=sys.stderr) as bar:
            asked = asked_against_made(first, own_codec, pictures, done=lambda: bar.update(1))
        compared["asked_against_made"] = {name: _round(value) for name, value in asked.items()}
    found = {
        "model": subjects[0].named["model"],
        "latent_space": first.config.latent_space,
        "clips": len(real),
        "side": side,
        **subjects[0].sampling,
        "features": {"name": name, "size": len(features(real[0]))},
        **compared,
        "environment": {**environment(), "threads": torch.get_num_threads()},
    }
    with atomic_write(out) as file:
        file.write((json.dumps(found, indent=2) + "\n").encode())
    click.echo(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
