"""Makes files, has them read, counts how they end, and keeps those that break a rule."""

from __future__ import annotations

import random
import re
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.case_models import MODEL_MUTATIONS
from tests.fuzz.cases import MUTATIONS
from tests.fuzz.odd import flip
from tests.fuzz.readers import MODEL, Readers
from tests.fuzz.records import Pieces

GOLDEN = Path(__file__).parents[1] / "rdc" / "golden"
_POOL = 60
"""Files that ended in a way that none before did, and are mutated further."""


@dataclass
class Findings:
    """What came out."""

    tried: int = 0
    ends: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By kind of mutation and kind of end."""
    broken: dict[str, tuple[str, bytes, str]] = field(default_factory=dict)
    """Where a rule was broken: a name, the file, and the traceback, for each place in the program one."""

    def report(self) -> str:
        lines = [f"{self.tried} files tried, {len(self.broken)} kinds of broken rules"]
        for mutation in sorted({mutation for mutation, _ in self.ends}):
            ends = sorted((end, count) for (name, end), count in self.ends.items() if name == mutation)
            lines.append(f"{mutation:14} " + ", ".join(f"{end} {count}" for end, count in ends))
        for place, (name, data, trace) in self.broken.items():
            lines += [f"\nBROKEN at {place} by {name} of {len(data)} bytes", trace]
        return "\n".join(lines)


def fuzz(
    *,
    seed: int,
    seconds: float | None = None,
    files: int | None = None,
    last: Path | None = None,
    told: Callable[[str], object] = str,
) -> Findings:
    """Try files for a time, or so many.

    Args:
        last: a path where each file is written before it is read, for ends that end the process.
        told: of each new kind of broken rule, at once.
    """
    rng, found = random.Random(seed), Findings()
    seeds = [
        Pieces.of(path.read_bytes()) for path in sorted(GOLDEN.rglob("*.rdc")) if path.stem not in ("default", "cuts")
    ]
    pool, seen, folder = list(seeds), set[str](), {path.name: path.read_bytes() for path in MODEL.iterdir()}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        readers = Readers(Path(place))
        while (files is None or found.tried < files) and (seconds is None or time.monotonic() - began < seconds):
            kind, name, data = make(rng, seeds if rng.random() < 0.6 else pool, folder)
            if last is not None:
                last.with_suffix(Path(name).suffix).write_bytes(data)
            found.tried += 1
            end = _try(readers, found, name, data, seed=found.tried, told=told)
            found.ends[kind, end] += 1
            if name.endswith(".rdc") and end not in seen and len(pool) < _POOL and len(data) < 20_000:
                seen.add(end)
                _keep(pool, data)
    return found


def make(rng: random.Random, files: list[Pieces], folder: dict[str, bytes]) -> tuple[str, str, bytes]:
    """(kind of mutation, name, bytes) of one file."""
    draw = rng.random()
    if draw < 0.12:
        kind = rng.choice(list(MODEL_MUTATIONS))
        return kind, *MODEL_MUTATIONS[kind](rng, folder)
    if draw < 0.2:
        data = rng.randbytes(5) + flip(rng, bytes([rng.randrange(8)]) + rng.randbytes(rng.randrange(120)))
        return "latent", "a.latent", data
    kind = rng.choice(list(MUTATIONS))
    return kind, "a.rdc", MUTATIONS[kind](rng, files)


def again(path: Path) -> Findings:
    """Try a stored file."""
    found = Findings(tried=1)
    with tempfile.TemporaryDirectory() as place:
        for seed in range(8):  # what is tried of a file is drawn
            found.ends["stored", _try(Readers(Path(place)), found, path.name, path.read_bytes(), seed=seed)] += 1
    return found


def _try(
    readers: Readers, found: Findings, name: str, data: bytes, *, seed: int, told: Callable[[str], object] = str
) -> str:
    try:
        return readers.read(name, data, seed=seed)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        place = (
            f"{Path(frames[-1].filename).name}:{frames[-1].name}: {type(error).__name__}: "
            + re.sub(r"\d+", "N", str(error))[:60]
        )
        found.broken.setdefault(place, (name, data, "".join(traceback.format_exception(error)[-12:])))
        return f"BROKEN ({type(error).__name__})"


def _keep(pool: list[Pieces], data: bytes) -> None:
    try:
        pool.append(Pieces.of(data))
    except Exception:  # no header: nothing to go on from
        return
