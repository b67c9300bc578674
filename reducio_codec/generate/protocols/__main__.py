"""``python -m reducio_codec.generate.protocols ucf101|msrvtt|vbench|vbench-scores``: arguments in, clips and a result out."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from reducio_codec.errors import InputError
from reducio_codec.generate.command import OneLineErrors
from reducio_codec.generate.protocols.items import Plan
from reducio_codec.generate.protocols.making import REAL, REQUEST_FILE, RESULT_FILE, Maker, Report, write_json
from reducio_codec.generate.protocols.measuring import Measurement, write_result
from reducio_codec.generate.protocols.msrvtt import read_msrvtt
from reducio_codec.generate.protocols.options import (
    FILE,
    FOLDER,
    generation_options,
    i3d_option,
    i3d_sha256_option,
    side_option,
    size_callback,
)
from reducio_codec.generate.protocols.settings import Generator, Settings
from reducio_codec.generate.protocols.ucf101 import read_ucf101
from reducio_codec.generate.protocols.vbench import EACH, FLICKERING, FLICKERING_EACH, read_vbench
from reducio_codec.generate.protocols.vbench_scores import columns, read_scores
from reducio_codec.io.termination import exit_on_sigterm
from reducio_codec.metrics.fvd import I3D_SHA256
from reducio_codec.metrics.inception_score import SHUFFLE_SEED, SPLITS
from reducio_codec.weights.io import file_sha256

SOURCE = "arXiv 2411.13552"

PAPER_SAYS = (
    "the paper says: 512 px model, zero-shot, key pictures by SDXL, LLaVA-1.5 captions for UCF-101, DPM-Solver++ with 20 "
    "steps, guidance 2.5"
)
SEEDS = "each clip's seed: the first 31 bits of SHA-256 over 'SEED NAME', whatever else is made"
LEFT_OPEN = (
    PAPER_SAYS,
    SEEDS,
    "the paper's number of clips, choice of real ones and their frame rate aren't known here; these are chosen:",
    f"real clips: {REAL}",
    "generated clips: 16 frames, 16 a second, at the size they were made at; I3D's file resizes both alike",
)
PAPER_SIDE = 512
VBENCH_PUBLISHED = {"total": 81.39, "quality": 82.24, "semantic": 78.00}
"""In percent (Tab. 3)."""


class _Group(OneLineErrors, click.Group):
    interrupted = "interrupted; the same command goes on from there"


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Evaluation protocols. What is made is not made again: a run that was cut off is simply started again."""


@main.command()
@click.argument("data", type=FOLDER)
@click.option(
    "--clips",
    type=click.IntRange(0),
    default=10000,
    show_default=True,
    help="Clips to make, by class as in the data; 0: one a video.",
)
@click.option("--list", "listed", type=FILE, help="Only videos of this official list, as trainlist01.txt.")
@click.option("--captions", type=FILE, help="JSON from a video's name to its caption.  [default: class names]")
@click.option("--c3d", type=FILE, help="C3D finetuned on UCF-101, for the inception score.")
@i3d_option
@i3d_sha256_option
@side_option
@generation_options
def ucf101(
    data: Path,
    clips: int,
    listed: Path | None,
    captions: Path | None,
    c3d: Path | None,
    i3d: Path | None,
    i3d_sha256: str,
    side: int | None,
    out: Path,
    **options: Any,
) -> None:
    """FVD and inception score on UCF-101 in DATA (101 folders of v_CLASS_gNN_cNN.avi).

    With --text-to-image the key pictures are made from prompts, as in the paper; without, they are the real clips' own.
    """
    plan = read_ucf101(data, count=clips, seed=options["seed"], listed=listed, captions=captions)
    prompts = "class names in words" if captions is None else f"{captions.name} {file_sha256(captions)[:16]}"
    taken = "all videos" if listed is None else listed.name
    maker = _compared(out, "ucf101/1", plan, options, side=side, prompts=prompts, extra={"videos": taken})
    if captions is None and maker.generator.tells_prompts:
        plan.notes.append("prompts are class names; the paper has captions")
    measurement = Measurement(maker=maker, i3d=i3d, i3d_sha256=i3d_sha256, c3d=c3d, device=options["device"])
    _run(maker)
    with _progress("measuring FVD") as report:
        fvd = measurement.fvd(report=report)
    with _progress("measuring IS") as report:
        score = measurement.inception_score(report=report)
    choices = (
        *LEFT_OPEN,
        "10,000 clips, each class with its share of the data, is what zero-shot text-to-video papers do; each clip has the "
        "prompt of the real video that it stands beside",
        f"inception score: mean over {SPLITS} parts, clips shuffled with seed {SHUFFLE_SEED}",
    )
    published = {
        "source": SOURCE,
        "zero-shot": {"table": "2", "line": "Reducio-DiT", "fvd": 318.5},
        "after the ablations' shorter training": {"tables": "7, 8, 13", "fvd": 337.6, "inception_score": 34.1},
    }
    _finish(maker, measurement, choices=choices, published=published, values={"fvd": fvd, "inception_score": score})


