"""Results on disk: one JSON a method, point and sample. What is finished is not measured again.

``results/KIND/METHOD/POINT/SAMPLE.json``, and ``results/KIND/samples.json`` with the samples of the latest run.
A method that couldn't run has ``results/KIND/METHOD/not-run.json`` with the reason. Nothing that doesn't fit (an older
protocol, other pixels, a damaged file) is read as if it did: it is named in ``problems`` and left out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.protocol import Protocol, Sample, SampleSet
from reducio_codec.errors import InputError
from reducio_codec.io.files import atomic_write

FORMAT = 1
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
    points: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)


@dataclass
class ResultStore:
    """Results of one kind (``reconstruction`` or ``rd``) under one protocol."""

    folder: Path
    protocol: Protocol
    problems: list[str] = field(default_factory=list)
    """Files that were left out and why."""

    @property
    def kind(self) -> str:
        return self.protocol.name.split("/")[0]

    @property
    def root(self) -> Path:
        return self.folder / self.kind

    def path(self, method: str, point: str, sample: str) -> Path:
        return self.root / method / point / f"{sample}.json"

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
        data = self._read(self.root / "samples.json")
        return [SampleInfo(**row) for row in data["samples"]] if data else []

    def skipped(self) -> dict[str, str]:
        """Videos that the latest run couldn't use, and why."""
        data = self._read(self.root / "samples.json")
        return dict(data["skipped"]) if data else {}

    # ------------------------------------------------------------------ results

    def read(self, method: str, point: str, sample: SampleInfo) -> dict[str, Any] | None:
        """A finished result of this very sample, or None."""
        path = self.path(method, point, sample.name)
        data = self._read(path)
        if data is None:
            return None
        if (data["frames"], data["digest"]) != (sample.frames, sample.digest):
            self._problem(
                path, f"{data['frames']} frames, digest {data['digest']}; wanted {sample.frames}, {sample.digest}"
            )
            return None
        return data

    def write(self, method: str, point: str, sample: SampleInfo, data: dict[str, Any]) -> None:
        """Add what every result has, and write it under a temporary name first."""
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
        write_json(self.path(method, point, sample.name), result)
        (self.root / method / "not-run.json").unlink(missing_ok=True)

    def write_not_run(self, method: str, why: str) -> None:
        """Say why a method gave nothing, unless it has results of an earlier run."""
        if not self.points(method):
            write_json(self.root / method / "not-run.json", {"protocol": self.protocol.to_json(), "why": why})

    def methods(self) -> list[str]:
        """Names of all methods with anything on disk."""
        return sorted(path.name for path in self.root.iterdir() if path.is_dir()) if self.root.is_dir() else []

    def points(self, method: str) -> list[str]:
        folder = self.root / method
        return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []

    def load(self, method: str) -> Method:
        """Everything of one method that belongs to the current samples."""
        samples = self.samples()
        known = {info.name for info in samples}
        result = Method(name=method)
        for point in self.points(method):
            stored = {path.stem for path in (self.root / method / point).glob("*.json")}
            if stored - known:
                self.problems.append(f"{method}/{point}: {len(stored - known)} samples aren't in the latest run's set")
            rows = {info.name: self.read(method, point, info) for info in samples if info.name in stored}
            result.points[point] = {name: row for name, row in rows.items() if row is not None}
        marker = self._read(self.root / method / "not-run.json")
        if marker is not None and not any(result.points.values()):
            result.why_not = str(marker["why"])
        return result

    def _read(self, path: Path) -> dict[str, Any] | None:
        if not path.is_file():
            return None
        try:
            data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            found = data["protocol"]
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            self._problem(path, f"can't be read ({type(error).__name__})")
            return None
        if found != self.protocol.to_json():
            name = found.get("name") if isinstance(found, dict) else found
            differs = f"protocol {name}" if name != self.protocol.name else f"protocol {name} with other settings"
            self._problem(path, f"{differs}; this is {self.protocol.name}, unit {self.protocol.unit}")
            return None
        return data

    def _problem(self, path: Path, text: str) -> None:
        line = f"{path.relative_to(self.root)}: {text}"
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


def write_json(path: Path, data: dict[str, Any]) -> None:
    """A killed run leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write((json.dumps(data, ensure_ascii=False, allow_nan=False) + "\n").encode())
