"""Quality by a frame's distance from its key frame, and what changes where clips meet, in files as they are used.

    python -m bench.over_time --data VIDEOS -o bench/results/over-time.json

Each video is one file of all of its clips (rates and sizes as in ``bench run rd``), decoded with the decoder that files of the
model use by default. PSNR and LPIPS (AlexNet) are of single frames, means over all frames of a distance. The change at joins is
the mean absolute difference of the last frame of a clip and the first of the next, in grey levels, over the source's own;
"elsewhere" is that of all other frames. ``python -m bench table`` has it as rows, ``plot`` and ``report`` as a picture.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.json_files import write_json
from bench.machine import describe
from bench.methods import Frames
from bench.protocol import Sample, SampleSet
from bench.rd import protocol
from reducio_codec.codec import ReducioCodec
from reducio_codec.config import CLIP_LENGTH
from reducio_codec.errors import InputError
from reducio_codec.metrics.lpips import Lpips
from reducio_codec.metrics.over_time import ByDistance, changes, psnr_by_frame, saw_tooth
from reducio_codec.models.contract import choose_decoder

PROTOCOL = "over-time/1"


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """A video after the way through a file."""

    frames: Frames
    keyframes: tuple[int, ...]
    joins: tuple[int, ...]
    """First frames of the clips behind the first."""
    bytes: int


@dataclass(frozen=True, kw_only=True)
class File:
    """How files are made."""

    quality: int = 50
    step: float = 0.5
    group: int = 4

    def __call__(self, codec: ReducioCodec, frames: Frames, *, rate: Fraction, decoder: str) -> Decoded:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "video.rdc"
            codec.compress(
                list(frames), path, rate=rate, keyframes=1, keyframe_quality=self.quality, latent_step=self.step,
                seek_every=float(CLIP_LENGTH * self.group / rate),
            )  # fmt: skip
            size = path.stat().st_size
            with codec.open_file(path) as video:
                clips = [video.shown_clip(index, decoder=decoder) for index in range(video.clips)]
                records = [video.record(index) for index in range(video.clips)]
        keyframes = tuple(place for record in records for place in record.references)
        joins = tuple(record.start for record in records[1:])
        return Decoded(frames=np.concatenate(clips), keyframes=keyframes, joins=joins, bytes=size)


@dataclass
class OverTime:
    """Takes video after video."""

    lpips: Lpips
    psnr: ByDistance = field(default_factory=ByDistance)
    distance: ByDistance = field(default_factory=ByDistance)
    changed: list[tuple[float, ...]] = field(default_factory=list)
    """Of each video with joins: at joins and elsewhere, decoded and source."""
    bits: int = 0
    pixels: int = 0

    def add(self, source: Frames, decoded: Decoded) -> None:
        if source.shape != decoded.frames.shape:
            raise InputError(f"the source has {source.shape} and the result {decoded.frames.shape}; they must be equal")
        self.psnr.add(psnr_by_frame(source, decoded.frames), keyframes=decoded.keyframes)
        self.distance.add(self.lpips(source, decoded.frames), keyframes=decoded.keyframes)
        if decoded.joins:
            pair = (changes(frames, joins=decoded.joins) for frames in (decoded.frames, source))
            self.changed.append(tuple(value for both in pair for value in both))
        self.bits += 8 * decoded.bytes
        self.pixels += source.size // 3

    def to_json(self) -> dict[str, Any]:
        psnr, lpips = self.psnr.result(), self.distance.result()
        rows = [
            {"distance": a.distance, "frames": a.frames, "psnr": round(a.value, 3), "lpips": round(b.value, 4)}
            for a, b in zip(psnr, lpips, strict=True)
        ]
        return {
            "bpp": self.bits / self.pixels,
            "distances": rows,
            "saw tooth": {"psnr": saw_tooth(psnr), "lpips": saw_tooth(lpips)},
            "joins": self._joins(),
        }

    def _joins(self) -> dict[str, float] | None:
        """Means over videos; None where no video has two clips."""
        if not self.changed:
            return None
        joins, elsewhere, source_joins, source_elsewhere = (float(value) for value in np.mean(self.changed, 0))
        return {
            "at joins": joins,
            "elsewhere": elsewhere,
            "at joins, over source": joins / max(source_joins, 1e-6),
            "elsewhere, over source": elsewhere / max(source_elsewhere, 1e-6),
        }


def measure(
    codec: ReducioCodec, samples: Iterable[Sample], *, file: File, decoder: str, lpips: Lpips
) -> dict[str, Any]:
    """All samples as one result."""
    found, names = OverTime(lpips=lpips), []
    for sample in samples:
        found.add(sample.pixels, file(codec, sample.pixels, rate=sample.rate, decoder=decoder))
        names.append(sample.name)
    if not names:
        raise InputError("there is no usable video")
    return {"videos": names, **found.to_json()}


def every(samples: Iterable[Sample], *, step: int) -> Iterable[Sample]:
    """One sample in ``step``."""
    return (sample for number, sample in enumerate(samples) if number % step == 0)


# ---------------------------------------------------------------------- as a table


def table(data: dict[str, Any]) -> list[list[str]]:
    """A row a distance."""
    rows = [["frames from the key frame", "frames", "PSNR", "LPIPS"]]
    for row in data["distances"]:
        rows.append([f"{row['distance']:+d}", str(row["frames"]), f"{row['psnr']:.2f}", f"{row['lpips']:.3f}"])
    return rows


def words(data: dict[str, Any]) -> str:
    """What was measured, the saw tooth and the joins."""
    config, tooth, joins = data["config"], data["saw tooth"], data["joins"]
    text = (
        f"Quality over time: model {data['model']}, decoder `{data['decoder']}`, {len(data['videos'])} videos at "
        f"{data['bpp']:.4f} bpp (key frames of quality {config['quality']} in groups of {config['group']}, latent of step "
        f"{config['step']:g}), means over frames."
    )
    if tooth["psnr"] is not None:
        text += (
            f" Saw tooth, the four frames around the key frame over the four furthest from it: {tooth['psnr']:.2f} dB, LPIPS "
            f"{tooth['lpips']:+.3f}."
        )
    if joins is not None:
        text += (
            f" Change from frame to frame over the source's: {joins['at joins, over source']:.2f} where clips meet, "
            f"{joins['elsewhere, over source']:.2f} elsewhere."
        )
    return text


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder of videos.")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="JSON to write.")
@click.option("--model", default="reducio-lite", show_default=True, help="A name or a folder.")
@click.option("--decoder", help="One of the model's.  [default: what its files use]")
@click.option("--quality", default=File.quality, show_default=True, help="Of the key frames.")
@click.option("--step", default=File.step, show_default=True, help="latent_step.")
@click.option("--group", default=File.group, show_default=True, help="Clips whose key frames are coded together.")
@click.option(
    "--every", "step_of", default=1, show_default=True, type=click.IntRange(1), help="Take one video in so many."
)
def main(
    data: Path, out: Path, model: str, decoder: str | None, quality: int, step: float, group: int, step_of: int
) -> None:
    codec = ReducioCodec.from_pretrained(model, dtype="auto")
    name = choose_decoder(codec.model, decoder=decoder, references=None).decoder
    samples = SampleSet(folder=data, protocol=protocol())
    file = File(quality=quality, step=step, group=group)
    found = measure(codec, every(samples, step=step_of), file=file, decoder=name, lpips=Lpips())
    config = {"quality": quality, "step": step, "group": group, "size": samples.protocol.size}
    result = {
        "protocol": PROTOCOL,
        "model": codec.model_hash,
        "decoder": name,
        "config": config,
        **found,
        "machine": describe(),
    }
    write_json(out, result)
    click.echo(json.dumps({key: result[key] for key in ("bpp", "saw tooth", "joins")}))


if __name__ == "__main__":
    main()