@main.command()
@click.argument("annotations", type=FILE)
@click.argument("data", type=FOLDER)
@click.option(
    "--clips",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Only so many videos of the test split; 0: all.",
)
@i3d_option
@i3d_sha256_option
@side_option
@generation_options
def msrvtt(
    annotations: Path,
    data: Path,
    clips: int,
    i3d: Path | None,
    i3d_sha256: str,
    side: int | None,
    out: Path,
    **options: Any,
) -> None:
    """FVD on MSR-VTT's test split: ANNOTATIONS is its JSON, DATA the folder of videoN.mp4.

    One caption a video, chosen by the seed. With --text-to-image the key pictures are made from it, as in the paper;
    without, they are the real clips' own.
    """
    plan = read_msrvtt(annotations, data, count=clips, seed=options["seed"])
    prompts = f"one caption a video, {annotations.name} {file_sha256(annotations)[:16]}"
    maker = _compared(out, "msrvtt/1", plan, options, side=side, prompts=prompts, extra={})
    measurement = Measurement(maker=maker, i3d=i3d, i3d_sha256=i3d_sha256, c3d=None, device=options["device"])
    _run(maker)
    with _progress("measuring FVD") as report:
        fvd = measurement.fvd(report=report)
    choices = (
        *LEFT_OPEN,
        "a clip for each of the 2,990 videos of the test split, one of its captions drawn",
    )
    published = {"source": SOURCE, "table": "2", "line": "Reducio-DiT", "fvd": 291.9}
    _finish(maker, measurement, choices=choices, published=published, values={"fvd": fvd})


@main.command()
@click.argument("prompts", type=FILE)
@click.option("--dimension", "dimensions", multiple=True, help="Only prompts of this dimension; repeatable.")
@click.option("--images", type=FOLDER, help="Crops of VBench's picture suite, for vbench2_i2v_full_info.json.")
@click.option(
    "--each",
    type=click.IntRange(1),
    help=f"Videos for each prompt.  [default: {EACH}; {FLICKERING_EACH} for {FLICKERING}]",
)
@click.option(
    "--size", metavar="WIDTHxHEIGHT", callback=size_callback, help="Of the videos.  [default: the model's square]"
)
@generation_options
def vbench(
    prompts: Path,
    dimensions: tuple[str, ...],
    images: Path | None,
    each: int | None,
    size: tuple[int, int] | None,
    out: Path,
    **options: Any,
) -> None:
    """Videos for VBench in OUT/clips, named PROMPT-INDEX.mp4.

    PROMPTS is VBench_full_info.json, vbench2_i2v_full_info.json (with --images), or a text file with a prompt a line.
    VBench itself then measures: vbench evaluate --videos_path OUT/clips. Its results are read by vbench-scores.
    """
    if (images is None) == (options["text_to_image"] is None):
        raise InputError(
            "VBench's videos start from prompts with --text-to-image, or from pictures with --images: give one"
        )
    plan = read_vbench(prompts, dimensions=dimensions, images=images, each=each)
    maker = _maker(
        out,
        "vbench/1",
        plan,
        {**options, "size": size},
        extra={
            "prompts": "VBench's",
            "prompt_file": f"{prompts.name} {file_sha256(prompts)[:16]}",
            "picture": "text-to-image" if images is None else "VBench's",
        },
        lossless=False,
    )
    _run(maker)
    write_json(out / "seeds.json", {maker.path(item).name: item.seed(options["seed"]) for item in plan.items})
    published: dict[str, Any] = {"source": SOURCE, **VBENCH_PUBLISHED}
    if images is not None:  # the suite for pictures has scores of its own, of which the paper has none
        published = {}
    write_result(maker, choices=(PAPER_SAYS, SEEDS), published=published, values={}, skipped={})
    _tell(maker, {})


