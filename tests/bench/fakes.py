"""Small videos, and methods that a test can predict."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from bench.methods import Candidate, Coded, NotRunError
from bench.quality import Quality
from bench.results import NOT_RUN
from tests.conftest import write_clip
from tests.helpers import moving_video

NO_NETWORKS = Quality(lpips=NOT_RUN + "needs a.pth", i3d=NOT_RUN + "needs b.pt")


def quiet() -> Console:
    return Console(quiet=True)


def video_folder(folder: Path, frames: dict[str, int], *, height: int = 264, width: int = 320) -> Path:
    """A folder of small drifting videos: name to number of frames."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, count) in enumerate(frames.items()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_clip(folder / name, moving_video(count, height, width, seed=seed), options={"crf": "12"})
    return folder


def drop_sample(file: Path, *, point: str, sample: str) -> None:
    """Take one result out of a method's file."""
    lines = file.read_text().splitlines(keepends=True)
    kept = [line for line in lines if not (f'"point": "{point}"' in line and f'"sample": "{sample}"' in line)]
    assert len(kept) == len(lines) - 1
    file.write_text("".join(kept))


@dataclass
class Noise:
    """A codec whose error and size are set: ``bits`` for each pixel, ``strength`` of noise."""

    strength: float
    bits: float
    calls: list[int] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=lambda: {"version": 1})
    lose: int = 0
    interrupt_after: int | None = None

    def __call__(self, frames: np.ndarray, *, rate: Fraction) -> Coded:
        if self.interrupt_after is not None and len(self.calls) == self.interrupt_after:
            raise KeyboardInterrupt
        self.calls.append(len(frames))
        error = np.random.default_rng(0).normal(0, self.strength, frames.shape)
        noisy = np.rint(frames + error).clip(0, 255).astype(np.uint8)
        size = round(self.bits * frames.size / 3 / 8)
        return Coded(frames=noisy[: len(frames) - self.lose], parts={"packets": size - 10, "headers": 10})


def noisy_codec(name: str, *, cost: float = 1.0, **settings: Any) -> Candidate[Any]:
    """Four points on one curve; ``cost`` multiplies its rates."""
    return Candidate(
        name=name,
        points={
            f"p{number}": (lambda s=strength, b=bits: Noise(s, b * cost, settings=dict(settings)))  # type: ignore[misc]
            for number, (strength, bits) in enumerate([(24, 0.01), (12, 0.02), (6, 0.04), (3, 0.08)])
        },
    )


def missing_codec(name: str) -> Candidate[Any]:
    def refuse() -> Any:
        raise NotRunError("this machine has none")

    return Candidate(name=name, points={"p0": refuse})
