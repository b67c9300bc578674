"""``reducio-codec decode``: an .rdc file to a video."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reducio_codec.cli.folder import check_folders, jobs_option, run_folder, share_cores
from reducio_codec.cli.group import traceback_option, warn
from reducio_codec.cli.options import (
    codec_options,
    force_option,
    model_of,
    needed_decoders,
    open_codec,
    references_option,
)
from reducio_codec.cli.paths import (
    PIPED,
    RDC,
    STANDARD,
    STORED,
    beside,
    check_new,
    check_new_folder,
    standard_input,
    standard_output,
)
from reducio_codec.cli.profile import profile_option, profiled
from reducio_codec.cli.progress import progress_bar
from reducio_codec.errors import InputError
from reducio_codec.io.files import VIDEO_SUFFIXES

if TYPE_CHECKING:
    from reducio_codec import ReducioCodec
    from reducio_codec.coding.report import DecompressReport
    from reducio_codec.folders.pool import Report, Work
    from reducio_codec.folders.tree import Job

logger = logging.getLogger(__name__)


@click.command()
@click.argument("source", metavar="IN.rdc", type=RDC)
@click.option(
    "-o",
    "--output",
    metavar="OUT.mp4",
    type=PIPED,
    help="Video to write (.mp4, .mkv, .y4m, ...), - for Y4M on standard output; for a folder a folder.  "
    "[default: IN with the suffix .decoded.mp4, .decoded.mkv with --lossless]",
)
@click.option("--frames", metavar="DIR", type=STORED, help="Write PNG pictures instead, 00000.png and so on.")
@click.option("-m", "--model", help="Name or folder of the model.  [default: the bundled one that the file names]")
@click.option("--decoder", help="One of the model's decoders.  [default: the model's choice]")
@click.option("--lossless", is_flag=True, help="Write FFV1 in Matroska: exactly what the decoder computed.")
@click.option(
    "--pix-fmt",
    "pixel_format",
    type=click.Choice(["yuv420p", "yuv422p", "yuv444p"]),
    help="Of Y4M.  [default: yuv420p]",
)
@click.option(
    "--on-error",
    type=click.Choice(["raise", "conceal"]),
    default="raise",
    show_default=True,
    help="A damaged clip: stop, or repeat the nearest key frame in its place and say so.",
)
@references_option
@codec_options
@profile_option
@jobs_option
@force_option
@traceback_option
def command(
    source: Path,
    output: Path | None,
    frames: Path | None,
    model: str | None,
    decoder: str | None,
    references: int | None,
    lossless: bool,
    pixel_format: Any,
    on_error: Any,
    profile: bool,
    jobs: int | None,
    force: bool,
    **run: Any,
) -> int:
    """Decompress an .rdc file (- for standard input) into a video or pictures.

    A folder is searched to any depth for .rdc files, hidden ones left out, and becomes a folder of .mp4 files (.mkv with
    --lossless) with the same tree, by several processes. What is there and newer than its .rdc file is kept, so the same command
    goes on after an interruption. Files that can't be read are named at the end, with exit code 1.
    """
    options = {"decoder": decoder, "references": references, "lossless": lossless, "on_error": on_error}
    if source.is_dir():
        for name, value in (("frames", frames), ("pixel_format", pixel_format), ("profile", profile or None)):
            if value is not None:
                raise InputError(f"{name}={str(value)!r} has no effect on a folder")
        return _decode_folder(source, output, jobs=jobs, force=force, model=model, options=options, run=run)
    if jobs is not None:
        raise InputError(f"jobs={jobs} has no effect on one file")
    if frames is not None:
        target, shown = _pictures(frames, output=output, lossless=lossless, force=force), frames
    else:
        target = shown = _video(source, output=output, lossless=lossless, force=force)
    destination = standard_output() if target == STANDARD else target
    with standard_input() if source == STANDARD else nullcontext(source) as origin:
        codec = open_codec(model_of(origin) if model is None else model, decoders=needed_decoders(decoder), **run)
        with profiled(profile, err=target == STANDARD) as show, progress_bar("decoding") as (progress,):
            report = codec.decompress(
                origin,
                destination,
                pixel_format=pixel_format,
                replace=force and frames is not None,
                progress=progress,
                **options,
            )
        show(report.frames)
    for problem in report.problems:
        warn(problem)
    click.echo(f"{shown}: {_summary(report)}", err=target == STANDARD)
    return 0


def _summary(report: DecompressReport) -> str:
    return f"{report.frames} frames"


def _video(source: Path, *, output: Path | None, lossless: bool, force: bool) -> Path:
    """The video to write."""
    if output is None and source == STANDARD:
        raise InputError("standard input has no name to derive the output's from; give -o OUT.mp4")
    target = beside(source, ".decoded.mkv" if lossless else ".decoded.mp4") if output is None else output
    check_new(target, force=force)
    return target


def _pictures(folder: Path, *, output: Path | None, lossless: bool, force: bool) -> Path:
    """The pictures to write, by a pattern of their names."""
    if output is not None or lossless:
        other = "-o" if output is not None else "--lossless"
        raise InputError(f"--frames and {other} were given; PNG pictures are lossless, and --frames says where they go")
    check_new_folder(folder, force=force)
    return folder / "%05d.png"


def _decode_folder(
    source: Path,
    output: Path | None,
    *,
    jobs: int | None,
    force: bool,
    model: str | None,
    options: dict[str, Any],
    run: dict[str, Any],
) -> int:
    from reducio_codec.folders.tree import find_files, plan_folder

    out = check_folders(source, output, files=(*VIDEO_SUFFIXES, ".rdc"))
    if out.is_dir() and out.samefile(source):
        raise InputError(
            f"{out} is the folder of the .rdc files; give another, where no video is that they were made of"
        )
    found = find_files(source, suffixes=(".rdc",))
    if not found.files:
        raise InputError(f"the folder {source} has no .rdc files")
    plan = plan_folder(found, out=out, suffix=".mkv" if options["lossless"] else ".mp4", force=force)
    processes, threads = share_cores(jobs, files=len(plan.todo), device=run["device"])
    start = partial(_start, model=model, options=options, run={**run, "threads": run["threads"] or threads})
    return run_folder(plan, start=start, processes=processes, out=out, summary=_summary)


def _start(model: str | None, options: dict[str, Any], run: dict[str, Any]) -> Work:
    """In a process that decodes: what it does with each file, and the models that those have named so far."""
    decoders = needed_decoders(options["decoder"])
    codecs: dict[str, ReducioCodec] = {}

    def work(job: Job, report: Report) -> DecompressReport:
        name = model_of(job.source) if model is None else model
        if name not in codecs:
            codecs[name] = open_codec(name, decoders=decoders, **run)
        job.target.parent.mkdir(parents=True, exist_ok=True)
        result = codecs[name].decompress(job.source, job.target, progress=report, **options)
        for problem in result.problems:
            logger.warning(problem)
        return result

    if model is not None:  # what is wrong with it is wrong for all files
        codecs[model] = open_codec(model, decoders=decoders, **run)
    return work
