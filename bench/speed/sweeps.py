"""Cost against resolution, length, threads, batch and number type: all subjects in turns at each point, in one run.

A round times each subject once, and rounds repeat, so whatever else the machine does meets all alike. The file is
written after every measurement; a run that was cut off goes on. What would take too long by what the next cheaper point
took isn't run, and the file says so.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from bench.json_files import read_json, write_json
from bench.machine import describe, load_average, use_threads
from bench.methods import NotRunError
from bench.results import NOT_RUN
from bench.speed.coders import SUBJECTS, Call, Coder, Operation, Subject
from bench.speed.peaks import peak_bytes
from bench.speed.points import VALUES, Point

PROTOCOL = "speed-sweep/1"

_TOO_LONG = "about "
"""How the reason begins where the next cheaper point says that a call would take too long."""


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """The protocol of one run; a result file goes on only under the same one."""

    values: dict[str, tuple[str, ...]] = field(default_factory=lambda: dict(VALUES))
    """Points of each axis, the cheapest first."""
    base: Point = field(default_factory=Point)
    """What the other axes stay at."""
    subjects: tuple[str, ...] = tuple(subject.name for subject in SUBJECTS)
    rounds: int = 3
    most_seconds: float = 120.0
    """No operation is run that would take longer than this, or again once it has taken so long in all."""
    memory: bool = True
    """Measure it once all is timed. It doesn't depend on load: a file that was timed without it can get it later."""
    tiny: bool = False
    """Toy networks: for the tests, no figure to quote."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One operation of one subject at one point of an axis."""

    axis: str
    value: str
    point: Point
    subject: Subject
    operation: Operation

    @property
    def key(self) -> str:
        return f"{self.axis}={self.value}/{self.subject.name}/{self.operation}"


def cells(config: SweepConfig) -> Iterator[list[Cell]]:
    """Point after point, the cells that are timed in turns there."""
    chosen = [subject for subject in SUBJECTS if subject.name in config.subjects]
    for axis, values in config.values.items():
        for value in values:
            point = config.base.at(axis, value)
            yield [
                Cell(axis=axis, value=value, point=point, subject=subject, operation=operation)
                for subject in chosen
                if axis in subject.axes
                for operation in subject.operations
            ]


@dataclass(kw_only=True)
class Sweep:
    """A run, and its result file."""

    config: SweepConfig
    path: Path
    console: Console
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By a cell's key: its point, ``frames`` of a call, ``seconds`` of each, ``peak_bytes``, or ``why`` there are none."""
    weights: dict[str, str] = field(default_factory=dict)
    loads: list[list[float]] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=describe)

    def __post_init__(self) -> None:
        self._open: dict[tuple[str, str], Coder] = {}
        self._calls: dict[str, Call] = {}

    @classmethod
    def start(cls, config: SweepConfig, *, path: Path, console: Console, fresh: bool = False) -> Sweep:
        """A new one, or the one in ``path`` where that has the same protocol and configuration, ``memory`` aside."""
        sweep = cls(config=config, path=path, console=console)
        data = None if fresh else read_json(path, protocol=PROTOCOL)
        asked = json.loads(json.dumps(config.to_json()))
        if data is not None and {**data["config"], "memory": config.memory} == asked:
            # what failed may run now; what would have taken too long would be timed apart from its round
            kept = [key for key, row in data["rows"].items() if row.get("why", _TOO_LONG).startswith(_TOO_LONG)]
            sweep.rows = {key: data["rows"][key] for key in kept}
            sweep.weights = data["weights"]
            sweep.loads, sweep.machine = data["loads"], data["machine"]
        return sweep

    def run(self) -> None:
        for group in cells(self.config):
            for number in range(1, self.config.rounds + 1):
                if any([self._time(cell, until=number) for cell in group]):
                    self.loads.append(load_average())
            if self.config.memory:
                for cell in group:
                    self._weigh(cell)
            self._calls.clear()
        self._save()

    def _row(self, cell: Cell) -> dict[str, Any]:
        start = {"axis": cell.axis, "value": cell.value, "subject": cell.subject.name, "operation": cell.operation,
                 "point": cell.point.to_json(), "frames": cell.subject.frames(cell.point), "seconds": []}  # fmt: skip
        return self.rows.setdefault(cell.key, start)

    def _time(self, cell: Cell, *, until: int) -> bool:
        """Whether there was anything to time."""
        row = self._row(cell)
        if "why" in row or len(row["seconds"]) >= until or sum(row["seconds"]) >= self.config.most_seconds:
            return False
        expected = self._expected(cell)
        if expected is not None and expected > self.config.most_seconds:
            row["why"] = f"{_TOO_LONG}{expected:.0f} s, more than {self.config.most_seconds:g}"
            return False
        use_threads(cell.point.threads)
        try:
            if cell.key not in self._calls:
                self._calls[cell.key] = self._coder(cell).prepare(cell.operation, cell.point)
            call = self._calls[cell.key]
            started = time.perf_counter()
            call()
            row["seconds"].append(time.perf_counter() - started)
        except (NotRunError, RuntimeError, MemoryError) as error:
            row["why"] = str(error).splitlines()[0]
        self.console.print(f"{cell.key}: {row.get('why') or round(row['seconds'][-1], 3)}", markup=False)
        self._save()
        return True

    def _expected(self, cell: Cell) -> float | None:
        """Seconds by what the same operation took at the largest point of this run that is smaller; None before the first."""
        done = [row for row in self.rows.values() if row["seconds"] and self._like(row, cell)]
        if not done:
            return None
        nearest = max(done, key=lambda row: Point(**row["point"]).pixels)
        return float(median(nearest["seconds"]) * self._work(cell.subject, cell.point, nearest))

    @staticmethod
    def _like(row: dict[str, Any], cell: Cell) -> bool:
        same = (row["subject"], row["operation"]) == (cell.subject.name, cell.operation)
        return same and row["point"]["dtype"] == cell.point.dtype and Point(**row["point"]).pixels <= cell.point.pixels

    @staticmethod
    def _work(subject: Subject, point: Point, row: dict[str, Any]) -> float:
        """How many times as much work a point is: pixels of the frames that are timed."""
        old = Point(**row["point"])
        return point.width * point.height * subject.frames(point) / (old.width * old.height * row["frames"])

    def _coder(self, cell: Cell) -> Coder:
        """Open, and after a small run."""
        name = str(cell.point.torch_dtype).removeprefix("torch.")
        key = (cell.subject.name, name)
        if key not in self._open:
            coder = cell.subject.open(dtype=cell.point.torch_dtype, tiny=self.config.tiny)
            for operation in cell.subject.operations:
                coder.prepare(operation, Point(width=64, height=64, dtype=cell.point.dtype))()
            self._open[key] = coder
            self.weights[cell.subject.name] = coder.weights
        return self._open[key]

    def _weigh(self, cell: Cell) -> None:
        row = self._row(cell)
        if "why" in row or "peak_bytes" in row or not row["seconds"]:
            return
        try:
            row["peak_bytes"] = peak_bytes(cell.subject.name, cell.operation, cell.point, tiny=self.config.tiny)
        except RuntimeError as error:
            row["peak_bytes"] = f"{NOT_RUN}{error}"
        self._save()

    def _save(self) -> None:
        data = {"protocol": PROTOCOL, "config": self.config.to_json(), "machine": self.machine, "weights": self.weights,
                "loads": self.loads, "rows": self.rows}  # fmt: skip
        write_json(self.path, data)
