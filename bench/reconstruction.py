"""``bench run reconstruction``: autoencoders on 16-frame clips, without any coding of bits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from bench.codecs import ours
from bench.codecs.floors import floors
from bench.methods import Candidate, Reconstructor
from bench.peers.registry import peers
from bench.protocol import Protocol, Sample, SampleSet
from bench.quality import Quality
from bench.results import ResultStore
from bench.runner import Runner

PROTOCOL = Protocol(name="reconstruction/1", unit="clip")


def candidates(
    *,
    models: Sequence[str],
    decoders: Sequence[str],
    image_vae: Path | None = None,
    dtype: torch.dtype = torch.float32,
    peer_folder: Path | None,
    download: bool,
) -> list[Candidate[Reconstructor]]:
    """Floors, this package's models, the 2-D baseline, peers."""
    return [
        *floors(),
        *(ours.reconstructors(model, decoders=decoders, dtype=dtype) for model in models),
        ours.image_vae(image_vae, dtype=dtype),
        *peers(peer_folder, download=download),
    ]


def run(
    chosen: Sequence[Candidate[Reconstructor]],
    *,
    data: Path,
    results: Path,
    quality: Quality,
    console: Console,
    limit: int | None = None,
) -> list[str]:
    """Measure, and give one line for each failure."""

    def measure(method: Reconstructor, sample: Sample) -> dict[str, Any]:
        found = method(sample.pixels)
        return {
            "latent": found.latent,
            "metrics": quality.measure(sample.pixels, found.frames),
            "i3d": quality.features(found.frames),
        }

    runner: Runner[Reconstructor] = Runner(
        store=ResultStore(folder=results, protocol=PROTOCOL),
        samples=SampleSet(folder=data, protocol=PROTOCOL, limit=limit),
        quality=quality,
        measure=measure,
        console=console,
    )
    runner.run(chosen)
    return runner.failures
