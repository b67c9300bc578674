"""How fast and how large: the paper's model and reducio-lite, in turns, in one run.

A round times each subject once or a few times, and the rounds repeat: whatever else the machine does meets all of
them alike. The result file is written after every measurement, and a run that was cut off goes on where it stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from rich.table import Table
from torch import Tensor

from bench.json_files import read_json
from bench.machine import describe, load_average
from bench.memory import CASES, measure
from bench.subjects import Model, lite_model, paper_model, same_video
from reducio_codec.config import CLIP_LENGTH
from reducio_codec.metrics.psnr import decibels

PROTOCOL = "speed/1"

Operation = Literal["decode", "encode"]

REFERENCE = "paper, float32 eager"
"""What the ratios are against."""

OPTIMISED = "paper, optimised (bfloat16)"


@dataclass(frozen=True, kw_only=True)
class SpeedConfig:
    """The protocol of one run; a result file goes on only under the same one."""

    size: int = 256
    """Side of the clip of 16 frames in pixels, a multiple of 32."""
    paper_decodes: int = 2
    """Timed decodes of the paper's model, plain and optimised each."""
    paper_encodes: int = 2
    lite_repeats: int = 5
    """Timed runs of lite beside each run of the paper's model."""
    compile: bool = True
    tiny: bool = False
    """Both models at a toy width: for the tests, no figure to quote."""
    seed: int = 0
    threads: int = 0
    """Threads that torch may use; 0 leaves its own choice."""


@dataclass
class SpeedResult:
    """Everything a table needs. Times in seconds, memory in bytes."""

    config: SpeedConfig
    machine: dict[str, Any]
    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """Subject, operation, seconds of each timed run."""
    compile_seconds: dict[str, float] = field(default_factory=dict)
    """First call of a compiled operation."""
    agreement_db: float | None = None
    """PSNR between the outputs of the paper's model, optimised and plain, clipped to [-1, 1]."""
    weights: dict[str, str] = field(default_factory=dict)
    memory: list[dict[str, Any]] = field(default_factory=list)
    loads: list[list[float]] = field(default_factory=list)
    """Load average after each round."""

    def add(self, subject: str, operation: str, seconds: float) -> None:
        self.samples.setdefault(subject, {}).setdefault(operation, []).append(seconds)

    def count(self, subject: str, operation: str) -> int:
        return len(self.samples.get(subject, {}).get(operation, []))

    def seconds(self, subject: str, operation: str) -> float | None:
        """Median of the timed runs, or None before the first."""
        values = self.samples.get(subject, {}).get(operation, [])
        return median(values) if values else None

    def ratio(self, subject: str, operation: str) -> float | None:
        """How many times faster than the reference."""
        own, reference = self.seconds(subject, operation), self.seconds(REFERENCE, operation)
        return reference / own if own and reference else None

    def to_json(self) -> dict[str, Any]:
        return {"protocol": PROTOCOL, **asdict(self)}

    @classmethod
    def read(cls, path: Path) -> SpeedResult | None:
        """A result file of this protocol, or None."""
        data = read_json(path, protocol=PROTOCOL)
        if data is None:
            return None
        del data["protocol"]
        return cls(config=SpeedConfig(**data.pop("config")), **data)


def run(
    config: SpeedConfig, *, path: Path, memory: bool, paper_memory: bool = False, fresh: bool = False
) -> SpeedResult:
    """Measure, or go on with the file at ``path`` if it has the same protocol; writes it after every measurement."""
    if config.threads:
        torch.set_num_threads(config.threads)
    found = None if fresh else SpeedResult.read(path)
    goes_on = found is not None and found.config == config
    result = found if found is not None and goes_on else SpeedResult(config=config, machine=describe())
    for operation in ("decode", "encode"):
        _time_operation(result, operation=operation, save=lambda: _write(result, path))
    if memory:
        cases = [case for case in CASES if paper_memory or case.model != "paper"]
        for case in cases:
            if any(row["case"] == case.name for row in result.memory):
                continue
            result.memory.append(measure(case, tiny=config.tiny))
            _write(result, path)
    _write(result, path)
    return result


