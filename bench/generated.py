"""Clips of a generator as a table: its settings beside each other (``python -m reducio_codec.generate.evaluate``)."""

from __future__ import annotations

from typing import Any

Rows = list[list[str]]

_OTHERS = {
    "codec": "the real clips as the codec shows them",
    "keyframe_repeated": "the key frame repeated",
}


def table(data: dict[str, Any]) -> Rows:
    """A row a setting, then what stands beside them. Older files have one setting, and no times."""
    rows = [["", "seconds a clip", "motion over real", "drift", "absolute", "key frame, least PSNR", "distance to real",
             "over the first"]]  # fmt: skip
    for entry in data.get("settings") or [{**data, **data["generated"]}]:
        rows.append(_row(_title(entry), entry))
    rows += [_row(title, data[name]) for name, title in _OTHERS.items()]
    halves = data["real"].get("frechet_between_halves")
    if halves is not None:
        rows.append(["one half of the real clips against the other", *[""] * 5, f"{halves:.2f}", ""])
    return rows


def words(data: dict[str, Any]) -> str:
    """What was measured."""
    versions = data.get("environment")
    machine = f" Medians with {versions['threads']} threads, torch {versions['versions']['torch']}." if versions else ""
    return (
        f"{data['clips']} clips of {data['side']} px, each made from a real one's key frame. Motion is the flow's mean length "
        f"over the real clips' {data['real']['motion_px']:.2f} px; drift is in grey levels of 255, its mean and its mean "
        f"absolute; the distance is Frechet's on {data['features']['name']}.{machine}"
    )


def _row(title: str, entry: dict[str, Any]) -> list[str]:
    seconds, distance, over = (entry.get(name) for name in ("seconds_per_clip", "frechet", "frechet_over_first"))
    return [
        title,
        "" if seconds is None else f"{seconds:.3g}",
        f"{entry['motion_over_real']:.2f}",
        f"{entry['brightness_drift_mean']:+.2f}",
        f"{entry['brightness_drift_abs']:.2f}",
        f"{entry['keyframe_psnr_least']:.1f} dB",
        "" if distance is None else f"{distance:.2f}",
        "" if over is None else f"{over:.2f}",
    ]


def _title(entry: dict[str, Any]) -> str:
    steps = entry["steps"]
    title = f"{entry['model']}, {steps} step{'s' if steps > 1 else ''}"
    if "distilled_guidance" in entry:
        title += f", guidance {entry['distilled_guidance']:g} inside"
    else:
        title += f", guidance {entry['guidance']:g}"
    if "motion" in entry:
        title += f", motion {entry['motion']:g} for all"
    blocks = entry["cache_blocks"]
    return title + (f", {blocks} block{'s' if blocks > 1 else ''} at every second step only" if blocks else "")
