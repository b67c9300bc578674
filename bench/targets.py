"""Whether ``target_kbps``, ``target_psnr`` and ``target_lpips`` are hit, and what that costs.

    python -m bench.targets --data VIDEOS -o bench/results/targets.json

Each video is one file of all of its clips. "Within reach" are targets between what the smallest and the best quality give. Time
is that of the process, over that of the plain file that is nearest in bytes, of qualities 0, 15, 30, 50, 70 and 95.
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from bench.json_files import write_json
from bench.machine import describe
from bench.over_time import every
from bench.protocol import Sample, SampleSet
from bench.rd import protocol
from reducio_codec.codec import ReducioCodec
from reducio_codec.metrics.lpips import Lpips
from reducio_codec.metrics.psnr import psnr

QUALITIES = (0, 15, 30, 50, 70, 95)
TARGETS = (("target_psnr", 30.0), ("target_psnr", 35.0), ("target_kbps", 60.0), ("target_lpips", 0.08))
TOLERANCES = {"target_kbps": 0.05, "target_psnr": 0.2, "target_lpips": 0.05}
"""Relative, of PSNR in dB."""


def measure(codec: ReducioCodec, sample: Sample, lpips: Lpips, **options: Any) -> dict[str, float]:
    """One file: what the targets are about, and seconds of the process."""
    file, began = io.BytesIO(), time.process_time()
    report = codec.compress(list(sample.pixels), file, rate=sample.rate, **options)
    seconds = time.process_time() - began
    with codec.open_file(file) as video:
        decoded = np.concatenate([video.shown_clip(index) for index in range(video.clips)])
    return {
        "target_kbps": report.kbits_per_second,
        "target_psnr": psnr(sample.pixels, decoded),
        "target_lpips": float(lpips(sample.pixels, decoded).mean()),
        "seconds": seconds,
    }


def rows_of(codec: ReducioCodec, sample: Sample, lpips: Lpips) -> list[dict[str, Any]]:
    """A row a target."""
    plain = [measure(codec, sample, lpips, keyframe_quality=quality) for quality in QUALITIES]
    rows = []
    for name, wanted in TARGETS:
        known = [found[name] for found in plain]
        found = measure(codec, sample, lpips, **{name: wanted})
        nearest = min(plain, key=lambda item: abs(np.log(item["target_kbps"] / found["target_kbps"])))
        rows.append(
            {
                "video": sample.name,
                "target": name,
                "wanted": wanted,
                "got": found[name],
                "within reach": min(known) <= wanted <= max(known),
                "hit": is_hit(name, wanted=wanted, got=found[name]),
                "time over plain": found["seconds"] / nearest["seconds"],
            }
        )
    return rows


def is_hit(name: str, *, wanted: float, got: float) -> bool:
    """Whether a target is held."""
    off = abs(got - wanted) if name == "target_psnr" else abs(got / wanted - 1)
    return off <= TOLERANCES[name]


def summary(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """A line a target."""
    lines = [["target", "videos", "within reach", "hit of these", "largest miss", "time over plain, median, largest"]]
    for name, wanted in TARGETS:
        own = [row for row in rows if (row["target"], row["wanted"]) == (name, wanted)]
        reached = [row for row in own if row["within reach"]]
        off = [row["got"] - wanted if name == "target_psnr" else 100 * (row["got"] / wanted - 1) for row in reached]
        unit = " dB" if name == "target_psnr" else " %"
        times = [row["time over plain"] for row in own]
        lines.append(
            [
                f"{name} {wanted:g}",
                str(len(own)),
                str(len(reached)),
                str(sum(row["hit"] for row in reached)),
                f"{max(off, key=abs):+.2f}{unit}" if off else "-",
                f"{statistics.median(times):.1f}, {max(times):.1f}",
            ]
        )
    return lines


@click.command()
@click.option("--data", type=click.Path(path_type=Path, file_okay=False, exists=True), required=True)
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--every", "step_of", default=1, show_default=True, type=click.IntRange(1), help="One video in so many.")
def main(data: Path, out: Path, step_of: int) -> None:
    torch.set_num_threads(1)
    codec, lpips = ReducioCodec.from_pretrained("reducio-lite", dtype="auto"), Lpips()
    rows: list[dict[str, Any]] = []
    for sample in every(SampleSet(folder=data, protocol=protocol()), step=step_of):
        rows += rows_of(codec, sample, lpips)
        write_json(out, {"model": codec.model_hash, "every": step_of, "rows": rows, "machine": describe()})
        click.echo(sample.name)
    for line in summary(rows):
        click.echo(" | ".join(line))


if __name__ == "__main__":
    main()