@main.command("vbench-scores")
@click.argument("results", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="JSON instead of lines.")
def vbench_scores(results: tuple[Path, ...], as_json: bool) -> None:
    """VBench's own RESULTS (files *_eval_results.json, or folders with them) as a row of the paper's table 15, in percent."""
    row = columns(read_scores(results))
    if as_json:
        click.echo(json.dumps({"columns": row, "published": VBENCH_PUBLISHED}, indent=2))
        return
    for name, value in row.items():
        published = f" (paper: {VBENCH_PUBLISHED[name]:.2f})" if name in VBENCH_PUBLISHED else ""
        click.echo(f"{name}: {'not measured' if value is None else f'{value:.2f}'}{published}")


def _compared(
    out: Path,
    protocol: str,
    plan: Plan,
    options: dict[str, Any],
    *,
    side: int | None,
    prompts: str,
    extra: dict[str, Any],
) -> Maker:
    """Clips that are compared with real ones."""
    size = None if side is None else (side, side)
    picture = "the real clip's key frame" if options["text_to_image"] is None else "text-to-image"
    maker = _maker(
        out,
        protocol,
        plan,
        {**options, "size": size},
        extra={"prompts": prompts, "picture": picture, **extra},
        lossless=True,
    )
    if options["text_to_image"] is None:
        plan.notes.append(
            "key pictures are the real clips' own, so this doesn't compare with the paper's text-to-video"
        )
    if maker.generator.width != PAPER_SIDE:
        plan.notes.append(f"clips of {maker.generator.width} px; the paper's have {PAPER_SIDE}")
    return maker


def _maker(
    out: Path, protocol: str, plan: Plan, options: dict[str, Any], *, extra: dict[str, Any], lossless: bool
) -> Maker:
    generator = Generator.open(Settings(**options))
    if not generator.tells_prompts:
        extra = {**extra, "prompts": "not told: neither a text encoder nor a text-to-image stage"}
    return Maker(out=out, protocol=protocol, generator=generator, plan=plan, options=extra, lossless=lossless)


def _run(maker: Maker) -> None:
    with _progress("making clips") as report:
        maker.run(report=report)


def _finish(
    maker: Maker,
    measurement: Measurement,
    *,
    choices: tuple[str, ...],
    published: dict[str, Any],
    values: dict[str, Any],
) -> None:
    if measurement.i3d_sha256 != I3D_SHA256:
        maker.plan.notes.append("the distance is on features of another file than that of published FVD")
    write_result(maker, choices=choices, published=published, values=values, skipped=measurement.skipped)
    _tell(maker, values)


def _tell(maker: Maker, values: dict[str, Any]) -> None:
    found: dict[str, Any] = json.loads((maker.out / RESULT_FILE).read_text(encoding="utf-8"))
    for name, why in list(found["left_out"].items())[:10]:
        click.echo(f"left out {name}: {why}", err=True)
    counts = found["clips"]
    click.echo(
        f"{counts['made']} of {counts['planned']} clips, {counts['left_out']} left out; {maker.out / RESULT_FILE}"
    )
    for name, value in values.items():
        click.echo(f"{name}: {value if isinstance(value, str) else json.dumps(value)}")
    if not counts["made"]:
        raise InputError(f"no clip could be made; {maker.out / REQUEST_FILE} has the request")


@contextmanager
def _progress(label: str) -> Iterator[Report | None]:
    """A bar for a person who waits; None where nobody looks."""
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=1, label=label, file=sys.stderr) as bar:

        def report(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield report


if __name__ == "__main__":
    exit_on_sigterm()
    main(prog_name="python -m reducio_codec.generate.protocols")
