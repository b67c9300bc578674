"""Options that several commands share, and what turns them into a codec."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeVar, cast

import click
from click.core import ParameterSource

from reducio_codec.errors import InputError

if TYPE_CHECKING:
    from reducio_codec import ReducioCodec

Function = TypeVar("Function", bound=Callable[..., Any])


def _tile_size(ctx: click.Context, parameter: click.Parameter, value: str | None) -> int | Literal["auto"] | None:
    if value is None:
        return None
    if value == "auto":
        return "auto"
    try:
        return int(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is neither a number of pixels nor 'auto'", ctx, parameter) from None


def codec_options(function: Function) -> Function:
    """Where and how the model runs. All commands that run a model take these."""
    options = (
        click.option("--device", default="cpu", show_default=True, help="Where the model runs: cpu, cuda or cuda:N."),
        click.option(
            "--precision",
            type=click.Choice(["float32", "bfloat16", "float16", "auto"]),
            default="auto",
            show_default=True,
            help="What the model computes in; auto is bfloat16 where the device multiplies it natively.",
        ),
        click.option(
            "--tile-size",
            metavar="PIXELS|auto",
            callback=_tile_size,
            help="Side of the tiles that larger pictures are cut into, a multiple of 32 pixels; auto fits free memory.  "
            "[default: the model's, 256 or 384]",
        ),
        click.option(
            "--tile-overlap",
            type=click.IntRange(0),
            help="Pixels that tiles share, a multiple of 32, at most half a tile.  [default: the model's, 64]",
        ),
        click.option(
            "--threads", type=click.IntRange(1), help="CPU threads of the model.  [default: torch's own choice]"
        ),
        click.option("--compile", is_flag=True, help="Compile the model first: a slow start, then faster clips."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def rate_options(function: Function) -> Function:
    """What decides the size of a file. The command gets it as ``coding``: arguments of ``ReducioCodec.compress``."""
    options = (
        click.option(
            "--quality",
            type=click.IntRange(0, 100),
            default=50,
            show_default=True,
            help="Quality of the key frames, 0 (smallest) to 100; png is lossless and has none.",
        ),
        click.option(
            "--step",
            type=click.FloatRange(1 / 64, 16),
            default=0.5,
            show_default=True,
            help="Quantiser step of the motion latent, in its standard deviations; smaller is finer.",
        ),
        click.option("--target-kbps", type=float, help="Wanted rate without sound, instead of --quality and --step."),
        click.option("--target-psnr", type=float, help="Wanted PSNR of each clip in dB, likewise."),
        click.option(
            "--effort",
            type=click.IntRange(0, 1000),
            default=0,
            show_default=True,
            help="Gradient steps that refine each clip's latent: better at about equal bits, slower to write. Try 4.",
        ),
        click.option(
            "--keyframe",
            type=click.Choice(["middle", "best"]),
            default="middle",
            show_default=True,
            help="Where a clip's key frame is; best tries three places.",
        ),
        click.option(
            "--keyframe-group",
            type=click.IntRange(1, 16),
            help="Clips whose key frames are coded together, each predicted from those before it.  [default: 4; 1 with "
            "another codec than avif, or 4K]",
        ),
        click.option(
            "--keyframe-codec",
            type=click.Choice(["avif", "webp", "jpeg", "png"]),
            default="avif",
            show_default=True,
            help="Format of the key frames inside the file.",
        ),
    )

    @functools.wraps(function)
    def gathered(*, quality: int, step: float, **values: Any) -> Any:
        names = ("target_kbps", "target_psnr", "effort", "keyframe", "keyframe_group", "keyframe_codec")
        coding = {"keyframe_quality": quality, "latent_step": step, **{name: values.pop(name) for name in names}}
        if coding["keyframe_codec"] == "png":
            _refuse_given("quality", because="--keyframe-codec png is lossless")
        if coding["target_kbps"] is not None or coding["target_psnr"] is not None:
            _refuse_given("quality", "step", because="a target searches for it")
        return function(coding=coding, **values)

    command: Callable[..., Any] = gathered
    for option in reversed(options):
        command = option(command)
    return cast(Function, command)


def _refuse_given(*names: str, because: str) -> None:
    """Refuse options that were given and would do nothing."""
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise InputError(f"--{name} has no effect: {because}")


model_option = click.option(
    "-m",
    "--model",
    default="reducio-lite",
    show_default=True,
    help="A bundled name (see 'models'), a model folder, or org/name on the hub.",
)

references_option = click.option(
    "--references",
    type=click.IntRange(1, 2),
    help="Key frames for each clip: 1, its own, or 2, those of the clips before and after, too.  "
    "[default: 2 where the model has a decoder for it]",
)

force_option = click.option("-f", "--force", is_flag=True, help="Replace output files that exist.")


def open_codec(
    model: str,
    *,
    device: str,
    precision: str,
    tile_size: int | Literal["auto"] | None,
    tile_overlap: int | None,
    threads: int | None,
    compile: bool,
    decoders: Sequence[str] | None = None,
) -> ReducioCodec:
    """The codec that the options describe."""
    import torch

    from reducio_codec import ReducioCodec

    if threads is not None:
        torch.set_num_threads(threads)
    return ReducioCodec.from_pretrained(
        model,
        decoders=decoders,
        device=device,
        dtype="auto" if precision == "auto" else getattr(torch, precision),
        tile_size=tile_size,
        tile_overlap=tile_overlap,
        compile=compile,
    )


def needed_decoders(decoder: str | None) -> tuple[str, ...] | None:
    """What to load for one decoder: itself, and what it adds to. None: all."""
    if decoder is None:
        return None
    return (decoder,)


def model_of(source: Path | BinaryIO) -> str:
    """The bundled model that an .rdc file names. A file can't make this program open or fetch any other."""
    from reducio_codec.errors import FormatError, WeightsError
    from reducio_codec.io.files import check_file
    from reducio_codec.rdc.reader import RdcReader
    from reducio_codec.weights.zoo import find_entry

    name = "standard input" if not isinstance(source, Path) else str(source)
    opened = check_file(source, allowed="an .rdc file").open("rb") if isinstance(source, Path) else nullcontext(source)
    with opened as file:
        try:
            header = RdcReader(file).header
        except FormatError as error:
            raise FormatError(f"{name}: {error}") from error
    newest, exact = find_entry(header.model), find_entry(f"{header.model}@{header.version}")
    if newest is None:
        raise WeightsError(
            f"{name} was made with the model {header.model!r} (latent space {header.latent_space}), which isn't bundled; "
            "give its folder or hub name with --model"
        )
    return header.model if exact is None or exact == newest else f"{header.model}@{header.version}"
