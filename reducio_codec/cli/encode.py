"""``reducio-codec encode``: a video to an .rdc file, or a folder of them."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reducio_codec.cli.folder import check_folders, jobs_option, run_folder, share_cores
from reducio_codec.cli.group import traceback_option, warn
from reducio_codec.cli.options import (
    codec_options,
    coding_options,
    force_option,
    model_option,
    open_codec,
    references_option,
)
from reducio_codec.cli.paths import PIPED, RDC, STANDARD, beside, check_new, open_standard_input, standard_output
from reducio_codec.cli.profile import profile_option, profiled
from reducio_codec.cli.progress import progress_bar
from reducio_codec.errors import InputError
from reducio_codec.io.files import VIDEO_SUFFIXES

if TYPE_CHECKING:
    from reducio_codec.coding.report import CompressReport
    from reducio_codec.folders.pool import Report, Work
    from reducio_codec.folders.tree import Found, Job

logger = logging.getLogger(__name__)


@click.command()
@click.argument("source", metavar="IN", type=PIPED)
@click.option(
    "-o",
    "--output",
    metavar="OUT.rdc",
    type=RDC,
    help="File to write, - for standard output; for a folder of videos a folder.  [default: IN with the suffix .rdc]",
)
@model_option
@coding_options
@click.option("--decoder", help="The decoder that --effort, targets and --keyframe best are for.")
@references_option
@codec_options
@profile_option
@jobs_option
@force_option
@traceback_option
def command(
    source: Path,
    output: Path | None,
    model: str,
    coding: dict[str, Any],
    decoder: str | None,
    references: int | None,
    profile: bool,
    jobs: int | None,
    force: bool,
    **run: Any,
) -> int:
    """Compress IN (a video, a GIF, a folder of pictures, or - for a video on standard input) into an .rdc file.

    A folder of videos is searched to any depth for files with a video's suffix, hidden ones left out, and becomes a folder of
    .rdc files with the same tree, by several processes. What is there and newer than its video is kept, so the same command
    goes on after an interruption. Videos that can't be read are named at the end, with exit code 1.
    """
    how = {"model": model, "decoder": decoder, "references": references, "coding": coding}
    videos = _videos(source, output) if source.is_dir() else None
    if videos is not None:
        if profile:
            raise InputError("profile=True has no effect on a folder of videos")
        return _encode_folder(videos, output, jobs=jobs, force=force, how=how, run=run)
    if jobs is not None:
        raise InputError(f"jobs={jobs} has no effect on one video")
    if source == STANDARD and output is None:
        raise InputError("standard input has no name to derive the output's from; give -o OUT.rdc")
    target = beside(source, ".rdc") if output is None else output
    check_new(target, force=force)
    origin = open_standard_input(what="a video") if source == STANDARD else source
    destination = standard_output() if target == STANDARD else target
    codec = open_codec(model, **run)
    with profiled(profile, err=target == STANDARD) as show, progress_bar("encoding") as (report,):
        result = codec.compress(origin, destination, decoder=decoder, references=references, progress=report, **coding)
    show(result.frames)
    click.echo(f"{target}: {_summary(result)}", err=target == STANDARD)
    if result.missed is not None:
        warn(result.missed)
    return 0


def _summary(result: CompressReport) -> str:
    sound = f" (and {result.audio_bytes:,} bytes of sound)" if result.audio_bytes else ""
    return (
        f"{result.frames} frames, {result.video_bytes:,} bytes{sound}, {result.kbits_per_second:.1f} kbit/s, "
        f"{result.bpp:.4f} bits per pixel ({result.bpp_without_keyframe:.4f} without key frames), "
        f"{result.frames_per_second:.1f} frames/s"
    )


def _videos(folder: Path, output: Path | None) -> Found | None:
    """The videos of a folder; None where its pictures are meant, which are one video."""
    from reducio_codec.folders.tree import find_files
    from reducio_codec.io.images import list_pictures

    named = output is not None and not output.is_dir() and (output.exists() or output.suffix.lower() == ".rdc")
    one_file = output is None or output == STANDARD or named
    pictures = bool(list_pictures(folder))
    if one_file:
        if not pictures:
            raise InputError(
                f"the folder {folder} has no pictures; of videos -o has to name a folder for their .rdc files"
            )
        return None
    found = find_files(folder, suffixes=VIDEO_SUFFIXES)
    if not found.files and not pictures:
        raise InputError(
            f"the folder {folder} has no videos; looked for {', '.join(sorted(VIDEO_SUFFIXES))}, and pictures"
        )
    return found if found.files else None


def _encode_folder(
    videos: Found,
    output: Path | None,
    *,
    jobs: int | None,
    force: bool,
    how: dict[str, Any],
    run: dict[str, Any],
) -> int:
    from reducio_codec.coding.options import EncodeOptions
    from reducio_codec.folders.tree import plan_folder

    EncodeOptions(
        decoder=how["decoder"], references=how["references"], **how["coding"]
    )  # before any process is started
    out = check_folders(videos.folder, output, files=(".rdc",))
    plan = plan_folder(videos, out=out, suffix=".rdc", force=force)
    processes, threads = share_cores(jobs, files=len(plan.todo), device=run["device"])
    start = partial(_start, how=how, run={**run, "threads": run["threads"] or threads})
    return run_folder(plan, start=start, processes=processes, out=out, summary=_summary)


def _start(how: dict[str, Any], run: dict[str, Any]) -> Work:
    """In a process that encodes: a model, and what it does with each video."""
    from reducio_codec.coding.decision import Decider
    from reducio_codec.coding.options import EncodeOptions

    codec = open_codec(how["model"], **run)
    options = {"decoder": how["decoder"], "references": how["references"], **how["coding"]}
    Decider(codec.engine, EncodeOptions(**options))  # what is wrong with them is wrong for all videos

    def work(job: Job, report: Report) -> CompressReport:
        job.target.parent.mkdir(parents=True, exist_ok=True)
        result = codec.compress(job.source, job.target, progress=report, **options)
        if result.missed is not None:
            logger.warning(result.missed)
        return result

    return work
