"""Options that the protocols' commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from reducio_codec.config import DTYPES
from reducio_codec.metrics.fvd import I3D_SHA256
from reducio_codec.weights.zoo import DEFAULT_GENERATOR

_SIZE = re.compile(r"([1-9]\d*)x([1-9]\d*)")


def size_callback(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    found = _SIZE.fullmatch(value)
    if found is None:
        raise click.BadParameter(f"{value!r} is not WIDTHxHEIGHT, such as 512x512", ctx, parameter)
    return int(found[1]), int(found[2])


FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)

_GENERATION = (
    click.option("-m", "--model", default=DEFAULT_GENERATOR, show_default=True, help="Transformer, name or folder."),
    click.option("--codec", help="Name or folder.  [default: the one that the transformer names]"),
    click.option("--text-encoder", metavar="FOLDER|NAME", help="T5 for models that take text."),
    click.option("--image-encoder", metavar="FOLDER|NAME", help="OpenCLIP model for models that take semantic tokens."),
    click.option("--text-to-image", metavar="FOLDER|NAME", help="Makes the key pictures from the prompts."),
    click.option("--steps", type=click.IntRange(1), help="Of the sampler.  [default: 20; a student's own]"),
    click.option(
        "--guidance", type=click.FloatRange(0), help="Of the sampler.  [default: 2.5; a student has its inside]"
    ),
    click.option(
        "--guidance-of",
        type=click.Choice(["all", "text"]),
        default="all",
        show_default=True,
        help="What guidance strengthens: picture and text, or the text alone.",
    ),
    click.option("--picture-steps", type=click.IntRange(1), help="Of the text-to-image stage.  [default: its own]"),
    click.option(
        "--picture-guidance", type=click.FloatRange(0), help="Of the text-to-image stage.  [default: its own]"
    ),
    click.option(
        "--sampler", type=click.Choice(["dpm++", "unipc", "ddim", "euler", "heun"]), help="The model's default."
    ),
    click.option("--decoder", help="One of the codec's.  [default: the codec's choice]"),
    click.option(
        "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the choice and of all clips."
    ),
    click.option("--batch", type=click.IntRange(1), default=4, show_default=True, help="Clips made at once."),
    click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N."),
    click.option(
        "--dtype",
        "--precision",
        "precision",
        type=click.Choice(["auto", *DTYPES]),
        default="auto",
        show_default=True,
        help="What the models compute in.",
    ),
    click.option("--offload", is_flag=True, help="Only the model whose turn it is takes memory."),
    click.option("--offline", is_flag=True, help="Fetch nothing."),
    click.option(
        "-o",
        "--out",
        type=FOLDER,
        required=True,
        help="Folder of clips (0.8 MB each at 256 px), features and result.json.",
    ),
)
side_option = click.option("--side", type=click.IntRange(32), help="Of the clips in pixels.  [default: the model's]")
i3d_option = click.option(
    "--i3d", type=FILE, help="i3d_torchscript.pt, for FVD.  [default: torch's or the hub's cache]"
)
i3d_sha256_option = click.option(
    "--i3d-sha256",
    default=I3D_SHA256,
    help="Another hash that I3D's file must have; its distances compare with no published one.",
)


def generation_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options of all commands."""
    for option in reversed(_GENERATION):
        function = option(function)
    return function
