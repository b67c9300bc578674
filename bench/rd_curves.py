"""Rate-distortion results as curves: read, checked, reduced to hulls, compared."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.protocol import Protocol, Unit
from bench.rd import protocol
from bench.results import NOT_RUN, ResultStore, SampleInfo, unfit
from reducio_codec.metrics.bd_rate import Method as Interpolation
from reducio_codec.metrics.bd_rate import bd_rate, convex_hull, quality_at

ANCHOR = "x264-long"
RATES = (0.008, 0.012, 0.02, 0.03, 0.05)

BD_METRICS = {
    "psnr_pooled": "PSNR pooled",
    "psnr_pooled_without_keyframe": "PSNR without key frame",
    "ms_ssim": "MS-SSIM",
    "lpips": "LPIPS",
    "vmaf_neg": "VMAF-NEG",
    "xpsnr": "XPSNR",
}

NOT_ASKED = NOT_RUN + "not asked for"
"""Of a metric that a result was made without."""

Points = dict[str, dict[str, dict[str, Any]]]
"""Point, sample, result."""


def range_rates() -> tuple[float, float]:
    """The rates that this project's goals are set for."""
    return 0.012, 0.05


@dataclass
class RdData:
    """Complete methods by name; the others with the reason."""

    protocol: Protocol
    samples: list[SampleInfo]
    methods: dict[str, Points]
    left_out: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def is_ours(self, name: str) -> bool:
        row = next(iter(next(iter(self.methods[name].values())).values()))
        return "latent_step" in row["settings"]

    def bd_metrics(self) -> dict[str, str]:
        """Those of BD_METRICS that any result was asked for."""
        rows = [row for points in self.methods.values() for found in points.values() for row in found.values()]
        return {name: title for name, title in BD_METRICS.items() if any(name in row["metrics"] for row in rows)}

    def video_of(self, sample: str) -> str:
        return next(info.video for info in self.samples if info.name == sample)

    def curve(self, name: str, sample: str, metric: str) -> list[tuple[float, float]] | str:
        """Hull of (bpp, quality) of one sample, or why there is none."""
        points = []
        for rows in self.methods[name].values():
            value = rows[sample]["metrics"].get(metric, NOT_ASKED)
            if isinstance(value, str):
                return value
            points.append((float(rows[sample]["bpp"]), to_scale(metric, value)))
        return convex_hull(points)

    def mean_points(self, name: str, metric: str) -> list[tuple[float, float]] | str:
        """(bpp, quality) of each point, both averaged over samples."""
        points = []
        for rows in self.methods[name].values():
            values = [row["metrics"].get(metric, NOT_ASKED) for row in rows.values()]
            reason = next((value for value in values if isinstance(value, str)), None)
            if reason is not None:
                return reason
            quality = np.mean([to_scale(metric, value) for value in values])
            points.append((float(np.mean([row["bpp"] for row in rows.values()])), float(quality)))
        return points

    def quality_cell(self, name: str, metric: str, rate: float) -> str:
        """Best quality for at most ``rate``, mean over the samples that get by with so little, and their number."""
        found = []
        for info in self.samples:
            curve = self.curve(name, info.name, metric)
            if isinstance(curve, str):
                return curve
            if curve[0][0] <= rate:
                most = curve[-1]  # whoever can't use more bits has this quality at every higher rate, too
                found.append(most[1] if rate >= most[0] else quality_at(curve, rate))
        if not found:
            return "-"
        mean = float(np.mean(found))
        return f"{-mean:.3f} ({len(found)})" if metric == "lpips" else f"{mean:.2f} ({len(found)})"


def to_scale(metric: str, value: float) -> float:
    """Quality that grows, on a scale where curves are smooth: MS-SSIM in dB, LPIPS negated."""
    if metric == "ms_ssim":
        return -10 * math.log10(max(1 - value, 1e-6))
    return -value if metric == "lpips" else value


def read_rd(results: Path) -> RdData:
    """All methods of a results folder; the unit is that of its latest run."""
    kind = protocol(_unit(results))
    store = ResultStore(folder=results, protocol=kind)
    samples = store.samples()
    data = RdData(protocol=kind, samples=samples, methods={}, skipped=store.skipped(), problems=store.problems)
    for name in store.methods():
        method = store.load(name)
        if method.why_not is not None:
            data.left_out[name] = f"not run: {method.why_not}"
            continue
        reasons = {point: unfit(rows, samples=samples) for point, rows in method.points.items()}
        complete = {point: rows for point, rows in method.points.items() if reasons[point] is None}
        broken = [f"{point} {reason}" for point, reason in reasons.items() if reason is not None]
        if broken:  # a hull over the points that happen to be there would be another codec
            data.left_out[name] = "; ".join(broken[:3]) + ("; ..." if len(broken) > 3 else "")
        elif complete:
            data.methods[name] = complete
    return data


def bd_rates(
    data: RdData,
    *,
    test: str,
    anchor: str,
    metric: str,
    rate_range: tuple[float, float] | None = None,
    method: Interpolation = "pchip",
) -> dict[str, float] | str:
    """BD-rate of each sample that has common qualities, or why there is none."""
    found = {}
    for info in data.samples:
        curves = [data.curve(name, info.name, metric) for name in (anchor, test)]
        for curve in curves:
            if isinstance(curve, str):
                return curve
        first, second = curves
        if len(first) < 2 or len(second) < 2:
            continue
        value = bd_rate(first, second, rate_range=rate_range, method=method)  # type: ignore[arg-type]
        if value is not None:
            found[info.name] = value
    return found


def _unit(results: Path) -> Unit:
    path = results / "rd" / "samples.json"
    try:
        unit = json.loads(path.read_text(encoding="utf-8"))["protocol"]["unit"]
    except (OSError, ValueError, KeyError, TypeError):
        return "video"
    return "clip" if unit == "clip" else "video"
