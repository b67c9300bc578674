"""``bench run rd``: codecs, total bytes against quality.

A sample is all clips of a video, one after the other: a file's header is paid once, as in use, and "long GOP" has a
meaning. ``unit="clip"`` gives each 16-frame clip a file of its own instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.codecs import ours
from bench.codecs.anchors import anchors
from bench.methods import Candidate, VideoCodec
from bench.protocol import Protocol, Sample, SampleSet, Unit
from bench.quality import Quality
from bench.results import ResultStore
from bench.runner import Runner
from reducio_codec.errors import VideoError


def protocol(unit: Unit = "video") -> Protocol:
    return Protocol(name="rd/1", unit=unit)


def candidates(
    *,
    models: Sequence[str],
    decoder: str | None,
    qualities: Sequence[int],
    steps: Sequence[float],
    groups: Sequence[int] = (1,),
    efforts: Sequence[int] = (0,),
) -> list[Candidate[VideoCodec]]:
    """This package's models over their grid of settings, and the conventional encoders."""
    own = [
        ours.files(model, decoder=decoder, qualities=qualities, steps=steps, group=group, effort=effort)
        for model in models
        for group in groups
        for effort in efforts
    ]
    own += [ours.files_by_content(model, decoder=decoder, effort=effort) for model in models for effort in efforts]
    return [*own, *anchors()]


def run(
    chosen: Sequence[Candidate[VideoCodec]],
    *,
    data: Path,
    results: Path,
    quality: Quality,
    console: Console,
    unit: Unit = "video",
    limit: int | None = None,
) -> list[str]:
    """Measure, and give one line for each failure."""

    def measure(method: VideoCodec, sample: Sample) -> dict[str, Any]:
        coded = method(sample.pixels, rate=sample.rate)
        if coded.frames.shape != sample.pixels.shape:
            raise VideoError(f"{len(coded.frames)} frames came back, {len(sample.pixels)} went in")
        pixels = sample.pixels.size // 3
        return {
            "bytes": coded.bytes,
            "parts": coded.parts,
            "bpp": 8 * coded.bytes / pixels,
            "kbits_per_second": float(8 * coded.bytes / 1000 * sample.rate / len(sample.pixels)),
            "metrics": {
                **quality.measure(sample.pixels, coded.frames),
                **quality.perceptual.measure(sample.pixels, coded.frames, rate=sample.rate),
            },
        }

    kind = protocol(unit)
    runner: Runner[VideoCodec] = Runner(
        store=ResultStore(folder=results, protocol=kind),
        samples=SampleSet(folder=data, protocol=kind, limit=limit),
        quality=quality,
        measure=measure,
        console=console,
    )
    runner.run(chosen)
    return runner.failures
