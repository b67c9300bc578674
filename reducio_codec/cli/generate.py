"""``reducio-codec generate``: a picture or a text to a video."""

from __future__ import annotations

import re
import secrets
from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from reducio_codec.cli.group import traceback_option
from reducio_codec.cli.options import device_option, dtype_option, force_option
from reducio_codec.cli.paths import NEW_VIDEO, PICTURE, check_new
from reducio_codec.cli.progress import progress_bar
from reducio_codec.errors import InputError
from reducio_codec.weights.zoo import DEFAULT_GENERATOR

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
@click.option("--image", metavar="PICTURE", type=PICTURE, help="The picture to make move.")
@click.option("--prompt", metavar="TEXT", help="What shall happen; without --image, also what shall be seen.")
@click.option("-o", "--output", metavar="OUT.mp4", required=True, type=NEW_VIDEO, help="Video to write.")
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
@click.option("--picture-steps", type=click.IntRange(1), help="Steps of the text-to-image stage.  [default: its own]")
@click.option(
    "--picture-guidance", type=click.FloatRange(0), help="Guidance of the text-to-image stage.  [default: its own]"
)
@click.option("--seed", type=click.IntRange(0), help="The same seed makes the same video.  [default: a new one]")
@click.option("--lossless", is_flag=True, help="Write FFV1 in Matroska: exactly what was generated.")
@device_option
@dtype_option("auto")
@click.option("--threads", type=click.IntRange(1), help="CPU threads of the models.  [default: torch's own choice]")
@click.option("--offload", is_flag=True, help="Only the model whose turn it is takes memory: less of it, more time.")
@click.option("--offline", is_flag=True, help="Read names from local folders and caches only; fetch nothing.")
@force_option
@traceback_option
def command(
    image: Path | None,
    prompt: str | None,
    output: Path,
    model: str,
    seconds: float,
    size: tuple[int, int] | None,
    steps: int | None,
    guidance: float | None,
    guidance_of: Any,
    cache_blocks: int,
    sampler: Any,
    decoder: str | None,
    match_motion: bool,
    match_colour: bool,
    picture_steps: int | None,
    picture_guidance: float | None,
    seed: int | None,
    lossless: bool,
    threads: int | None,
    force: bool,
    **stages: Any,
) -> None:
    """Make a video from a picture, a text, or both (extra [generate])."""
    if image is None and prompt is None:
        raise InputError("neither --image nor --prompt is given; at least one is needed")
    check_new(output, force=force)
    import torch

    from reducio_codec.generate import ReducioDiTPipeline
    from reducio_codec.generate.continuation import FRAME_RATE
    from reducio_codec.io.files import check_output
    from reducio_codec.io.writer import VideoWriter

    if output.suffix and "%" not in output.name:
        check_output(output, inputs=() if image is None else (image,))
    if threads is not None:
        torch.set_num_threads(threads)
    pipeline = ReducioDiTPipeline.from_pretrained(model, **stages)
    seed = secrets.randbits(31) if seed is None else seed
    with progress_bar("generating") as (progress,):
        video = pipeline(
            prompt,
            image=image,
            seed=seed,
            seconds=seconds,
            height=None if size is None else size[1],
            width=None if size is None else size[0],
            steps=steps,
            guidance=guidance,
            guidance_of=guidance_of,
            cache_blocks=cache_blocks,
            sampler=sampler,
            decoder=decoder,
            match_motion=match_motion,
            match_colour=match_colour,
            picture_steps=picture_steps,
            picture_guidance=picture_guidance,
            progress=progress,
        )
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
    click.echo(f"{output}: {frames} frames, {width}x{height}, seed {seed}")
