"""What is measured on a device, and how: rows of methods, each guarded, within a budget of minutes."""

from __future__ import annotations

import gc
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch

from bench.json_files import read_json, write_json
from bench.results import NOT_RUN
from bench.speed.generation import describe_device

PROTOCOL = "device/1"

Facts = Mapping[str, Any]
"""What a call tells beside its time, as JSON values."""
Call = Callable[[], Facts | None]


@dataclass(frozen=True, kw_only=True)
class Row:
    """Something to time."""

    name: str
    unit: str
    """What a call makes: ``frames``, ``clips``, ``steps``."""
    count: int
    """Of them, in a call."""
    prepare: Callable[[], Call]
    """Makes the timed call; its first run, which isn't timed, may compile."""
    slow_start: float = 0.0
    """Seconds that the first run takes at least: a row isn't begun that can't be finished."""
    once: bool = False
    """The first run is the only one: for what tells facts, or times itself."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """Rows that share a model, and a result file."""

    name: str
    open: Callable[[], Sequence[Row]]


@dataclass(kw_only=True)
class Budget:
    """Time that is left, and how it is shared among the rows to come."""

    seconds: float
    repeats: int = 5
    started: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        return self.seconds - (time.monotonic() - self.started)


@dataclass(kw_only=True)
class DeviceRun:
    """Methods one after another, each in a file of its own below ``folder``."""

    device: str
    folder: Path
    budget: Budget
    say: Callable[[str], None]
    tiny: bool = False

    @property
    def name(self) -> str:
        """The card's, or the device's."""
        return describe_device(self.device)["accelerator"] or self.device

    def run(self, methods: Sequence[Method]) -> list[Path]:
        """Measure all; paths of the files. Nothing that a row does ends the run."""
        machine = describe_device(self.device)
        written = []
        for number, method in enumerate(methods):
            data: dict[str, Any] = {
                "protocol": PROTOCOL, "method": method.name, "device": self.device, "machine": machine,
                "tiny": self.tiny, "rows": {},
            }  # fmt: skip
            path = self.folder / f"{method.name.replace(' ', '-').replace(',', '')}.json"
            written.append(path)
            for name, result in self._results(method, share=self.budget.left / (len(methods) - number)):
                data["rows"][name] = result
                self.say(f"{method.name}, {name}: {words(result)}")
                write_json(path, data)
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return written

    def _results(self, method: Method, *, share: float) -> Iterator[tuple[str, dict[str, Any]]]:
        ends = time.monotonic() + share
        try:
            rows = list(method.open()) if self.budget.left > 0 else []
        except Exception as error:
            yield "all", {"why": reason(error)}
            return
        if not rows:
            yield "all", {"why": self._over()}
        while rows:
            row = rows.pop(0)
            now = time.monotonic()
            if self.budget.left <= row.slow_start:
                yield row.name, {"why": self._over()}
                continue
            yield row.name, self._measured(row, seconds=max(0.0, ends - now) / (len(rows) + 1))

    def _over(self) -> str:
        return f"the {self.budget.seconds / 60:g} minutes were over"

    def _measured(self, row: Row, *, seconds: float) -> dict[str, Any]:
        """One row: a run to warm up, then so many as its share of the time allows, one at least.

        Args:
            seconds: the row's share.
        """
        result: dict[str, Any] = {"unit": row.unit, "count": row.count, "seconds": []}
        began = time.monotonic()
        cuda = torch.device(self.device).type == "cuda"
        try:
            if cuda:
                torch.cuda.reset_peak_memory_stats()
            with _stopped_after(self.budget.left):
                call = row.prepare()
                result["first_seconds"] = round(self._timed(call, result), 4)
            while not row.once and len(result["seconds"]) < self.budget.repeats:
                result["seconds"].append(self._timed(call, result))
                if time.monotonic() - began > seconds or self.budget.left <= 0:
                    break
            if cuda:
                result["peak_bytes"] = torch.cuda.max_memory_allocated()
        except _OverError:
            result["why"] = self._over()
        except Exception as error:  # out of memory, a compiler's own, a missing package: the others go on
            result["why"] = reason(error)
        result["per_second"] = row.count / median(result["seconds"]) if result["seconds"] else None
        return result

    def _timed(self, call: Call, result: dict[str, Any]) -> float:
        self._synchronize()
        started = time.perf_counter()
        facts = call()
        self._synchronize()
        seconds = time.perf_counter() - started
        if facts:
            result["facts"] = dict(facts)
        return seconds

    def _synchronize(self) -> None:
        if torch.device(self.device).type == "cuda":
            torch.cuda.synchronize(self.device)


class _OverError(Exception):
    """The time is over."""


@contextmanager
def _stopped_after(seconds: float) -> Iterator[None]:
    """Raises ``_OverError`` inside the block then: a compiler may work for many minutes, and has no limit of its own."""

    def stop(_signal: int, _frame: object) -> None:
        raise _OverError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(0.001, seconds))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def reason(error: BaseException) -> str:
    """In a line of at most 300 characters."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]


def words(result: Mapping[str, Any]) -> str:
    """A row's result for people."""
    if "why" in result:
        return f"{NOT_RUN}{result['why']}"
    parts = [f"{result['per_second']:.4g} {result['unit']}/s"] if result["unit"] else []
    if "peak_bytes" in result:
        parts.append(f"{result['peak_bytes'] / 1e9:.2f} GB")
    parts += [f"{name} {value}" for name, value in result.get("facts", {}).items()]
    return ", ".join(parts)


def table(paths: Sequence[Path]) -> list[list[str]]:
    """All rows of some files; the first one is the head."""
    found = [["", "", "a second", "peak GB", ""]]
    for path in paths:
        data = read_json(path, protocol=PROTOCOL)
        for name, row in (data["rows"] if data else {}).items():
            why = f"{NOT_RUN}{row['why']}" if "why" in row else ""
            facts = ", ".join(f"{key} {value}" for key, value in row.get("facts", {}).items())
            speed = f"{row['per_second']:.4g} {row['unit']}" if row.get("per_second") and row["unit"] else ""
            peak = f"{row['peak_bytes'] / 1e9:.2f}" if "peak_bytes" in row else ""
            found.append([data["method"] if data else "", name, speed, peak, why or facts])
    return found
