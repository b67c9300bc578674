"""Makes a model folder of a training checkpoint: unit-variance latents, fitted entropy tables, float16 weights.

python -m reducio_codec.train.export runs/lite/latest.pt --data VIDEOS --card CARD.md --out FOLDER
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

from reducio_codec.bitstream.tables import fit_tables
from reducio_codec.config import LiteConfig
from reducio_codec.models.lite import ReducioLite
from reducio_codec.models.lite_blocks import SLOTS
from reducio_codec.train.data import ClipSampler, load_videos
from reducio_codec.train.lite import step_multipliers
from reducio_codec.weights.io import save_model

_SAMPLES = 96
_IDLE = 0.02
"""A channel with a standard deviation below this carries nothing; scaling it up would only code its noise."""


@torch.no_grad()
def sample_latents(model: ReducioLite, sampler: ClipSampler, *, clips: int = _SAMPLES) -> Tensor:
    """(clips, 16, 4, 8, 8): normalised latents of training clips at 256 px."""
    videos = (sampler.batch(1_000_000 + i, size=1, side=256) for i in range(clips))
    return torch.cat([model.latent(model.encode(video).mode()) for video in videos])


@torch.no_grad()
def set_unit_variance(model: ReducioLite, latents: Tensor) -> Tensor:
    """Changes the latent's fixed statistics so that ``latents`` would have had unit variance; what the model computes
    from pixels to pixels stays the same.

    Returns:
        (16,): how many times larger each channel's standard deviation now is taken to be.
    """
    ratio = latents.square().mean((0, 2, 3, 4)).sqrt()
    ratio = torch.where(ratio < _IDLE, torch.ones_like(ratio), ratio)
    model.latent_std *= ratio
    by_slot = ratio.repeat(SLOTS)  # channels of a slot lie side by side
    model.encoder.out_conv.weight /= by_slot[:, None, None, None]
    assert model.encoder.out_conv.bias is not None
    model.encoder.out_conv.bias /= by_slot
    for decoder in model.decoders.values():
        decoder.trunk.in_conv.weight *= by_slot[None, :, None, None]  # type: ignore[union-attr, operator]
    return ratio


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--data", required=True, help="Training videos, for the latent's statistics.")
@click.option("--cache", type=click.Path(path_type=Path), required=True, help="Folder of the decoded videos.")
@click.option("--card", type=click.Path(path_type=Path), required=True, help="Model card to copy into the folder.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(checkpoint: Path, data: str, cache: Path, card: Path, out: Path) -> None:
    model = ReducioLite(LiteConfig())
    model.load_state_dict(torch.load(checkpoint, weights_only=True)["ema"])
    model.eval()
    sampler = ClipSampler(load_videos(data, cache=cache / "train.bin"))
    latents = sample_latents(model, sampler)
    ratio = set_unit_variance(model, latents)
    latents = latents / ratio[:, None, None, None]
    multipliers = step_multipliers(model, ratio=ratio)
    tables = fit_tables(list(np.asarray(latents)), multipliers=multipliers.tolist(), steps=(0.35, 0.7, 1.4))
    save_model(model, out, card=card.read_text(), dtype=torch.float16, entropy=tables.to_json())


if __name__ == "__main__":
    main()