@torch.inference_mode()
def _time_operation(result: SpeedResult, *, operation: Operation, save: Callable[[], None]) -> None:
    config = result.config
    rounds = config.paper_decodes if operation == "decode" else config.paper_encodes
    wanted = {REFERENCE: rounds, OPTIMISED: rounds, "lite, eager": rounds * config.lite_repeats}
    if config.compile:
        wanted["lite, compiled"] = rounds * config.lite_repeats
    if all(result.count(name, operation) >= number for name, number in wanted.items()):
        return
    subjects = dict(_subjects(result, operation=operation))
    for number in range(1, rounds + 1):
        outputs: dict[str, Tensor] = {}
        for name, call in subjects.items():
            until = number if name in (REFERENCE, OPTIMISED) else number * config.lite_repeats
            while result.count(name, operation) < until:
                started = time.perf_counter()
                output = call()
                result.add(name, operation, time.perf_counter() - started)
                if operation == "decode" and name in (REFERENCE, OPTIMISED):
                    outputs[name] = output
                del output
                save()
        if len(outputs) == 2:
            result.agreement_db = _decibels(outputs[REFERENCE], outputs[OPTIMISED])
        result.loads.append(load_average())
        save()


def _subjects(result: SpeedResult, *, operation: Operation) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    """Name and timed call of each subject, warmed up; the paper's at a small size, since one run takes minutes."""
    config = result.config
    video = same_video(size=config.size, seed=config.seed)  # (1, 3, 16, H, W)
    small = same_video(size=64, seed=config.seed)
    for name, optimised in ((REFERENCE, False), (OPTIMISED, True)):
        model = paper_model(optimised=optimised, tiny=config.tiny, seed=config.seed)
        result.weights[name] = model.weights
        _call(model, operation=operation, video=small)()
        yield name, _call(model, operation=operation, video=video)
    lite = lite_model(tiny=config.tiny, seed=config.seed)
    result.weights["lite"] = lite.weights
    eager = _call(lite, operation=operation, video=video)
    eager()
    yield "lite, eager", eager
    if config.compile:
        compiled = _call(lite.compiled(), operation=operation, video=video)
        started = time.perf_counter()
        compiled()
        result.compile_seconds[operation] = time.perf_counter() - started
        compiled()
        yield "lite, compiled", compiled


def _call(model: Model, *, operation: Operation, video: Tensor) -> Callable[[], Tensor]:
    if operation == "encode":
        return lambda: model.encode(video)
    latent, keyframe = model.decoder_input(video)
    return lambda: model.decode(latent, keyframe)


def _decibels(reference: Tensor, other: Tensor) -> float:
    error = (reference.float().clamp(-1, 1) - other.float().clamp(-1, 1)).square().mean().item()
    return decibels(error / 4)


def _write(result: SpeedResult, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(json.dumps(result.to_json(), indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def tables(result: SpeedResult) -> list[Table]:
    """The result as two tables: speed, and memory where it was measured."""
    config = result.config
    title = f"16x{config.size}x{config.size}, {result.machine['threads']} threads, medians"
    speeds = Table(title=title)
    for heading in ("", "decode s", "frames/s", "x paper", "encode s", "frames/s", "x paper"):
        speeds.add_column(heading, justify="left" if not heading else "right")
    for name in result.samples:
        cells = [name]
        for operation in ("decode", "encode"):
            seconds, ratio = result.seconds(name, operation), result.ratio(name, operation)
            cells += [
                "-" if seconds is None else f"{seconds:.4g}",
                "-" if seconds is None else f"{CLIP_LENGTH / seconds:.3g}",
                "-" if ratio is None else f"{ratio:.4g}",
            ]
        speeds.add_row(*cells)
    if result.agreement_db is not None:
        speeds.caption = f"paper's model, optimised against plain: {result.agreement_db:.1f} dB"
    if not result.memory:
        return [speeds]
    memory = Table(title="peak memory of a process of its own, above what it held before")
    for heading in ("", "MB", "seconds"):
        memory.add_column(heading, justify="left" if not heading else "right")
    for row in result.memory:
        memory.add_row(row["case"], f"{row['growth_bytes'] / 1e6:.0f}", f"{row['seconds']:.1f}")
    return [speeds, memory]
