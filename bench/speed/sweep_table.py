"""Sweeps as tables: frames a second and peak memory of everything at each point, and what they were measured on."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from bench.results import NOT_RUN


def words(data: dict[str, Any]) -> str:
    """One line on the machine, its load and the versions."""
    machine, config = data["machine"], data["config"]
    versions = machine["versions"]
    load = [values[0] for values in data["loads"] if values]
    busy = f"load {min(load):g} to {max(load):g}" if load else "load unknown"
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {config['base']['threads'] or machine['threads']} threads, {busy}; "
        f"torch {versions['torch']}, diffusers {versions['diffusers']}, PyAV {versions['av']} "
        f"(libavcodec {machine['ffmpeg']['libavcodec']}); medians of {config['rounds']} rounds; weights: "
        + "; ".join(f"{name}: {weights}" for name, weights in data["weights"].items())
    )


def cell_text(row: dict[str, Any] | None) -> str:
    """``frames/s (MB)`` of a row, or why not."""
    if row is None:
        return ""
    if "why" in row or not row["seconds"]:
        return NOT_RUN + row.get("why", "no time yet")
    rate = row["frames"] / median(row["seconds"])
    peak = row.get("peak_bytes")
    memory = f" ({peak / 1e6:.0f} MB)" if isinstance(peak, int) else f" ({peak})" if peak else ""
    number = f"{rate:.3g}" if rate < 999.5 else f"{rate:.0f}"  # no exponent
    return f"{number}{memory}"


def axis_table(data: dict[str, Any], axis: str) -> list[list[str]]:
    """Head and rows of one axis: frames a second, and peak memory above what the process held before."""
    rows: Sequence[dict[str, Any]] = [row for row in data["rows"].values() if row["axis"] == axis]
    values = data["config"]["values"][axis]
    found = {(row["subject"], row["operation"], row["value"]): row for row in rows}
    names = list(dict.fromkeys((row["subject"], row["operation"]) for row in rows))
    body = [[f"{name}, {operation}", *(cell_text(found.get((name, operation, value))) for value in values)]
            for name, operation in names]  # fmt: skip
    return [[axis, *values], *body]
