"""``reducio-codec generate``: a picture or a text to a video."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reducio_codec.cli.folder import check_folders, jobs_option, run_folder, share_cores
from reducio_codec.cli.group import traceback_option
from reducio_codec.cli.options import device_option, dtype_option, force_option
from reducio_codec.cli.paths import NEW_VIDEO, PICTURE, check_new
from reducio_codec.cli.progress import progress_bar
from reducio_codec.errors import InputError
from reducio_codec.io.files import VIDEO_SUFFIXES
from reducio_codec.weights.zoo import DEFAULT_GENERATOR

if TYPE_CHECKING:
    from reducio_codec.folders.pool import Report, Work
    from reducio_codec.folders.tree import Job
    from reducio_codec.generate.evaluations import Progress

_SIZE = re.compile(r"([1-9]\d*)x([1-9]\d*)")


def _size(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """``1024x512`` (width, then height) to (1024, 512)."""
    if value is None:
        return None
    found = _SIZE.fullmatch(value)
    if found is None:
        raise click.BadParameter(f"{value!r} is not WIDTHxHEIGHT, such as 1024x576", ctx, parameter)
    return int(found[1]), int(found[2])


@click.command()
@click.option("--image", metavar="PICTURE|FOLDER", type=PICTURE, help="The picture to make move, or a folder of them.")
@click.option("--prompt", metavar="TEXT", help="What shall happen; without --image, also what shall be seen.")
@click.option(
    "-o",
    "--output",
    metavar="OUT.mp4|FOLDER",
    required=True,
    type=NEW_VIDEO,
    help="Video to write; for a folder of pictures, the folder of their videos.",
)
@click.option(
    "-m",
    "--model",
    default=DEFAULT_GENERATOR,
    show_default=True,
    help="Name or folder of the transformer, or of its run.",
)
@click.option("--codec", help="Name or folder of the codec.  [default: the one that the transformer names]")
@click.option("--text-encoder", metavar="FOLDER|NAME", help="T5 for models that take text.")
@click.option("--image-encoder", metavar="FOLDER|NAME", help="OpenCLIP model for models that take semantic tokens.")
@click.option("--text-to-image", metavar="FOLDER|NAME", help="What makes the picture from --prompt alone.")
@click.option("--seconds", type=float, default=1.0, show_default=True, help="Length; 1 is one clip of 16 frames.")
@click.option(
    "--size",
    metavar="WIDTHxHEIGHT",
    callback=_size,
    help="Size of the video.  [default: the picture's, reduced to what the model was trained at]",
)
@click.option(
    "--steps", type=click.IntRange(1), help="Steps of the sampler.  [default: what the model was distilled for, or 20]"
)
@click.option(
    "--guidance",
    type=click.FloatRange(0),
    help="How strongly picture and text are followed; 1 is without guidance and twice as fast.  "
    "[default: 2.5; distilled models have it inside]",
)
@click.option(
    "--guidance-of",
    type=click.Choice(["all", "text"]),
    default="all",
    show_default=True,
    help="What guidance strengthens: picture and text, or the text alone.",
)
@click.option(
    "--cache-blocks",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Middle blocks that run at every second step only: faster, less exact.",
)
@click.option(
    "--sampler",
    type=click.Choice(["dpm++", "unipc", "ddim", "euler", "heun"]),
    help="The first three are for models that predict noise, the others for flow matching.  [default: dpm++ or euler]",
)
@click.option("--decoder", help="One of the codec's decoders.  [default: the codec's choice]")
@click.option(
    "--motion",
    metavar="FACTOR",
    type=float,
    help="How much moves; 1 is as much as usual. For models that were trained with it.  [default: each seed draws another, as "
    "clips have it]",
)
@click.option(
    "--camera",
    metavar="NAME|X,Y,ZOOM,ROLL",
    help="What the camera does: still, pan-left, pan-right, pan-up, pan-down, zoom-in, zoom-out, roll-left, roll-right; or "
    "four numbers a second: right and down in sides of the picture, growth, degrees. For models that were trained with it.  "
    "[default: the model's choice]",
)
@click.option(
    "--match-motion/--no-match-motion",
    default=True,
    show_default=True,
    help="Over 1 second: each clip moves on as the one before did.",
)
@click.option(
    "--match-colour/--no-match-colour",
    default=True,
    show_default=True,
    help="Over 1 second: the decoder's error in mean colour is taken off each clip that goes on.",
)
@click.option(
    "--sharpen/--no-sharpen",
    default=True,
    show_default=True,
    help="Over 1 second: the picture that a clip goes on from gets as much detail as the first one had.",
)
@click.option(
    "--loop", is_flag=True, help="Go back to the first frame on the same way: nearly twice as long, without a jump."
)
@click.option("--picture-steps", type=click.IntRange(1), help="Steps of the text-to-image stage.  [default: its own]")
@click.option(
    "--picture-guidance", type=click.FloatRange(0), help="Guidance of the text-to-image stage.  [default: its own]"
)
@click.option("--seed", type=click.IntRange(0), help="The same seed makes the same video.  [default: a new one]")
@click.option("--lossless", is_flag=True, help="Write FFV1 in Matroska: exactly what was generated.")
@jobs_option
@device_option
@dtype_option("auto")
@click.option("--threads", type=click.IntRange(1), help="CPU threads of the models.  [default: torch's own choice]")
@click.option("--offload", is_flag=True, help="Only the model whose turn it is takes memory: less of it, more time.")
@click.option("--offline", is_flag=True, help="Read names from local folders and caches only; fetch nothing.")
@force_option
@traceback_option
def command(
    image: Path | None,
    output: Path,
    model: str,
    size: tuple[int, int] | None,
    seed: int | None,
    lossless: bool,
    jobs: int | None,
    threads: int | None,
    force: bool,
    **given: Any,
) -> int:
    """Make a video from a picture, a text, or both (extra [generate]).

    Of a folder of pictures, searched to any depth, each becomes a video in the folder OUT, .mkv with --lossless and otherwise
    .mp4; the model stays loaded. What is there and newer than its picture is kept, so the same command goes on after an
    interruption. Pictures that can't be read are named at the end, with exit code 1.
    """
    if image is None and given["prompt"] is None:
        raise InputError("neither --image nor --prompt is given; at least one is needed")
    stages = {name: given.pop(name) for name in _STAGES}
    stages["name_or_folder"] = model
    how = {**given, "height": None if size is None else size[1], "width": None if size is None else size[0]}
    if image is not None and image.is_dir():
        run = {"stages": stages, "threads": threads, "how": how, "seed": seed, "lossless": lossless}
        return _generate_folder(image, output, jobs=jobs, force=force, run=run)
    if jobs is not None:
        raise InputError(f"jobs={jobs} has no effect on one picture")
    check_new(output, force=force)
    from reducio_codec.io.files import check_output

    if output.suffix and "%" not in output.name:
        check_output(output, inputs=() if image is None else (image,))
    make = _maker(stages, threads=threads, how=how, seed=seed, lossless=lossless)
    with progress_bar("generating") as (progress,):
        told = make(image, output, progress)
    click.echo(f"{output}: {told}")
    return 0


_STAGES = ("codec", "text_encoder", "image_encoder", "text_to_image", "device", "dtype", "offload", "offline")

Make = Callable[[Path | None, Path, "Progress | None"], str]
"""Makes a video of a picture, or of the prompt alone; what is to be told of it."""


def _maker(
    stages: dict[str, Any], *, threads: int | None, how: dict[str, Any], seed: int | None, lossless: bool
) -> Make:
    """The models, loaded once."""
    import torch

    from reducio_codec.generate import ReducioDiTPipeline
    from reducio_codec.generate.continuation import FRAME_RATE
    from reducio_codec.generate.settings import Options
    from reducio_codec.io.writer import VideoWriter

    if threads is not None:
        torch.set_num_threads(threads)
    pipeline = ReducioDiTPipeline.from_pretrained(**stages)
    options: Any = {name: how[name] for name in Options.__annotations__}
    pipeline.check(text=how["prompt"] is not None, **options)  # what is wrong with them is wrong for all pictures

    def make(image: Path | None, output: Path, progress: Progress | None) -> str:
        used = secrets.randbits(31) if seed is None else seed
        video = pipeline(image=image, seed=used, progress=progress, **how)
        frames, height, width, _ = video.shape
        with VideoWriter(
            output,
            width=width,
            height=height,
            time_base=Fraction(1, FRAME_RATE),
            rate=Fraction(FRAME_RATE),
            lossless=lossless,
        ) as writer:
            for number, frame in enumerate(video):
                writer.write(frame, number)
        drawn = None if how["motion"] is not None else pipeline.drawn_motions([used])
        moves = "" if drawn is None else f", motion {float(drawn):.2f}"
        return f"{frames} frames, {width}x{height}, seed {used}{moves}"

    return make


def _generate_folder(folder: Path, output: Path, *, jobs: int | None, force: bool, run: dict[str, Any]) -> int:
    from reducio_codec.folders.tree import find_files, plan_folder
    from reducio_codec.io.images import PICTURE_SUFFIXES

    pictures = find_files(folder, suffixes=PICTURE_SUFFIXES)
    if not pictures.files:
        raise InputError(f"the folder {folder} has no pictures; looked for {', '.join(PICTURE_SUFFIXES)}")
    out = check_folders(folder, output, files=tuple(VIDEO_SUFFIXES))
    plan = plan_folder(pictures, out=out, suffix=".mkv" if run["lossless"] else ".mp4", force=force)
    processes, threads = share_cores(jobs, files=len(plan.todo), device=run["stages"]["device"])
    start = partial(_start, {**run, "threads": run["threads"] or threads})
    return run_folder(plan, start=start, processes=processes, out=out, summary=str)


def _start(run: dict[str, Any]) -> Work:
    """In a process that generates: the models, and what they do with each picture."""
    make = _maker(**run)

    def work(job: Job, report: Report) -> str:
        job.target.parent.mkdir(parents=True, exist_ok=True)
        return make(job.source, job.target, report)

    return work
