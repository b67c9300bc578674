"""Results on disk: a file a method, a line a point and sample. What is finished is not measured again.

``results/KIND/METHOD.jsonl``, and ``results/KIND/samples.json`` with the samples of the latest run. The file of a method
that couldn't run holds the reason. Nothing that doesn't fit (an older protocol, other pixels, a damaged line) is read as
if it did: it is named in ``problems`` and left out. A method is measured by one process at a time.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.json_files import write_json
from bench.method_file import Result, read_results, write_results
from bench.protocol import Protocol, Sample, SampleSet
from reducio_codec.errors import InputError

FORMAT = 2
SUFFIX = ".jsonl"
NOT_RUN = "not run: "
"""What a cell without a number begins with."""


@dataclass(frozen=True, kw_only=True)
class SampleInfo:
    """What is known of a sample without decoding it."""

    name: str
    video: str
    frames: int
    digest: str

    @classmethod
    def of(cls, sample: Sample) -> SampleInfo:
        return cls(name=sample.name, video=sample.video, frames=len(sample.pixels), digest=sample.digest)


@dataclass
class Method:
    """A method's finished results, by point and sample."""

    name: str
    why_not: str | None = None
    """Why it couldn't run, if it couldn't."""
    points: dict[str, dict[str, Result]] = field(default_factory=dict)


@dataclass
class ResultStore:
    """Results of one kind (``reconstruction`` or ``rd``) under one protocol."""

    folder: Path
    protocol: Protocol
    problems: list[str] = field(default_factory=list)
    """What was left out and why."""

    @property
    def kind(self) -> str:
        return self.protocol.name.split("/")[0]

    @property
    def root(self) -> Path:
        return self.folder / self.kind

    def path(self, method: str) -> Path:
        return self.root / f"{method}{SUFFIX}"

    # ------------------------------------------------------------------ samples

    def set_samples(self, samples: SampleSet) -> list[SampleInfo]:
        """Decode every sample once and record the set. InputError if this folder holds other pixels of one name."""
        found = [SampleInfo.of(sample) for sample in samples]
        old = {info.name: info for info in self.samples()}
        for info in found:
            if info.name in old and old[info.name] != info:
                raise InputError(
                    f"{self.root} has results of {info.name} with {old[info.name].frames} frames, digest "
                    f"{old[info.name].digest}; {samples.folder} has {info.frames} frames, digest {info.digest}. "
                    "Give this data another results folder"
                )
        data = {
            "protocol": self.protocol.to_json(),
            "samples": [vars(info) for info in found],
            "skipped": samples.skipped,
        }
        write_json(self.root / "samples.json", data)
        return found

    def samples(self) -> list[SampleInfo]:
        """The samples of the latest run; none before the first, or if that had another protocol."""
        data = self._samples_file()
        return [SampleInfo(**row) for row in data["samples"]] if data else []

    def skipped(self) -> dict[str, str]:
        """Videos that the latest run couldn't use, and why."""
        data = self._samples_file()
        return dict(data["skipped"]) if data else {}

    # ------------------------------------------------------------------ results

    def write(self, method: str, point: str, sample: SampleInfo, data: dict[str, Any]) -> None:
        """Add what every result has, and replace the earlier result of this point and sample, if there is one."""
        result = {
            "format": FORMAT,
            "protocol": self.protocol.to_json(),
            "method": method,
            "point": point,
            "sample": sample.name,
            "video": sample.video,
            "frames": sample.frames,
            "digest": sample.digest,
            **data,
        }
        rows = {(row["point"], row["sample"]): row for row in self._results(method)}
        write_results(self.path(method), list({**rows, (point, sample.name): result}.values()))

    def write_not_run(self, method: str, why: str) -> None:
        """Say why a method gave nothing, unless it has results of an earlier run."""
        if not self._results(method):
            write_results(self.path(method), [{"protocol": self.protocol.to_json(), "why_not": why}])

    def methods(self) -> list[str]:
        """Names of all methods with anything on disk."""
        return sorted(path.name.removesuffix(SUFFIX) for path in self.root.glob(f"*{SUFFIX}"))

    def load(self, method: str) -> Method:
        """Everything of one method that belongs to the current samples."""
        samples = self.samples()
        result = Method(name=method)
        stored, problems = read_results(self.path(method))
        for text in problems:
            self._problem(f"{method}{SUFFIX} {text}")
        rows = {(row["point"], row["sample"]): row for row in stored if "why_not" not in row}
        for point in sorted({point for point, _ in rows}):
            others = {sample for place, sample in rows if place == point} - {info.name for info in samples}
            if others:
                self._problem(f"{method}/{point}: {len(others)} samples aren't in the latest run's set")
            found = {info.name: rows[point, info.name] for info in samples if (point, info.name) in rows}
            result.points[point] = {info.name: found[info.name] for info in samples if self._fits(found, info)}
        if not any(result.points.values()):
            reasons = [row for row in stored if "why_not" in row and self._same_protocol(row, f"{method}{SUFFIX}")]
            result.why_not = str(reasons[0]["why_not"]) if reasons else None
        return result

    def _results(self, method: str) -> list[Result]:
        return [row for row in read_results(self.path(method))[0] if "why_not" not in row]

    def _fits(self, found: dict[str, Result], sample: SampleInfo) -> bool:
        """Whether there is a result of this very sample under this protocol."""
        row = found.get(sample.name)
        if row is None:
            return False
        name = f"{row['method']}/{row['point']}/{sample.name}"
        if not self._same_protocol(row, name):
            return False
        if (row["frames"], row["digest"]) != (sample.frames, sample.digest):
            wanted = f"wanted {sample.frames}, {sample.digest}"
            self._problem(f"{name}: {row['frames']} frames, digest {row['digest']}; {wanted}")
            return False
        return True

    def _same_protocol(self, data: dict[str, Any], name: str) -> bool:
        found = data["protocol"]
        if found == self.protocol.to_json():
            return True
        told = found.get("name") if isinstance(found, dict) else found
        differs = f"protocol {told}" if told != self.protocol.name else f"protocol {told} with other settings"
        self._problem(f"{name}: {differs}; this is {self.protocol.name}, unit {self.protocol.unit}")
        return False

    def _samples_file(self) -> dict[str, Any] | None:
        path = self.root / "samples.json"
        if not path.is_file():
            return None
        try:
            data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            fits = self._same_protocol(data, path.name)
        except (ValueError, KeyError, TypeError) as error:
            self._problem(f"{path.name}: can't be read ({type(error).__name__})")
            return None
        return data if fits else None

    def _problem(self, line: str) -> None:
        if line not in self.problems:
            self.problems.append(line)


def unfit(rows: dict[str, dict[str, Any]], *, samples: list[SampleInfo]) -> str | None:
    """Why a mean over ``rows`` can't stand beside the others, or None: samples are missing, or settings differ."""
    if not samples:
        return "incomplete: no list of samples of this protocol"
    missing = [info.name for info in samples if info.name not in rows]
    if missing:
        return f"incomplete: {len(samples) - len(missing)} of {len(samples)} samples ({missing[0]} is missing)"
    settings = {json.dumps(row.get("settings"), sort_keys=True) for row in rows.values()}
    return "made with different settings or weights: run again" if len(settings) > 1 else None
