"""A sheet of generated clips to look at: a row of eight frames for each picture.

    python -m reducio_codec.generate.sheet PICTURES -m MODEL -o sheet.png

PICTURES are files, or folders of them. Each clip's seed is its row's number, so that sheets of two models compare. Rows that
can't be made are left out and named.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from PIL import Image

from reducio_codec.errors import InputError, VideoError
from reducio_codec.generate.command import OneLineErrors
from reducio_codec.generate.pictures import Picture, load_picture
from reducio_codec.generate.pipeline import ReducioDiTPipeline
from reducio_codec.generate.train.validate import spread
from reducio_codec.io.files import atomic_write
from reducio_codec.io.strips import clip_strip
from reducio_codec.weights.zoo import DEFAULT_GENERATOR


def find_pictures(sources: Sequence[Path]) -> list[Path]:
    """Files, and what Pillow can read by its name in folders, in order.

    Raises:
        InputError: a folder has none.
    """
    known = Image.registered_extensions()
    found: list[Path] = []
    for source in sources:
        files = [source]
        if source.is_dir():
            files = sorted(path for path in source.iterdir() if path.suffix.lower() in known)
            if not files:
                raise InputError(f"{source} has no picture")
        found += files
    return found


def rows(
    pipeline: ReducioDiTPipeline, pictures: Sequence[Path], *, side: int, left_out: dict[str, str]
) -> Iterator[tuple[str, Picture]]:
    """(label, clip (16, side, side, 3) uint8) of each picture that can be read; ``left_out`` takes the others' reasons."""
    for number, path in enumerate(pictures):
        try:
            picture = load_picture(path)
        except (InputError, VideoError) as error:
            left_out[str(path)] = str(error)
            continue
        yield f"{number}: {path.name}", pipeline(image=picture, seed=number, height=side, width=side)


@click.command(cls=OneLineErrors)
@click.argument("pictures", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="PNG to write.")
@click.option("-m", "--model", default=DEFAULT_GENERATOR, show_default=True, help="Name or folder.")
@click.option("--codec", help="Name or folder of the codec.  [default: the one that the transformer names]")
@click.option("--count", type=click.IntRange(1), default=16, show_default=True, help="Pictures, evenly spread.")
@click.option("--side", type=click.IntRange(32), default=256, show_default=True, help="Of the clips in pixels.")
def main(pictures: tuple[Path, ...], out: Path, model: str, codec: str | None, count: int, side: int) -> None:
    if out.suffix.lower() != ".png":
        raise InputError(f"--out is {os.fspath(out)!r}; it must end with .png")
    chosen = spread(find_pictures(pictures), count)
    pipeline = ReducioDiTPipeline.from_pretrained(model, codec=codec)
    left_out: dict[str, str] = {}
    with click.progressbar(length=len(chosen), label="clips", file=sys.stderr) as bar:
        clips = {}
        for label, clip in rows(pipeline, chosen, side=side, left_out=left_out):
            clips[label] = clip
            bar.update(1)
    for name, why in left_out.items():
        click.echo(f"left out {name}: {why}", err=True)
    if not clips:
        raise InputError(f"none of {len(chosen)} pictures can be read")
    with atomic_write(out) as file:
        Image.fromarray(clip_strip(clips)).save(file, "PNG")
    click.echo(f"{out}: {len(clips)} clips")


if __name__ == "__main__":
    main()
