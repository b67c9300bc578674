"""``python -m bench macs``: multiplications that every decoder makes for a pixel, counted while it runs.

Those in convolutions and matrix products are counted; there are a hundred times as many of them as elsewhere. Clips of 64x64
pixels are decoded on the CPU by the bundled weights, where layers that no training touched are zero, and skipped. The paper's
network runs without numbers, at the size it was trained at, since its attention costs more in larger pictures.
"""

from __future__ import annotations

from collections.abc import Iterator

import click
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.markdown import markdown
from reducio_codec.config import CLIP_LENGTH, ReducioConfig
from reducio_codec.models.contract import CodecModel, Reference
from reducio_codec.models.reducio.vae import ReducioVAE
from reducio_codec.weights.zoo import load_pretrained

_MODEL, _SIDE, _PAPER_SIDE = "reducio-lite", 64, 256


def thousands(model: CodecModel, decoder: str, *, beside: bool, side: int, device: str = "cpu") -> float:
    """Thousands of multiplications for a pixel of a clip, with the key frame alone, or with those ``beside`` it as well."""
    config = model.config
    picture = torch.zeros(1, 3, side, side, device=device)
    latent = torch.zeros(1, config.latent_channels, 4, side // 32, side // 32, device=device)
    places = (-9, 7, 23) if beside else (7,)
    items = [Reference(picture=picture, place=place, beside=place != 7) for place in places]
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        model.decode(latent, model.decoder(decoder).select(items), decoder=decoder)
    return float(counter.get_total_flops()) / 2 / 1000 / (CLIP_LENGTH * side * side)


def rows() -> Iterator[tuple[str, str, str]]:
    """Of the table: a decoder, what it costs with the key frame alone, and with its neighbours'."""
    yield "thousand multiplications a pixel", "one key frame", "and its neighbours'"
    model, _ = load_pretrained(_MODEL)
    model.eval()
    for name in model.decoder_names:
        alone, beside = (thousands(model, name, beside=beside, side=_SIDE) for beside in (False, True))
        yield f"`{name}`", f"{alone:.1f}", f"{beside:.1f}" if model.decoder(name).uses_neighbours else ""
    with torch.device("meta"):
        paper = ReducioVAE(ReducioConfig()).eval()
    cost = thousands(paper, "attention", beside=False, side=_PAPER_SIDE, device="meta")
    yield f"the paper's, at {_PAPER_SIDE} px", f"{cost:,.0f}", ""


def table() -> str:
    return markdown(list(rows()))


@click.command()
def macs() -> None:
    """Multiplications a pixel of every decoder."""
    click.echo(table())
