"""``python -m bench speed --generate``: time and peak memory of all that makes a clip, part by part, on each device.

Parts of a subject are timed in turns, and rounds repeat. The file is written after every measurement; a run that was cut
off, or one that asks for more subjects or devices, goes on with it. What would take too long, doesn't fit into memory or
wasn't asked for stands there with the reason.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console

from bench.json_files import read_json, write_json
from bench.machine import describe, load_average, use_threads
from bench.methods import NotRunError
from bench.results import NOT_RUN
from bench.speed.generation_parts import ENCODERS, Call, Opened, Part, all_parts, takes_text
from bench.speed.generation_peaks import peak_bytes
from reducio_codec.errors import ReducioError

PROTOCOL = "speed-generate/1"

SAMPLINGS: tuple[tuple[int, float], ...] = ((20, 2.5), (4, 2.5), (4, 1.0))
"""Steps and guidance: the paper's, a student's, and one's that learned guidance too (half the work)."""


SMALL = 64
"""Side in pixels of the clip that decoders warm up with."""


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """What two rows of one file share."""

    samplings: tuple[tuple[int, float], ...] = SAMPLINGS
    batches: tuple[int, ...] = (1,)
    rounds: int = 3
    most_seconds: float = 120.0
    """No part is run that would take longer than this, or again once it has taken so long in all."""
    threads: int = 0
    """Threads that torch may use; 0 leaves its own choice."""
    tiny: bool = False
    """Toy networks: for the tests, no figure to quote."""

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return found


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is measured on a device."""

    device: str
    presets: tuple[str, ...]
    encoders: bool


@dataclass(kw_only=True)
class GenerationRun:
    """A run, and its result file."""

    config: GenerationConfig
    path: Path
    console: Console
    memory: bool = True
    machines: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By device."""
    weights: dict[str, dict[str, str]] = field(default_factory=dict)
    """By device and subject, which weights each model had."""
    loads: dict[str, list[list[float]]] = field(default_factory=dict)
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By key: ``seconds`` of each call, ``weights_bytes``, ``peak_bytes`` above what was held, or ``why`` there are none."""

    @classmethod
    def start(
        cls, config: GenerationConfig, *, path: Path, console: Console, memory: bool = True, fresh: bool = False
    ) -> GenerationRun:
        """A new one, or the one in ``path`` where that has the same protocol and configuration."""
        run = cls(config=config, path=path, console=console, memory=memory)
        data = None if fresh else read_json(path, protocol=PROTOCOL)
        if data is not None and data["config"] == config.to_json():
            # what didn't run may do so now
            run.rows = {key: row for key, row in data["rows"].items() if "why" not in row}
            run.machines, run.weights, run.loads = data["machines"], data["weights"], data["loads"]
        return run

    def run(self, wanted: Wanted) -> None:
        """Measure what isn't finished on this device."""
        config, device = self.config, wanted.device
        use_threads(config.threads)
        self._check_machine(device)
        for subject, parts in all_parts(
            wanted.presets, encoders=wanted.encoders, samplings=config.samplings, tiny=config.tiny
        ):
            cells = [(part, batch) for batch in config.batches for part in parts]
            opened = Opened(subject=subject, device=device, tiny=config.tiny)
            calls: dict[str, Call] = {}
            for number in range(1, config.rounds + 1):
                for part, batch in cells:
                    self._time(opened, part, batch, calls=calls, until=number)
                self.loads.setdefault(device, []).append(load_average())
            self.weights.setdefault(f"{device}/{subject}", {}).update(opened.weights)
            del opened, calls  # the next one may need the memory
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            for part, batch in cells:
                self._weigh(subject, part, batch, device=device)
        if not wanted.encoders and any(map(takes_text, wanted.presets)):
            for subject in ENCODERS:
                row = self._row(device, subject, Part(name=subject, role="encoder", work=1, kind=subject), 1)
                if not row["seconds"]:
                    row["why"] = "--encoders wasn't given"
        self._save()

    def _check_machine(self, device: str) -> None:
        """Rows of another machine aren't gone on with."""
        here = describe_device(device)
        there = self.machines.get(device)
        same = ("cpu", "cores", "threads", "versions", "accelerator")
        if there is not None and any(there.get(name) != here[name] for name in same):
            self.console.print(f"{device}: the stored rows are of another machine or other versions; measured anew")
            for stored in (self.rows, self.weights):
                for key in [key for key in stored if key.startswith(f"{device}/")]:
                    del stored[key]
            self.loads.pop(device, None)
            there = None
        self.machines[device] = there or here

    def _row(self, device: str, subject: str, part: Part, batch: int) -> dict[str, Any]:
        start = {"device": device, "subject": subject, "part": asdict(part), "batch": batch, "seconds": []}
        return self.rows.setdefault(key_of(device, subject, part.name, batch), start)

    def _time(self, opened: Opened, part: Part, batch: int, *, calls: dict[str, Call], until: int) -> None:
        key = key_of(opened.device, opened.subject, part.name, batch)
        row = self._row(opened.device, opened.subject, part, batch)
        if "why" in row or len(row["seconds"]) >= until or sum(row["seconds"]) >= self.config.most_seconds:
            return
        if self._too_long(row, self._expected(row)):
            return
        try:
            if key not in calls:
                calls[key] = opened.prepare(part, batch=batch)
                row["weights_bytes"] = opened.weight_bytes(part)
                if not self._warm_up(opened, part, batch, row=row):
                    return
            _synchronize(opened.device)
            started = time.perf_counter()
            calls[key]()
            _synchronize(opened.device)
            row["seconds"].append(time.perf_counter() - started)
        except (NotRunError, ReducioError, RuntimeError, MemoryError) as error:
            row["why"] = str(error).splitlines()[0] if str(error) else type(error).__name__
        self.console.print(f"{key}: {row.get('why') or round(row['seconds'][-1], 3)}", markup=False)
        self._save()

    def _too_long(self, row: dict[str, Any], expected: float | None) -> bool:
        """Whether a part isn't run for its time, which its row says then."""
        if expected is None or expected <= self.config.most_seconds:
            return False
        row["why"] = f"about {expected:.0f} s, more than {self.config.most_seconds:g}"
        self._save()
        return True

    def _warm_up(self, opened: Opened, part: Part, batch: int, *, row: dict[str, Any]) -> bool:
        """A first call that isn't timed; on a CPU a small one of decoders, which can take minutes, and tells how many."""
        small = part.role == "decoder" and torch.device(opened.device).type == "cpu"
        call = opened.prepare(part, batch=batch, brief=True, side=SMALL if small else None)
        started = time.perf_counter()
        call()
        taken = time.perf_counter() - started
        return not (small and self._too_long(row, taken * (opened.config.sample_size / SMALL) ** 2))

    def _expected(self, row: dict[str, Any]) -> float | None:
        """Seconds by the nearest part of its kind on this device that is done; None before the first."""
        work = row["part"]["work"] * row["batch"]
        done = [
            (other["part"]["work"] * other["batch"], median(other["seconds"]))
            for other in self.rows.values()
            if other["seconds"] and (other["device"], other["part"]["kind"]) == (row["device"], row["part"]["kind"])
        ]
        smaller = [pair for pair in done if pair[0] <= work]
        if not smaller:
            return None
        nearest, seconds = max(smaller)
        return float(seconds * work / nearest)

    def _weigh(self, subject: str, part: Part, batch: int, *, device: str) -> None:
        row = self._row(device, subject, part, batch)
        if not self.memory or "why" in row or "peak_bytes" in row or not row["seconds"]:
            return
        config = self.config
        try:
            row["peak_bytes"] = peak_bytes(
                subject, part, device=device, batch=batch, threads=config.threads, tiny=config.tiny
            )
        except RuntimeError as error:
            row["peak_bytes"] = f"{NOT_RUN}{error}"
        self._save()

    def _save(self) -> None:
        data = {"protocol": PROTOCOL, "config": self.config.to_json(), "machines": self.machines, "weights": self.weights,
                "loads": self.loads, "rows": self.rows}  # fmt: skip
        write_json(self.path, data)


def key_of(device: str, subject: str, part: str, batch: int) -> str:
    return f"{device}/{subject}/{part}/batch {batch}"


def describe_device(device: str) -> dict[str, Any]:
    """The machine with its versions, and which accelerator."""
    name = torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else None
    return {**describe(), "accelerator": name}


def _synchronize(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
