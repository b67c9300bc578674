"""The paper's ablation tables with this project's small runs beside them, as Markdown."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.ablation import PROTOCOL_NAME, Row, digests, presets, result_path, rows, tables
from bench.json_files import read_json
from bench.markdown import markdown
from bench.results import NOT_RUN
from reducio_codec.metrics.bootstrap import bootstrap

HEAD = [
    "line",
    "published PSNR",
    "SSIM",
    "place",
    "PSNR paper",
    "without key frame",
    "SSIM",
    "place",
    "M parameters",
    "steps",
]


def ablations(results: Path) -> list[str]:
    """Every table that a results folder has rows of."""
    return [
        ablation(results, table)
        for table in tables()
        if any(result_path(results, preset).is_file() for preset in presets([table]))
    ]


def ablation(results: Path, table: str) -> str:
    """One table. Rows of another protocol, other clips or another budget than the first good one are named, not compared."""
    lines = rows(table)
    found = [_state(read_json(result_path(results, row.preset))) for row in lines]
    first = next((data for data in found if isinstance(data, dict)), None)
    states = [_against(data, first) if isinstance(data, dict) and first is not None else data for data in found]
    good = [(row, data) for row, data in zip(lines, states, strict=True) if isinstance(data, dict)]
    ours = {row.preset: _mean(data, "psnr_paper") for row, data in good}
    published = {row.preset: row.psnr for row in lines}
    body = [HEAD]
    for row, data in zip(lines, states, strict=True):
        told = [row.line, f"{row.psnr:.2f}", "-" if row.ssim is None else f"{row.ssim:.2f}", _place(published, row)]
        if isinstance(data, str):
            body.append([*told, data, "", "", "", "", ""])
            continue
        values = [_interval(data, "psnr_paper"), _interval(data, "psnr_pooled_without_keyframe"), _ssim(data)]
        body.append([*told, *values, _place(ours, row), f"{data['parameters'] / 1e6:.1f}", str(data["steps"])])
    text = [f"### Ablation: table {table} of the paper ({PROTOCOL_NAME})"]
    if first is not None:
        text.append(_words(first))
    text.append(markdown(body))
    text.append(_tau([(row.psnr, ours[row.preset]) for row, _ in good], of=len(lines)))
    return "\n\n".join(text)


def kendall_tau(pairs: Sequence[tuple[float, float]]) -> float:
    """Agreement of two orders (tau-b): 1 the same, -1 the opposite."""
    stats: Any = importlib.import_module("scipy.stats")
    return float(stats.kendalltau(*zip(*pairs, strict=True)).statistic)


def _state(data: dict[str, Any] | None) -> dict[str, Any] | str:
    if data is None:
        return NOT_RUN + "no result yet"
    name = data.get("protocol", {}).get("name")
    if name != PROTOCOL_NAME:
        return f"{NOT_RUN}its result has protocol {name}; this is {PROTOCOL_NAME}"
    return data if "clips" in data else NOT_RUN + str(data.get("not_run", "no clips"))


def _against(data: dict[str, Any], first: dict[str, Any]) -> dict[str, Any] | str:
    if digests(data) != digests(first) or data["protocol"] != first["protocol"]:
        return NOT_RUN + "its result is from other clips; run it again"
    budgets = [_budget(one["settings"]) for one in (data, first)]
    return data if budgets[0] == budgets[1] else NOT_RUN + "its result is from another budget; run it again"


def _budget(settings: dict[str, Any]) -> dict[str, Any]:
    """Everything but the model."""
    recipe = {key: value for key, value in settings["recipe"].items() if key != "model"}
    return {**settings, "recipe": recipe}


def _words(data: dict[str, Any]) -> str:
    protocol, clips = data["protocol"], data["clips"]
    videos = {clip["video"] for clip in clips.values()}
    copied = sum(clip["repeat_keyframe"]["psnr_paper"] for clip in clips.values()) / len(clips)
    run = data["settings"]["recipe"]["run"]
    budget = f"{run['steps']} steps" if run["steps"] else f"{run['minutes']:g} minutes"
    return (
        f"{budget} of training a row on the same machine (steps say how far each got), {len(clips)} clips of "
        f"{protocol['frames']}x{protocol['size']}x{protocol['size']} from {len(videos)} videos; [95% interval]. Repeating "
        f"the key frame: {copied:.2f} dB by the paper's definition. The published numbers are of the full-size models after "
        "a million iterations at 256 px: only the order can be compared."
    )


def _tau(pairs: Sequence[tuple[float, float]], *, of: int) -> str:
    if len(pairs) < 2:
        return f"Kendall's tau of the order by PSNR: {NOT_RUN}needs two rows, there are {len(pairs)}"
    return f"Kendall's tau of the order by PSNR, published against ours: {kendall_tau(pairs):+.2f} ({len(pairs)} of {of} rows)"


def _place(values: dict[str, float], row: Row) -> str:
    return str(1 + sum(value > values[row.preset] for value in values.values()))


def _values(data: dict[str, Any], metric: str) -> list[Any]:
    return [clip["metrics"][metric] for clip in data["clips"].values()]


def _mean(data: dict[str, Any], metric: str) -> float:
    values = _values(data, metric)
    return float(sum(values) / len(values))


def _interval(data: dict[str, Any], metric: str) -> str:
    groups = [clip["video"] for clip in data["clips"].values()]
    found = bootstrap(_values(data, metric), groups=groups)
    return f"{found.value:.2f}" if len(set(groups)) < 2 else f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _ssim(data: dict[str, Any]) -> str:
    reason = next((value for value in _values(data, "ssim") if isinstance(value, str)), None)
    return reason or f"{_mean(data, 'ssim'):.3f}"
