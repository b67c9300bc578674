"""``bench run ablation``: the rows of the paper's tables as small runs of equal length, measured on the same clips.

A row is the recipe ``ablation`` with what the row changes in the paper's model, one of ``reducio_codec.models.reducio.presets``.
Its run lives in a folder of its own: a run that was cut off goes on from its checkpoint, and a model that is measured is
skipped, in every table that has it. ``results/ablation/PRESET.json`` has everything of a model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from rich.console import Console

from bench.codecs.floors import repeat_keyframe
from bench.codecs.ours import Tensors
from bench.json_files import PUBLISHED, read_json, write_json
from bench.machine import describe
from bench.protocol import Protocol, Sample, SampleSet
from bench.quality import Quality
from reducio_codec.codec import ReducioCodec
from reducio_codec.config import ReducioConfig
from reducio_codec.errors import InputError, ReducioError
from reducio_codec.models.reducio.presets import PRESETS
from reducio_codec.train.recipe import Recipe, read_recipe, to_document
from reducio_codec.train.task import TrainReport, train

PROTOCOL_NAME = "ablation/1"
RECIPE = "ablation"

Trainer = Callable[..., TrainReport]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of a table: a model of the paper, and what the paper printed for it."""

    preset: str
    line: str
    psnr: float
    ssim: float | None = None


def tables() -> list[str]:
    """Tables that have rows, as text."""
    return list(_published())


def rows(table: str) -> list[Row]:
    return [Row(**row) for row in _published()[table]]


def _published() -> dict[str, list[dict[str, Any]]]:
    ablations: dict[str, list[dict[str, Any]]] = json.loads(PUBLISHED.read_text(encoding="utf-8"))["ablations"]
    return ablations


def presets(tables: Sequence[str]) -> list[str]:
    """Models of the tables' rows, each once: the paper's own is in most tables."""
    return list(dict.fromkeys(row.preset for table in tables for row in rows(table)))


def recipe_of(preset: str, *, minutes: float = 0.0, steps: int = 0) -> Recipe:
    """The recipe for one model and a budget of minutes or steps.

    Raises:
        InputError: the model can't be built so small, or there isn't exactly one budget.
    """
    recipe = read_recipe(RECIPE, changes=[f"run.minutes={float(minutes)}", f"run.steps={steps}"])
    small = cast(ReducioConfig, recipe.model)  # the recipe is one of the paper's model
    paper, wanted = ReducioConfig(), PRESETS[preset].config
    changes = {field.name: getattr(wanted, field.name) for field in fields(wanted)}
    changes = {name: value for name, value in changes.items() if value != getattr(paper, name)}
    levels, widths = len(wanted.channel_multipliers), small.channel_multipliers
    changes["channel_multipliers"] = (widths + widths[-1:] * levels)[:levels]
    return replace(recipe, model=replace(small, **changes))


@dataclass(kw_only=True)
class Ablation:
    """Models, trained and measured one after another."""

    presets: Sequence[str]
    data: Path
    val: Path
    results: Path
    runs: Path
    """Where the training runs live: a folder for each model, and one with the decoded videos."""
    minutes: float = 0.0
    """Of training for each model, over all resumes."""
    steps: int = 0
    """The same in steps: instead of minutes."""
    quality: Quality
    console: Console
    limit: int | None = None
    """Only the first so many videos of ``val``."""
    train: Trainer = train

    def run(self) -> tuple[list[str], int | None]:
        """Lines of the failures, and the number of the signal that ended a model's run early, if one did."""
        side = read_recipe(RECIPE).validation.side
        protocol = Protocol(name=PROTOCOL_NAME, unit="clip", size=side)
        clips = SampleSet(folder=self.val, protocol=protocol, limit=self.limit)
        samples = list(clips)
        for name, why in clips.skipped.items():
            self.console.print(f"skipped {name}: {why}", markup=False, style="yellow")
        if not samples:
            raise InputError(f"{self.val} has no usable video")
        failures = []
        for preset in self.presets:
            try:
                stopped = self._model(preset, protocol=protocol, samples=samples)
            except (ReducioError, RuntimeError) as error:
                failures.append(f"{preset}: {error}")
                old = read_json(result_path(self.results, preset))
                if old is None or "clips" not in old:  # an earlier result stays
                    self._write(preset, {"not_run": str(error)}, protocol=protocol)
                self.console.print(f"{preset}: not run: {error}", markup=False, style="red")
                continue
            if stopped is not None:
                return failures, stopped
        return failures, None

    def _model(self, preset: str, *, protocol: Protocol, samples: Sequence[Sample]) -> int | None:
        recipe = recipe_of(preset, minutes=self.minutes, steps=self.steps)
        settings = {"recipe": to_document(recipe), "training_data": self.data.name}
        old = read_json(result_path(self.results, preset))
        if old is not None and _same(old, protocol=protocol, settings=settings, samples=samples):
            self.console.print(f"{preset}: finished", markup=False)
            return None
        budget = f"{self.steps} steps" if self.steps else f"{self.minutes:g} minutes"
        self.console.print(f"{preset}: training for {budget} in all", markup=False)
        report = self.train(recipe, data=self.data, val=None, out=self.runs / preset, cache=self.runs / "cache")
        if report.model is None:
            return report.stopped_by
        codec = ReducioCodec.from_pretrained(report.model)
        method = Tensors(codec=codec, decoder=codec.model.default_decoder)
        found = {
            "settings": settings,
            "steps": report.step,
            "minutes": round(report.minutes, 2),
            "parameters": sum(p.numel() for p in codec.model.parameters()),  # type: ignore[attr-defined]
            "metric_settings": self.quality.describe(),
            "clips": {sample.name: self._clip(method, sample) for sample in samples},
            "seed": recipe.run.seed,
            "machine": describe(),
        }
        self._write(preset, found, protocol=protocol)
        mean = np.mean([clip["metrics"]["psnr_paper"] for clip in found["clips"].values()])
        self.console.print(f"{preset}: {mean:.2f} dB after {report.step} steps", markup=False)
        return None

    def _clip(self, method: Tensors, sample: Sample) -> dict[str, Any]:
        return {
            "video": sample.video,
            "frames": len(sample.pixels),
            "digest": sample.digest,
            "metrics": self.quality.measure(sample.pixels, method(sample.pixels).frames),
            "repeat_keyframe": self.quality.measure(sample.pixels, repeat_keyframe(sample.pixels).frames),
        }

    def _write(self, preset: str, data: dict[str, Any], *, protocol: Protocol) -> None:
        write_json(result_path(self.results, preset), {"protocol": protocol.to_json(), "preset": preset, **data})


def result_path(results: Path, preset: str) -> Path:
    return results / "ablation" / f"{preset}.json"


def digests(data: dict[str, Any]) -> dict[str, str]:
    """Which pixels a model was measured on."""
    return {name: clip["digest"] for name, clip in data.get("clips", {}).items()}


def _same(old: dict[str, Any], *, protocol: Protocol, settings: dict[str, Any], samples: Sequence[Sample]) -> bool:
    plain = json.loads(json.dumps(settings))
    fits = (old.get("protocol"), old.get("settings")) == (protocol.to_json(), plain)
    return fits and digests(old) == {sample.name: sample.digest for sample in samples}
