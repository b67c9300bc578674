"""What VBench measured, as the columns of the paper's table 15: 16 dimensions, and quality, semantic and total of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reducio_codec.errors import InputError

PATTERN = "*_eval_results.json"
"""Files that ``vbench evaluate`` writes, one for each call."""


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """How VBench counts one of its measures: over its published range, with a weight among those of its kind."""

    semantic: bool = False
    low: float = 0.0
    high: float = 1.0
    weight: float = 1.0


DIMENSIONS: dict[str, Dimension] = {
    "subject_consistency": Dimension(low=0.1462),
    "background_consistency": Dimension(low=0.2615),
    "temporal_flickering": Dimension(low=0.6293),
    "motion_smoothness": Dimension(low=0.706, high=0.9975),
    "dynamic_degree": Dimension(weight=0.5),
    "aesthetic_quality": Dimension(),
    "imaging_quality": Dimension(),
    "object_class": Dimension(semantic=True),
    "multiple_objects": Dimension(semantic=True),
    "human_action": Dimension(semantic=True),
    "color": Dimension(semantic=True),
    "spatial_relationship": Dimension(semantic=True),
    "scene": Dimension(semantic=True, high=0.8222),
    "appearance_style": Dimension(semantic=True, low=0.0009, high=0.2855),
    "temporal_style": Dimension(semantic=True, high=0.364),
    "overall_consistency": Dimension(semantic=True, high=0.364),
}
"""In VBench's order."""

_QUALITY_SHARE = 4 / 5


def read_scores(sources: Sequence[Path]) -> dict[str, float]:
    """Measures 0 to 1 by dimension, from files of VBench or folders that hold them.

    Raises:
        InputError: no such file, one of another layout, a dimension that is unknown or told twice, or a value out of range.
    """
    found: dict[str, float] = {}
    for path in _files(sources):
        for name, value in _read(path).items():
            if name not in DIMENSIONS:
                raise InputError(f"{path} has {name!r}; VBench's dimensions are {', '.join(DIMENSIONS)}")
            if not 0 <= value <= 1:
                raise InputError(f"{path}: {name} is {value:g}; it must be in 0 to 1 (divide percents by 100)")
            if name in found and found[name] != value:
                raise InputError(f"{path} has another {name} than a file before it: {value:g}, not {found[name]:g}")
            found[name] = value
    return found


def totals(scores: dict[str, float]) -> dict[str, float]:
    """Quality, semantic and total in percent, as VBench adds them up; each only where all that it needs is measured."""
    found: dict[str, float] = {}
    for kind, semantic in (("quality", False), ("semantic", True)):
        names = [name for name, dimension in DIMENSIONS.items() if dimension.semantic == semantic]
        if all(name in scores for name in names):
            weights = [DIMENSIONS[name].weight for name in names]
            parts = [_over_range(name, scores[name]) for name in names]
            found[kind] = 100 * sum(w * part for w, part in zip(weights, parts, strict=True)) / sum(weights)
    if len(found) == 2:
        found["total"] = _QUALITY_SHARE * found["quality"] + (1 - _QUALITY_SHARE) * found["semantic"]
    return found


def columns(scores: dict[str, float]) -> dict[str, float | None]:
    """A row of table 15: total, quality, semantic, then the dimensions, in percent; None where it isn't measured."""
    sums = totals(scores)
    whole: dict[str, float | None] = {name: sums.get(name) for name in ("total", "quality", "semantic")}
    whole |= {name: 100 * scores[name] if name in scores else None for name in DIMENSIONS}
    return {name: None if value is None else round(value, 2) for name, value in whole.items()}


def _over_range(name: str, value: float) -> float:
    dimension = DIMENSIONS[name]
    return (value - dimension.low) / (dimension.high - dimension.low)


def _files(sources: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for source in sources:
        files = sorted(source.glob(PATTERN)) if source.is_dir() else [source]
        if not files:
            raise InputError(f"{source} has no file {PATTERN}, which is what 'vbench evaluate' writes")
        found += files
    return found


def _read(path: Path) -> dict[str, float]:
    """``{"scene": [0.5, [...]], ...}``."""
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read: {error}") from error
    try:
        return {str(name): float(entry[0]) for name, entry in document.items()}
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} isn't a result of VBench (an object from a dimension to its value and those of the videos)"
        ) from error
