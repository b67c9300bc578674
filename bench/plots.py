"""Rate-distortion curves as pictures (matplotlib, extra ``[bench]``)."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from bench.rd_curves import RdData
from reducio_codec.errors import InputError, MissingDependencyError
from reducio_codec.metrics.bd_rate import convex_hull

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
"""Okabe and Ito's: told apart by colour-blind readers."""

MARKERS = "osD^vPX*"

AXES = {
    "psnr_pooled": "PSNR pooled, dB",
    "psnr_pooled_without_keyframe": "PSNR without key frame, dB",
    "ssim": "SSIM",
    "ms_ssim": "MS-SSIM, dB",
    "lpips": "-LPIPS",
    "vmaf_neg": "VMAF-NEG",
    "xpsnr": "XPSNR, dB",
}


def plot(data: RdData, folder: Path) -> list[Path]:
    """One SVG and PNG a metric: means over samples; ours as its grid of points and their convex hull."""
    if not data.methods:
        raise InputError("no method has results for every sample, so there is nothing to draw")
    try:
        matplotlib = importlib.import_module("matplotlib")
    except ImportError as error:
        raise MissingDependencyError("plots need matplotlib: pip install 'reducio-codec[bench]'") from error
    matplotlib.use("Agg")
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    ticker: Any = importlib.import_module("matplotlib.ticker")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for metric, label in AXES.items():
        curves = {name: data.mean_points(name, metric) for name in data.methods}
        shown = {name: points for name, points in curves.items() if not isinstance(points, str)}
        if not shown:
            continue
        figure, axes = pyplot.subplots(figsize=(5, 4), layout="constrained")
        families = sorted({_family(name) for name in shown})
        for name, points in shown.items():
            number = families.index(_family(name)) % len(COLOURS)
            _draw(axes, name, points, ours=data.is_ours(name), colour=COLOURS[number], marker=MARKERS[number])
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        axes.xaxis.set_minor_formatter(ticker.NullFormatter())
        axes.set_xlabel("bits per pixel (all bytes)")
        axes.set_ylabel(label)
        axes.set_title(f"mean over {len(data.samples)} samples, {data.protocol.size} px", fontsize=10)
        axes.grid(alpha=0.3, which="both")
        axes.legend(fontsize=8)
        for suffix in ("svg", "png"):
            path = folder / f"rd-{metric}.{suffix}"
            figure.savefig(path, dpi=150)
            written.append(path)
        pyplot.close(figure)
    return written


def _draw(axes: Any, name: str, points: list[tuple[float, float]], *, ours: bool, colour: str, marker: str) -> None:
    line = convex_hull(points) if ours else sorted(points)
    style = "--" if name.endswith("-long") else "-"
    axes.plot(*zip(*line, strict=True), style, color=colour, marker=marker, markersize=4, label=name,
              linewidth=2.2 if ours else 1.2)  # fmt: skip
    if ours:
        axes.scatter(*zip(*points, strict=True), color=colour, s=8, alpha=0.4)


def _family(name: str) -> str:
    return name.removesuffix("-gop16").removesuffix("-long")
