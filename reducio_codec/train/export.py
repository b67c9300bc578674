"""A trained network as a model folder: unit-variance latents, fitted entropy tables, small weights, a card."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from reducio_codec.io.pixels import to_unit
from reducio_codec.models.contract import CodecModel
from reducio_codec.models.lite.blocks import SLOTS
from reducio_codec.models.lite.model import ReducioLite
from reducio_codec.rdc.tables import fit_tables
from reducio_codec.train.recipe import Recipe
from reducio_codec.weights.card import ModelCard
from reducio_codec.weights.io import save_model

_IDLE = 0.02
"""A channel with a standard deviation below this carries nothing; scaling it up would only code its noise."""
_TABLE_STEPS = (0.35, 0.7, 1.4)

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


def export(
    model: nn.Module,
    folder: Path,
    *,
    recipe: Recipe,
    widths: Tensor,
    clips: Iterable[Tensor],
    card: str,
    tables: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``folder``; ``model`` stays as it is.

    Args:
        widths: (z,), the quantiser's steps in training.
        clips: training clips (1, 3, 16, H, W) uint8, for the latent's statistics; none: no tables.
        card: text of the model card.
        tables: the coder's tables of the model whose frozen encoder this one has. Its latents must stay what they are, so
            nothing is fitted or scaled then.
    """
    network = copy.deepcopy(model).cpu().float().eval().requires_grad_(False)
    steps = widths.detach().flatten().cpu().clone()
    with torch.inference_mode():
        codec = cast(CodecModel, network)
        found = [] if tables else [codec.latent(codec.encode(to_unit(clip)).mode()) for clip in clips]
    entropy = tables
    if found:
        latents = torch.cat(found).clone()  # (N, z, t, h, w)
        if isinstance(network, ReducioLite):
            ratio = set_unit_variance(network, latents)
            latents, steps = latents / ratio[:, None, None, None], steps / ratio
        entropy = fit_tables(list(np.asarray(latents)), multipliers=steps.tolist(), steps=_TABLE_STEPS).to_json()
    return save_model(network, folder, card=card, dtype=DTYPES[recipe.export.dtype], entropy=entropy)


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
    for name, decoder in model.decoders.items():
        if name not in model.neighbour_decoders:  # those see the latent through warp alone
            decoder.trunk.in_conv.weight *= by_slot[None, :, None, None]  # type: ignore[union-attr, operator]
    return ratio


def card_text(recipe: Recipe, *, command: str, results: str) -> str:
    """A card that says what is known; who trains adds the rest."""
    return ModelCard(
        name=recipe.export.name,
        licence=recipe.export.licence,
        summary=f"Reducio-VAE ({recipe.model.architecture}) with the decoders {', '.join(recipe.model.decoders)}.",
        source=f"Trained by `{command}`. {results}",
    ).text()
