"""The loop of both benchmarks: methods, points, samples; what is finished is skipped, what fails is named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import av
import torch
from rich.console import Console

from bench.machine import describe
from bench.method_file import Result
from bench.methods import Candidate, NotRunError
from bench.protocol import Sample, SampleSet
from bench.quality import Quality
from bench.results import ResultStore, SampleInfo
from reducio_codec.errors import InputError, MissingDependencyError, ReducioError
from reducio_codec.metrics.weights import NeedsFileError

SEED = 0

T = TypeVar("T")


@dataclass
class Runner(Generic[T]):
    """Measures ``candidates`` on ``samples`` into ``store``."""

    store: ResultStore
    samples: SampleSet
    quality: Quality
    measure: Callable[[T, Sample], dict[str, Any]]
    """One method on one sample: what its result holds beside ``settings``. Has ``metrics``."""
    console: Console
    failures: list[str] = field(default_factory=list)

    def run(self, candidates: Sequence[Candidate[T]]) -> None:
        """Measure what isn't finished. An interrupted run goes on where it stopped when it is started again."""
        torch.manual_seed(SEED)
        infos = {info.name: info for info in self.store.set_samples(self.samples)}
        for name, why in self.samples.skipped.items():
            self.console.print(f"skipped {name}: {why}", markup=False, style="yellow")
        if not infos:
            raise InputError(f"{self.samples.folder} has no usable video")
        for candidate in candidates:
            self._run_one(candidate, infos)

    def _run_one(self, candidate: Candidate[T], infos: dict[str, SampleInfo]) -> None:
        name, opened = candidate.name, {}
        for point, opener in candidate.points.items():
            try:
                opened[point] = opener()
            except (NotRunError, NeedsFileError, MissingDependencyError) as error:
                self.store.write_not_run(name, str(error))
                self.console.print(f"{name} {point}: not run: {error}", markup=False)
        finished = self.store.load(name).points
        todo = {
            (point, sample)
            for point, method in opened.items()
            for sample in infos
            if not self._good(finished.get(point, {}).get(sample), settings=method.settings)  # type: ignore[attr-defined]
        }
        if not todo:
            return
        self.console.print(f"{name}: {len(todo)} of {len(opened) * len(infos)} to measure", markup=False)
        machine = describe()
        videos = {infos[sample].video for _, sample in todo}
        for sample in self.samples.of_videos(videos):
            for point, method in opened.items():
                if (point, sample.name) not in todo:
                    continue
                try:
                    measured = self.measure(method, sample)
                except (ReducioError, NotRunError, av.FFmpegError, RuntimeError) as error:
                    self._failed(f"{name} {point} on {sample.name}: {error}", method=name)
                    continue
                settings = {"settings": method.settings, "metric_settings": self.quality.describe()}  # type: ignore[attr-defined]
                data = {**settings, **measured, "seed": SEED, "machine": machine}
                self.store.write(name, point, infos[sample.name], data)

    def _good(self, result: Result | None, *, settings: dict[str, Any]) -> bool:
        """Whether it is a result of these very settings (weights included) that this run couldn't add to."""
        return result is not None and result["settings"] == settings and not self.quality.could_add(result)

    def _failed(self, line: str, *, method: str) -> None:
        self.failures.append(line)
        self.store.write_not_run(method, f"failed: {line}")
        self.console.print(f"failed: {line}", markup=False, style="red")
