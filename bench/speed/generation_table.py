"""What making a clip costs, as tables: parts by preset, and whole clips beside what is published and aimed at."""

from __future__ import annotations

import json
from statistics import median
from typing import Any

from bench.json_files import PUBLISHED
from bench.results import NOT_RUN
from bench.speed.generation import key_of
from bench.speed.generation_parts import ENCODERS, IMAGE_ENCODER, LITE, PICTURE, TEXT_ENCODER, takes_text
from reducio_codec.generate.config import PRESETS

Rows = list[list[str]]

_ROLES = ("encoder", "picture", "conditions", "transformer", "sampling", "decoder", "whole")
"""In the order of the table."""


def tables(data: dict[str, Any]) -> list[Rows]:
    """For each device its parts, then whole clips of all devices; the first row of each is its head."""
    found = [_parts(data, device) for device in data["machines"]]
    return [*found, _clips(data)]


def words(data: dict[str, Any]) -> str:
    """What it was measured on, and what the columns are."""
    parts = []
    for device, machine in data["machines"].items():
        load = [values[0] for values in data["loads"].get(device, []) if values]
        busy = f"load {min(load):g} to {max(load):g}" if load else "load unknown"
        where = machine["accelerator"] or f"{machine['cpu']}, {machine['threads']} threads"
        versions = machine["versions"]
        parts.append(f"{device}: {where}, {busy}, torch {versions['torch']}, diffusers {versions['diffusers']}")
    named = {
        f"{name} {weights}" for own in data["weights"].values() for name, weights in own.items() if weights != "random"
    }
    weights = ", ".join(sorted(named)) or "none"
    published = _published()
    toy = "Toy networks, no figure to quote. " if data["config"]["tiny"] else ""
    return (
        f"{toy}Medians of up to {data['config']['rounds']} calls; memory in brackets is the peak of a process of its own above "
        f"its weights. {'; '.join(parts)}. Trained weights: {weights}; all others are random. {published['note']} "
        f"An H100 is about {published['a100_to_h100']:g} times as fast as an A100."
    )


def seconds_of(row: dict[str, Any] | None) -> float | None:
    return median(row["seconds"]) if row is not None and row["seconds"] else None


def _parts(data: dict[str, Any], device: str) -> Rows:
    """Parts of the presets on one device; encoders stand with the presets that use them."""
    rows = [row for row in data["rows"].values() if row["device"] == device]
    presets = list(dict.fromkeys(row["subject"] for row in rows if row["subject"] not in ENCODERS))
    names = list(dict.fromkeys((row["part"]["name"], row["batch"]) for row in rows))
    roles = {row["part"]["name"]: _ROLES.index(row["part"]["role"]) for row in rows}
    table = [[f"on {device}", *(f"{preset} ({PRESETS[preset].sample_size} px)" for preset in presets)]]
    for name, batch in sorted(names, key=lambda pair: (roles[pair[0]], pair[1])):
        cells = []
        for preset in presets:
            uses = name not in ENCODERS or takes_text(preset)
            subject = name if name in ENCODERS else preset
            cells.append(_cell(data["rows"].get(key_of(device, subject, name, batch)) if uses else None))
        table.append([name + ("" if batch == 1 else f", batch {batch}"), *cells])
    return table


def _cell(row: dict[str, Any] | None) -> str:
    """``seconds (MB)`` of a row, or why not."""
    if row is None:
        return ""
    seconds = seconds_of(row)
    if seconds is None:
        return NOT_RUN + row.get("why", "no time yet")
    peak = row.get("peak_bytes")
    memory = f" ({peak / 1e6:.0f} MB)" if isinstance(peak, int) else f" ({peak})" if peak else ""
    return f"{seconds:.3g} s{memory}"


def _clips(data: dict[str, Any]) -> Rows:
    """Whole clips: lite as measured, the paper's presets as the sum of their parts."""
    rows: dict[str, dict[str, Any]] = data["rows"]
    table = [["a clip of 16 frames", "device", "seconds", "clips/s", "goal", "published (A100)"]]
    for device in data["machines"]:
        present = {row["subject"] for row in rows.values() if row["device"] == device}
        for preset in PRESETS:
            decoders = () if preset not in present else (LITE, "paper") if takes_text(preset) else (LITE,)
            for decoder in decoders:
                for steps, guidance in data["config"]["samplings"]:
                    for batch in data["config"]["batches"]:
                        name = f"{preset}, {PRESETS[preset].sample_size} px, {steps} steps, guidance {guidance:g}, "
                        name += f"decoder {decoder}" + ("" if batch == 1 else f", batch {batch}")
                        found = _clip(rows, device, preset, decoder, f"{steps} steps, guidance {guidance:g}", batch)
                        cells = [f"{found:.3g}", f"{batch / found:.3g}"] if isinstance(found, float) else [found, ""]
                        where = {
                            "device": device.partition(":")[0],
                            "preset": preset,
                            "steps": steps,
                            "decoder": decoder,
                        }
                        table.append([name, device, *cells, _said("goals", where), ""])
                        if takes_text(preset):
                            table.append(_whole_way(name, found, rows, device, preset, batch, where))
    return table


def _whole_way(
    name: str,
    clip: float | str,
    rows: dict[str, dict[str, Any]],
    device: str,
    preset: str,
    batch: int,
    where: dict[str, Any],
) -> list[str]:
    """Text to video as the paper's table 3 counts it, making the key picture included. Encoders must be measured."""
    total = clip
    for subject, part in ((preset, PICTURE), (TEXT_ENCODER, TEXT_ENCODER), (IMAGE_ENCODER, IMAGE_ENCODER)):
        row = rows.get(key_of(device, subject, part, batch))
        seconds = seconds_of(row)
        if isinstance(total, float) and seconds is None:
            total = NOT_RUN + (row.get("why", "no time yet") if row else f"no {part}")
        elif isinstance(total, float) and seconds is not None and part == PICTURE:  # a clip has its encoders already
            total += seconds
    cells = [f"{total:.3g}", f"{batch / total:.3g}"] if isinstance(total, float) else [total, ""]
    return [f"text to video: {name}", device, *cells, "", _said("anchors", where)]


def _clip(
    rows: dict[str, dict[str, Any]], device: str, preset: str, decoder: str, sampling: str, batch: int
) -> float | str:
    """Seconds for a batch of clips, or why there are none."""
    if not takes_text(preset):
        needed = [(preset, f"whole, {sampling}")]
    else:
        needed = [(preset, part) for part in ("conditions", f"transformer, {sampling}", f"decoder {decoder}")]
        # encoders count where they were measured
        needed += [
            (name, name)
            for name in (TEXT_ENCODER, IMAGE_ENCODER)
            if seconds_of(rows.get(key_of(device, name, name, batch))) is not None
        ]
    total = 0.0
    for subject, part in needed:
        row = rows.get(key_of(device, subject, part, batch))
        seconds = seconds_of(row)
        if seconds is None:
            return NOT_RUN + (row.get("why", "no time yet") if row else f"no {part}")
        total += seconds
    return total


def _said(kind: str, where: dict[str, Any]) -> str:
    """What is published or aimed at for such a clip."""
    for entry in _published()[kind]:
        if all(where[key] == entry[key] for key in where if key in entry):
            rate, seconds = entry.get("videos_per_second"), entry.get("seconds")
            limit = "under " if kind == "goals" else ""
            return ", ".join(([f"{rate:g} clips/s"] if rate else []) + ([f"{limit}{seconds:g} s"] if seconds else []))
    return ""


def _published() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(PUBLISHED.read_text(encoding="utf-8"))["generation"]
    return found
