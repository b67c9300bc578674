"""Results as Markdown. Only methods with every sample of the latest run get numbers; all others say why not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from bench.ablation_table import ablations
from bench.codecs.floors import SOURCE
from bench.json_files import PUBLISHED
from bench.markdown import markdown
from bench.quality import METRICS, unpack
from bench.rd_curves import ANCHOR, BD_METRICS, RATES, RdData, bd_rates, range_rates, read_rd
from bench.reconstruction import PROTOCOL
from bench.results import NOT_RUN, Method, ResultStore, SampleInfo, unfit
from bench.summaries import summary
from reducio_codec.errors import InputError
from reducio_codec.metrics.bootstrap import bootstrap
from reducio_codec.metrics.frechet import frechet_distance

HEADINGS = {
    "psnr_paper": "PSNR paper",
    "psnr_pooled": "PSNR pooled",
    "psnr_pooled_without_keyframe": "PSNR without key frame",
    "ssim": "SSIM",
    "ms_ssim": "MS-SSIM",
    "lpips": "LPIPS",
}
DIGITS = {"ssim": 3, "ms_ssim": 3, "lpips": 3}


def everything(results: Path) -> str:
    """All tables that a results folder has the results for; its other files are named. InputError if it has none."""
    parts = []
    if (results / "reconstruction").is_dir():
        parts.append(reconstruction(ResultStore(folder=results, protocol=PROTOCOL)))
    if (results / "rd").is_dir():
        parts.append(rate_distortion(read_rd(results)))
    parts += ablations(results)
    problems = []
    for path in sorted(results.glob("*.json")):
        try:
            words, tables = summary(path)
        except InputError as error:
            problems.append(str(error))
        else:
            parts.append("\n\n".join([f"### {path.stem}", words, *map(markdown, tables)]))
    if not parts:
        found = "".join(f"; {line}" for line in problems)
        raise InputError(f"{results} has neither reconstruction nor rd results; see python -m bench run --help{found}")
    parts += _notes({}, problems)
    return "\n\n".join(parts) + "\n"


# ---------------------------------------------------------------------- reconstruction


def reconstruction(store: ResultStore) -> str:
    """One row a method and point; means over clips with 95% intervals (videos drawn, not clips)."""
    samples = store.samples()
    published = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    methods = {name: store.load(name) for name in store.methods()}
    source = methods.pop(SOURCE, Method(name=SOURCE)).points.get("exact", {})
    head = ["method", "latent positions", "latent values", *(HEADINGS[name] for name in METRICS), "rFVD"]
    table = [[*head, "published: PSNR / SSIM / LPIPS / rFVD"]]
    for name, method in sorted(methods.items(), key=lambda item: (item[1].why_not is not None, item[0])):
        told = _published(published["rows"].get(name))
        if method.why_not is not None or not method.points:
            table.append([name, *[""] * (len(head) - 2), NOT_RUN + (method.why_not or "no results"), told])
        for point, rows in method.points.items():
            title = name if len(method.points) == 1 else f"{name}, {point}"
            reason = unfit(rows, samples=samples)
            if reason is not None:
                table.append([title, *[""] * (len(head) - 2), reason, told])
                continue
            latent = next(iter(rows.values()))["latent"]
            cells = [str(latent.get("positions", "?")), str(latent.get("values", "?"))]
            cells += [_mean(rows, metric, samples) for metric in METRICS]
            table.append([title, *cells, _rfvd(rows, source, samples), told])
    for name in (name for name in published["rows"] if name not in methods):
        table.append([name, *[""] * (len(head) - 2), NOT_RUN + "published only", _published(published["rows"][name])])
    lines = [
        f"### Reconstruction ({PROTOCOL.name})",
        f"{len(samples)} clips of {PROTOCOL.frames}x{PROTOCOL.size}x{PROTOCOL.size} from "
        f"{len({info.video for info in samples})} videos; [95% interval]. Without key frame: frame "
        f"{PROTOCOL.keyframe_left_out} is left out for every method. rFVD depends on the number of clips; this one is "
        "not comparable with published ones. Floors and this package's models have exact key frames beside their "
        "latents.",
        markdown(table),
        f"Published: {published['note']} Rows: "
        + "; ".join(f"{name}: table {row['table']}, {row['line']}" for name, row in published["rows"].items())
        + f" ({published['source']}).",
        *_notes(store.skipped(), store.problems),
    ]
    return "\n\n".join(lines)


def _mean(rows: dict[str, dict[str, Any]], metric: str, samples: list[SampleInfo]) -> str:
    values = [rows[info.name]["metrics"][metric] for info in samples]
    reason = next((value for value in values if isinstance(value, str)), None)
    if reason is not None:
        return reason
    found = bootstrap(values, groups=[info.video for info in samples])
    digits = DIGITS.get(metric, 2)
    if len({info.video for info in samples}) < 2:
        return f"{found.value:.{digits}f}"  # one video says nothing about others
    return f"{found.value:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"


def _rfvd(rows: dict[str, dict[str, Any]], source: dict[str, dict[str, Any]], samples: list[SampleInfo]) -> str:
    missing = [info.name for info in samples if (source.get(info.name) or {}).get("i3d") is None]
    missing += [info.name for info in samples if rows[info.name].get("i3d") is None]
    if missing:
        return str(rows[samples[0].name]["metric_settings"]["i3d"]) if rows else NOT_RUN + "no features"
    if len(samples) < 2:
        return NOT_RUN + "needs two clips"
    pair = [np.stack([unpack(side[info.name]["i3d"]) for info in samples]) for side in (source, rows)]
    return f"{frechet_distance(*pair):.2f}"


def _published(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    return " / ".join(str(row[key]) if key in row else "-" for key in ("psnr", "ssim", "lpips", "rfvd"))


# ---------------------------------------------------------------------- rate and distortion


def rate_distortion(data: RdData) -> str:
    """BD-rates, and quality at a few rates."""
    lines = [f"### Rate and distortion ({data.protocol.name})", _rd_words(data)]
    names = list(data.methods)
    if ANCHOR in data.methods:
        lines += [f"BD-rate against {ANCHOR}, percent (negative: fewer bits for the same quality)"]
        lines.append(_bd_table(data, [(name, ANCHOR) for name in names if name != ANCHOR]))
    for ours in (name for name in names if data.is_ours(name)):
        pairs = [(ours, name) for name in names if name != ours]
        lines += [f"BD-rate of {ours} against each other method, percent", _bd_table(data, pairs, by_anchor=True)]
    head = ["method", *(f"{rate:g} bpp" for rate in RATES)]
    for metric, unit in (("psnr_pooled", ", dB"), ("lpips", "")):
        lines.append(
            f"{HEADINGS[metric]}{unit} at no more than that rate, mean over the samples that get by with it (their number)"
        )
        table = [[name, *(data.quality_cell(name, metric, rate) for rate in RATES)] for name in names]
        lines.append(markdown([head, *table]))
    if data.left_out:
        lines.append(markdown([["method", ""], *([name, why] for name, why in data.left_out.items())]))
    return "\n\n".join([*lines, *_notes(data.skipped, data.problems)])


def _rd_words(data: RdData) -> str:
    unit = "all clips of a video in one file" if data.protocol.unit == "video" else "each clip in a file of its own"
    return (
        f"{len(data.samples)} samples ({unit}), {data.protocol.size}x{data.protocol.size}. Bytes: ours is the whole file; "
        "the others are packets and headers, without a container. Each sample's curve is the convex hull of its points. "
        "Medians over samples, [95% interval] with videos drawn, (samples that have common qualities)."
    )


def _bd_table(data: RdData, pairs: list[tuple[str, str]], *, by_anchor: bool = False) -> str:
    (low, high), metrics = range_rates(), data.bd_metrics()
    ranged = ("psnr_pooled", "lpips")
    head = ["", *metrics.values(), *(f"{BD_METRICS[name]}, {low:g} to {high:g} bpp" for name in ranged)]
    table = [[*head, "Akima, PSNR pooled"]]
    for test, anchor in pairs:
        cells = [_bd_cell(data, test, anchor, metric) for metric in metrics]
        cells += [_bd_cell(data, test, anchor, metric, rate_range=(low, high)) for metric in ranged]
        cells.append(_bd_cell(data, test, anchor, "psnr_pooled", method="akima"))
        table.append([anchor if by_anchor else test, *cells])
    return markdown(table)


def _bd_cell(data: RdData, test: str, anchor: str, metric: str, **options: Any) -> str:
    values = bd_rates(data, test=test, anchor=anchor, metric=metric, **options)
    if isinstance(values, str):
        return values
    if not values:
        return "no common quality"
    found = bootstrap(list(values.values()), statistic="median", groups=[data.video_of(sample) for sample in values])
    if len({data.video_of(sample) for sample in values}) < 2:
        return f"{found.value:+.1f} ({found.count})"
    return f"{found.value:+.1f} [{found.low:+.1f}, {found.high:+.1f}] ({found.count})"


def _notes(skipped: dict[str, str], problems: list[str]) -> list[str]:
    """What was left out, by name."""
    notes = [f"Not in the data set: {name}: {why}" for name, why in skipped.items()]
    return notes + [f"Left out: {line}" for line in problems]
