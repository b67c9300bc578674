"""Single result files as tables: quality of a model (``evaluate`` of ``train`` and ``generate``), and ``bench speed``."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from bench.commands import PROTOCOL as COMMANDS
from bench.commands import table as commands_table
from bench.commands import words as commands_words
from bench.cuts import PROTOCOL as CUTS
from bench.cuts import table as cuts_table
from bench.cuts import words as cuts_words
from bench.generated import table as generated_table
from bench.generated import words as generated_words
from bench.over_time import PROTOCOL as OVER_TIME
from bench.over_time import table as over_time_table
from bench.over_time import words as over_time_words
from bench.recipe_trials import PROTOCOL as TRIALS
from bench.reference_bounds import PROTOCOL as BOUNDS
from bench.roundtrips import PROTOCOL as ROUNDTRIPS
from bench.sparse_keyframes import PROTOCOL as SPARSE
from bench.speed.generation import PROTOCOL as GENERATION
from bench.speed.generation_table import tables as generation_tables
from bench.speed.generation_table import words as generation_words
from bench.speed.sweep_table import axis_table
from bench.speed.sweep_table import words as sweep_words
from bench.speed.sweeps import PROTOCOL as SWEEPS
from bench.tile_sizes import PROTOCOL as TILES
from bench.tile_sizes import tile_table, tile_words
from reducio_codec.config import CLIP_LENGTH
from reducio_codec.errors import InputError

Rows = list[list[str]]
"""Cells, the first row is the head."""

GROUPS = {"all": "all", "hard": "most motion", "middle": "middle", "easy": "least motion"}


def read(path: Path) -> dict[str, Any]:
    """A result file. InputError if it isn't there or isn't JSON."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read: {error}") from error
    if not isinstance(data, dict):
        raise InputError(f"{path} holds no JSON object")
    return data


