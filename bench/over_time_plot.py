"""Quality over time as one picture (matplotlib, extra ``[bench]``): a line a result file, PSNR above LPIPS."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from bench.json_files import read_json
from bench.over_time import PROTOCOL
from bench.plots import COLOURS, MARKERS
from reducio_codec.errors import MissingDependencyError

NAME = "over-time"


def read_over_time(results: Path) -> dict[str, dict[str, Any]]:
    """The result files of a folder that are of this kind, by name."""
    found = {path.stem: read_json(path, protocol=PROTOCOL) for path in sorted(results.glob("*.json"))}
    return {name: data for name, data in found.items() if data is not None}


def plot_over_time(results: dict[str, dict[str, Any]], folder: Path) -> list[Path]:
    """``over-time.svg`` and ``.png``; nothing without results."""
    if not results:
        return []
    try:
        matplotlib = importlib.import_module("matplotlib")
    except ImportError as error:
        raise MissingDependencyError("plots need matplotlib: pip install 'reducio-codec[bench]'") from error
    matplotlib.use("Agg")
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    figure, (above, below) = pyplot.subplots(2, 1, figsize=(5, 5), layout="constrained", sharex=True)
    for number, (name, data) in enumerate(results.items()):
        rows = data["distances"]
        places = [row["distance"] for row in rows]
        style = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)], "markersize": 4}
        above.plot(places, [row["psnr"] for row in rows], label=f"{name}, {data['bpp']:.4f} bpp", **style)
        below.plot(places, [row["lpips"] for row in rows], **style)
    above.set_ylabel("PSNR, dB")
    below.set_ylabel("LPIPS (less is better)")
    below.set_xlabel("frames from the key frame")
    above.set_title("quality over time, mean over frames", fontsize=10)
    for axes in (above, below):
        axes.grid(alpha=0.3)
    above.legend(fontsize=8)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for suffix in ("svg", "png"):
        path = folder / f"{NAME}.{suffix}"
        figure.savefig(path, dpi=150)
        written.append(path)
    pyplot.close(figure)
    return written
