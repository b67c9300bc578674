"""What a packed training left, as a model folder that the codec loads.

    python -m reducio_codec.train.packed.export RUN --tables LITE --out FOLDER
    python -m reducio_codec.train.packed.export RUN --pack PACK --out FOLDER
    python -m reducio_codec.train.packed.export RUN --take linear=OTHER_RUN --tables LITE --out FOLDER

The first is for a frozen encoder: its latents, and so the coder's tables, stay what they are. Otherwise both are fitted anew.
The third joins what was trained side by side over the same frozen parts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import torch
from torch import Tensor

from reducio_codec.train.export import export
from reducio_codec.train.packed.data import Sampler, open_pack
from reducio_codec.train.packed.parts import folders_by_decoder, load_weights
from reducio_codec.weights.card import ModelCard
from reducio_codec.weights.layout import ENTROPY_FILE

_CLIPS = 96


def _clips(pack: Path) -> Iterator[Tensor]:
    sampler = Sampler(open_pack(pack), seed=1)
    for number in range(_CLIPS):
        yield sampler.batch(number, size=1, side=256).video


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option("--tables", type=click.Path(path_type=Path), default=None, help="Model folder whose coder's tables stay.")
@click.option("--pack", type=click.Path(path_type=Path), default=None, help="Packed training scenes to fit tables to.")
@click.option("--take", multiple=True, help="NAME=RUN: a decoder from another training over the same shared parts.")
def main(run: Path, out: Path, tables: Path | None, pack: Path | None, take: tuple[str, ...]) -> None:
    if (tables is None) == (pack is None):
        raise click.UsageError("give either --tables or --pack")
    model, widths = load_weights(run, taken=folders_by_decoder(take))
    card = ModelCard(
        name="reducio-lite",
        licence="mit",
        summary=f"Small motion-latent codec with the decoders {', '.join(model.config.decoders)}.",
        source="Trained by `python -m reducio_codec.train.packed`.",
    )
    export(
        model,
        out,
        dtype=torch.float16,
        widths=widths,
        clips=() if pack is None else _clips(pack),
        card=card.text(),
        tables=None if tables is None else json.loads((tables / ENTROPY_FILE).read_text()),
    )


if __name__ == "__main__":
    main()