def summary(path: Path) -> tuple[str, list[Rows]]:
    """What the file measured, in words, and its tables. InputError if it is of no format that is known here."""
    data = read(path)
    try:
        if data.get("protocol") == "speed/1":
            return _speed_words(data), [speed(data)]
        if data.get("protocol") == SWEEPS:
            return sweep_words(data), [axis_table(data, axis) for axis in data["config"]["values"]]
        if data.get("protocol") == GENERATION:
            return generation_words(data), generation_tables(data)
        if data.get("protocol") == ROUNDTRIPS:
            return f"Roundtrips with model {data['model']}, defaults; PSNR in dB.", [roundtrips(data)]
        if data.get("protocol") == SPARSE:
            return _sparse_words(data), [sparse_keyframes(data)]
        if data.get("protocol") == BOUNDS:
            return _bounds_words(data), [bounds(data)]
        if data.get("protocol") == OVER_TIME:
            return over_time_words(data), [over_time_table(data)]
        if data.get("protocol") == COMMANDS:
            return commands_words(data), [commands_table(data)]
        if data.get("protocol") == CUTS:
            return cuts_words(data), [cuts_table(data)]
        if data.get("protocol") == TILES:
            return tile_words(data), [tile_table(data)]
        if data.get("protocol") == TRIALS:
            return _trials_words(data), [trials(data)]
        if "protocol" not in data and "joins" in data:
            return _references_words(data), [references(data)]
        if "protocol" not in data and "psnr" in data:
            return _quality_words(data), [quality(data)]
        if "protocol" not in data and "keyframe_repeated" in data:
            return generated_words(data), [generated_table(data)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is damaged: {type(error).__name__} {error}") from error
    known = ", ".join(
        ("speed/1", SWEEPS, GENERATION, SPARSE, ROUNDTRIPS, BOUNDS, OVER_TIME, COMMANDS, CUTS, TILES, TRIALS)
    )
    known += ", or quality by an evaluate of train or generate"
    raise InputError(f"{path} is of protocol {data.get('protocol')}; known here: {known}")


def quality(data: dict[str, Any]) -> Rows:
    """PSNR in dB by amount of motion: each decoder with the raw key frame, then key frame and latent coded."""
    groups = data["psnr"]
    rows = [["", *GROUPS.values()]]
    for key in groups["all"]:
        if "kbit" not in key:
            name = _quality_name(key, data)
            rows.append([name, *(f"{groups[group][key]:.2f}" for group in GROUPS)])
    return rows


def _quality_name(key: str, data: dict[str, Any]) -> str:
    if key == "copy":
        return "repeat the key frame"
    bits = data["psnr"]["all"]
    if key == "coded key frame":
        return f"default decoder, key frame in AVIF of quality {data['quality']} ({bits['key frame kbit']:.1f} kbit)"
    if key.startswith("coded"):
        setting = key.removeprefix("coded").removeprefix(", ") or f"step {data['latent_step']:g}"
        kbit = bits[key.replace("coded", "latent kbit", 1)]
        return f"the same and the latent with {setting} ({kbit:.1f} kbit a clip)"
    return f"`{key}`"


def _quality_words(data: dict[str, Any]) -> str:
    return (
        f"Quality of model {data['model']} on {data['clips']} clips of {CLIP_LENGTH}x256x256: PSNR in dB, pooled over the "
        f"{CLIP_LENGTH - 1} frames that aren't the key frame; the key frame is exact where nothing else is said. Each third "
        "holds the same number of clips."
    )


def references(data: dict[str, Any]) -> Rows:
    """PSNR between two key frames by amount of motion, and how much changes where two clips meet, over the source's change."""
    groups, joins = data["psnr between key frames"], data["joins"]
    bits = data.get("latent kbit", {})
    rows = [["", *GROUPS.values(), "change at joins", "elsewhere", "latent kbit"]]
    for key in groups["all"]:
        kind, _, rest = key.partition(", ")
        decoder, *more = rest.split(", ")
        name = "repeat the key frame" if key == "copy" else ", ".join((kind, f"`{decoder}`", *more))
        changes = ("at joins, over source", "elsewhere, over source")
        cells = ["", ""] if key not in joins else [f"{joins[key][change]:.2f}" for change in changes]
        size = f"{bits[key]:.1f}" if key in bits else ""
        rows.append([name, *(f"{groups[group][key]:.2f}" for group in GROUPS), *cells, size])
    return rows


def _references_words(data: dict[str, Any]) -> str:
    clips = data["clips of a sequence"]
    return (
        f"One and two references, model {data['model']}, {data['sequences']} sequences of {clips} clips, {data['side']} px: PSNR "
        f"in dB, pooled over each clip's frames between two key frames; raw, and coded (AVIF of quality {data['quality']}, "
        f"latent of step {data['step']:g}). Changes are mean absolute differences of frames that follow one another, over the "
        "source's."
    )


def roundtrips(data: dict[str, Any]) -> Rows:
    """A row a video; "copy" is the coded key frame repeated."""
    rows = [["video", "size", "kbit/s", "bpp", "PSNR pooled", "copy", "paper", "SSIM", "copy"]]
    for row in data["rows"]:
        ours, copy = row["decoded"], row["copied"]
        psnr = [ours["pooled"], copy["pooled"], ours["paper"]]
        cells = [*(_number(value, 2) for value in psnr), *(_number(each["ssim"], 4) for each in (ours, copy))]
        rows.append([row["video"], "x".join(map(str, row["size"])), f"{row['kbps']:.2f}", f"{row['bpp']:.5f}", *cells])
    return rows


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def sparse_keyframes(data: dict[str, Any]) -> Rows:
    """A row a layout and quality of key frames."""
    rows = [["key frames", "quality", "PSNR pooled", "key frame kbit a clip", "latent kbit a clip", "bpp"]]
    for point in data["points"]:
        kbit = [f"{point[name]:.1f}" for name in ("key frame kbit", "latent kbit")]
        rows.append([point["layout"], str(point["quality"]), f"{point['psnr']:.2f}", *kbit, f"{point['bpp']:.4f}"])
    return rows


def _sparse_words(data: dict[str, Any]) -> str:
    return (
        f"Key frames every 16 frames, or two side by side every 32: model {data['model']}, {data['sequences']} sequences of "
        f"{data['clips of a sequence']} clips, {data['side']} px, two references, latent of step {data['step']:g}; PSNR in dB "
        "over all frames."
    )


def bounds(data: dict[str, Any]) -> Rows:
    """A row a way to make the frames, PSNR by amount of motion and kbit of the latent."""
    groups = data["groups"]
    plain = groups["all"]["latent kbit"]
    rows = [["", *GROUPS.values(), "latent kbit a clip"]]
    for name in groups["all"]:
        if name.endswith("latent kbit"):
            continue
        bits = "" if name == "copy" else f"{groups['all'].get(f'{name}, latent kbit', plain):.1f}"
        label = "repeat the key frame" if name == "copy" else name
        rows.append([label, *(f"{groups[group][name]:.2f}" for group in GROUPS), bits])
    return rows


def _bounds_words(data: dict[str, Any]) -> str:
    return (
        f"What two references could give: model {data['model']}, the middle one of three clips, {data['sequences']} sequences, "
        f"{data['side']} px, AVIF of quality {data['quality']}, latent of step {data['step']:g}; PSNR in dB without the key "
        "frame."
    )


def speed(data: dict[str, Any]) -> Rows:
    """Medians; the first subject is what the others are compared with."""
    samples = data["samples"]
    rows = [["", "decode", "frames/s", "x paper", "encode", "frames/s", "x paper"]]
    first = next(iter(samples))
    for name, taken in samples.items():
        cells = [name]
        for operation in ("decode", "encode"):
            if not taken.get(operation):
                cells += ["-", "-", "-"]
                continue
            seconds = statistics.median(taken[operation])
            base = samples[first].get(operation)
            ratio = statistics.median(base) / seconds if base else None
            cells += [f"{seconds:.3g} s", _three(CLIP_LENGTH / seconds), "-" if ratio is None else _three(ratio)]
        rows.append(cells)
    return rows


def _three(value: float) -> str:
    """Three digits, without an exponent for large numbers."""
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _speed_words(data: dict[str, Any]) -> str:
    machine, side = data["machine"], data["config"]["size"]
    loads = ", ".join(f"{load[0]:g}" for load in data.get("loads", []) if load)
    text = (
        f"{CLIP_LENGTH}x{side}x{side}, medians, on {machine['cpu']} with {machine['threads']} threads, torch "
        f"{machine['versions']['torch']}" + (f", load average {loads}" if loads else "") + "."
    )
    if data.get("agreement_db") is not None:
        text += f" Between the paper's model plain and optimised lie {data['agreement_db']:.1f} dB."
    memory = "; ".join(f"{row['case']} {row['growth_bytes'] / 1e6:.0f} MB" for row in data.get("memory", []))
    return text + (f" Peak memory over what the process held before: {memory}." if memory else "")


def trials(data: dict[str, Any]) -> Rows:
    """A row a trial of the recipe: PSNR in dB and kbit of a clip's latent."""
    quality = data["config"]["quality"]
    rows = [["", "steps", "parameters", "raw", f"key frame of quality {quality}", "latent of step 0.5", "of step 1",
             "grey key frame"]]  # fmt: skip
    for name, trial in data["trials"].items():
        psnr = trial["psnr"]
        coded = [
            f"{psnr[f'coded, step {step}']:.2f} ({psnr[f'latent kbit, step {step}']:.1f} kbit)" for step in ("0.5", "1")
        ]
        plain = [f"{psnr[key]:.2f}" for key in ("raw", "coded key frame", "grey key frame")]
        size = f"{trial['parameters'] / 1e6:.1f} M"
        rows.append([name, str(trial["steps"]), size, plain[0], plain[1], *coded, plain[2]])
    return rows


def _trials_words(data: dict[str, Any]) -> str:
    config = data["config"]
    copied = next(iter(data["trials"].values()))["psnr"]["copy"]
    return (
        f"The recipe {config['recipe']} and one change at a time, {config['minutes']:g} minutes each from scratch, measured on "
        f"{config['clips']} clips: PSNR in dB without the key frame (repeating it: {copied:.2f}), first with the raw key frame, "
        f"then with the coded one, then with the latent coded as well; last with a grey picture in the key frame's place."
    )
