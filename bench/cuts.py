"""Who finds cuts better: the rules on thumbnails (``reducio_codec.clips.scenes``), or TransNet V2.

    python -m bench.cuts --data VIDEOS -o bench/results/cuts.json

The videos of the folder have no cuts (the corpus says so). Sequences are joined from pieces of them, so that every cut is
known; the whole videos, uncut, tell what is taken for a cut and isn't one. "Alike" are joins of two excerpts of one
source, which are harder. A cut counts as found at its very frame only.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.json_files import write_json
from bench.machine import describe
from bench.methods import Frames
from bench.protocol import read_frames
from reducio_codec.clips.scenes import find_scenes, thumbnail
from reducio_codec.io.files import VIDEO_SUFFIXES
from reducio_codec.metrics.transnet import TransNet

PROTOCOL = "cuts/1"
PIECES = 4
LENGTHS = (12, 40)
"""Least and most frames of a piece."""

Finder = Callable[[Frames], list[int]]
"""(T, H, W, 3) to the first frames of the scenes after the first."""


@dataclass(frozen=True, kw_only=True)
class Joined:
    """Frames with their cuts."""

    frames: Frames
    cuts: dict[int, bool]
    """First frames of scenes, and whether both sides are of one source."""


@dataclass
class Score:
    """What was found of what is there."""

    found: int = 0
    missed: int = 0
    false: int = 0
    missed_alike: int = 0
    alike: int = 0
    seconds: float = 0.0
    frames: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, name: str, cuts: Sequence[int], *, sequence: Joined, seconds: float) -> None:
        true = sequence.cuts
        hits, misses, false = set(cuts) & set(true), set(true) - set(cuts), set(cuts) - set(true)
        self.found, self.missed, self.false = self.found + len(hits), self.missed + len(misses), self.false + len(false)
        self.alike += sum(true.values())
        self.missed_alike += sum(true[cut] for cut in misses)
        self.seconds, self.frames = self.seconds + seconds, self.frames + len(sequence.frames)
        self.wrong += [f"{name}: missed {cut}" for cut in sorted(misses)]
        self.wrong += [f"{name}: {cut} is none" for cut in sorted(false)]

    def to_json(self) -> dict[str, Any]:
        claimed, there = self.found + self.false, self.found + self.missed
        return {
            "cuts": there,
            "found": self.found,
            "false": self.false,
            "precision": round(self.found / claimed, 4) if claimed else None,
            "recall": round(self.found / there, 4) if there else None,
            "alike": self.alike,
            "missed alike": self.missed_alike,
            "ms a frame": round(1000 * self.seconds / max(self.frames, 1), 3),
            "wrong": self.wrong,
        }


def join(videos: Sequence[tuple[str, Frames]], *, random: np.random.Generator) -> Joined:
    """PIECES pieces of random videos; no piece goes on where the one before it ended, and none follows its own video."""
    chosen: list[int] = []
    while len(chosen) < PIECES:
        number = int(random.integers(len(videos)))
        if not chosen or chosen[-1] != number:
            chosen.append(number)
    parts = []
    for number in chosen:
        frames = videos[number][1]
        length = min(int(random.integers(LENGTHS[0], LENGTHS[1] + 1)), len(frames))
        start = int(random.integers(len(frames) - length + 1))
        parts.append(frames[start : start + length])
    places = np.cumsum([len(part) for part in parts])[:-1].tolist()
    alike = [videos[a][0] == videos[b][0] for a, b in pairwise(chosen)]
    return Joined(frames=np.concatenate(parts), cuts=dict(zip(places, alike, strict=True)))


def by_rules(frames: Frames) -> list[int]:
    """What encoding does."""
    scenes = find_scenes(np.stack([thumbnail(frame) for frame in frames]))
    return [first for first, _ in scenes[1:]]


def compare(
    finders: dict[str, Finder], videos: Sequence[tuple[str, Frames]], *, joined: int, seed: int
) -> dict[str, Any]:
    """Scores of each finder on ``joined`` sequences, and on the videos as they are. ``videos``: source and frames."""
    random = np.random.default_rng(seed)
    sets = {
        "joined": [join(videos, random=random) for _ in range(joined)],
        "uncut": [Joined(frames=frames, cuts={}) for _, frames in videos],
    }
    rows: dict[str, dict[str, Any]] = {}
    for name, finder in finders.items():
        scores = {kind: Score() for kind in sets}
        for kind, sequences in sets.items():
            for number, sequence in enumerate(sequences):
                began = time.perf_counter()
                cuts = finder(sequence.frames)
                scores[kind].add(f"{kind} {number}", cuts, sequence=sequence, seconds=time.perf_counter() - began)
        rows[name] = {kind: score.to_json() for kind, score in scores.items()}
    return rows


def table(data: dict[str, Any]) -> list[list[str]]:
    """A row a finder."""
    rows = [["", "cuts found", "of", "between excerpts of one source", "false there", "precision", "recall",
             "false in uncut videos", "ms a frame"]]  # fmt: skip
    for name, sets in data["rows"].items():
        joined, uncut = sets["joined"], sets["uncut"]
        cells = [joined["found"], joined["cuts"], f"{joined['alike'] - joined['missed alike']} of {joined['alike']}",
                 joined["false"], joined["precision"], joined["recall"], uncut["false"], joined["ms a frame"]]  # fmt: skip
        rows.append([name, *("-" if cell is None else str(cell) for cell in cells)])
    return rows


def words(data: dict[str, Any]) -> str:
    """What was measured."""
    config = data["config"]
    return (
        f"Cuts: {config['joined']} sequences joined from {PIECES} random pieces of {config['videos']} videos without cuts, and "
        f"those videos themselves, {config['side']} px; a cut counts at its very frame only."
    )


def source_of(path: Path) -> str:
    """Excerpts of one source differ in what stands behind the last underscore: the time."""
    return path.stem.rsplit("_", 1)[0]


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True,
              help="Folder of videos without cuts.")  # fmt: skip
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="JSON to write.")
@click.option("--joined", default=60, show_default=True, type=click.IntRange(1), help="Sequences of four pieces.")
@click.option("--side", default=256, show_default=True, type=click.IntRange(32), help="Pixels.")
@click.option("--seed", default=0, show_default=True)
def main(data: Path, out: Path, joined: int, side: int, seed: int) -> None:
    paths = sorted(path for path in data.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    if len(paths) < 2:
        raise click.UsageError(f"{data} has {len(paths)} videos; joining needs two")
    videos = [(source_of(path), read_frames(path, size=side)[0]) for path in paths]
    finders: dict[str, Finder] = {"rules": by_rules, "TransNet V2": TransNet().cuts}
    rows = compare(finders, videos, joined=joined, seed=seed)
    config = {"videos": len(videos), "joined": joined, "side": side, "seed": seed}
    write_json(out, {"protocol": PROTOCOL, "config": config, "rows": rows, "machine": describe()})
    click.echo(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
