"""Options that several commands share, and what turns them into a codec."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeVar, cast, get_args

import click

from reducio_codec.coding.options import MAX_EFFORT, EncodeOptions, KeyframeChoice, Keyframes
from reducio_codec.config import DTYPES, attribute_docs
from reducio_codec.rdc.ranges import KEYFRAME_CODECS, STEP_RANGE

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


device_option = click.option(
    "--device", default="cpu", show_default=True, help="Where the models run: cpu, cuda or cuda:N."
)


def dtype_option(default: str) -> Callable[[Function], Function]:
    """``--dtype``, whose value every ``dtype`` argument takes."""
    return click.option(
        "--dtype",
        "--precision",
        "dtype",
        type=click.Choice(["auto", *DTYPES]),
        default=default,
        show_default=True,
        help="What the models compute in; auto is bfloat16 where the device multiplies it natively.",
    )


def codec_options(function: Function) -> Function:
    """Where and how the model runs. All commands that run a model take these."""
    options = (
        device_option,
        dtype_option("auto"),
        click.option(
            "--tile-size",
            metavar="PIXELS|auto",
            callback=_tile_size,
            help="Side of the tiles that larger pictures are cut into, a multiple of 32 pixels; auto fits free memory.  "
            "[default: the model's, 256 or 1952]",
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


class KeyframesType(click.ParamType[Any]):
    """A number, or auto."""

    name = "auto|1|2|4|8|16"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value not in map(str, get_args(Keyframes)):
            self.fail(f"{value!r} is not one of auto, 1, 2, 4, 8, 16", param, ctx)
        return value if value == "auto" else int(value)


_CODING = (
    ("--quality", "keyframe_quality", click.IntRange(0, 100)),
    ("--step", "latent_step", click.FloatRange(*STEP_RANGE)),
    ("--target-kbps", "target_kbps", float),
    ("--target-psnr", "target_psnr", float),
    ("--target-lpips", "target_lpips", float),
    ("--effort", "effort", click.IntRange(0, MAX_EFFORT)),
    ("--keyframe", "keyframe", click.Choice(get_args(KeyframeChoice))),
    ("--keyframes", "keyframes", KeyframesType()),
    ("--seek-every", "seek_every", float),
    ("--keyframe-codec", "keyframe_codec", click.Choice(KEYFRAME_CODECS)),
)
"""Option, the attribute of ``EncodeOptions`` that it gives, and its values."""


def coding_options(function: Function) -> Function:
    """How a video is coded. The command gets what was given as ``coding``: keywords of ``ReducioCodec.compress``."""
    docs = attribute_docs(EncodeOptions)

    @functools.wraps(function)
    def gathered(**values: Any) -> Any:
        found = {attribute: values.pop(attribute) for _, attribute, _ in _CODING}
        return function(coding={name: value for name, value in found.items() if value is not None}, **values)

    command: Callable[..., Any] = gathered
    for option, attribute, kind in reversed(_CODING):
        command = click.option(option, attribute, type=kind, help=docs[attribute])(command)
    return cast(Function, command)


model_option = click.option(
    "-m",
    "--model",
    default="reducio-lite",
    show_default=True,
    help="A bundled name (see 'models'), a model folder or that of its training run, or org/name on the hub.",
)

references_option = click.option(
    "--references",
    type=click.IntRange(1, 2),
    help="Key frames for each clip: 1, its own, or 2, those of the clips before and after, too.  "
    "[default: 2 where the decoder makes use of them]",
)

force_option = click.option("-f", "--force", is_flag=True, help="Replace output files that exist.")


def open_codec(
    model: str,
    *,
    device: str,
    dtype: Any,
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
        dtype=dtype,
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
    from reducio_codec.weights.zoo import bundled_name

    name = "standard input" if not isinstance(source, Path) else str(source)
    opened = check_file(source, allowed="an .rdc file").open("rb") if isinstance(source, Path) else nullcontext(source)
    with opened as file:
        try:
            header = RdcReader(file).header
        except FormatError as error:
            raise FormatError(f"{name}: {error}") from error
    found = bundled_name(header.model, version=header.version)
    if found is None:
        raise WeightsError(
            f"{name} was made with the model {header.model!r} (latent space {header.latent_space}), which isn't bundled; "
            "give its folder or hub name with --model"
        )
    return found
