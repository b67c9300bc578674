"""A trained network as a model folder: unit-variance latents, fitted entropy tables, small weights, a card."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reducio_codec.io.pixels import to_unit
from reducio_codec.models.contract import CodecModel
from reducio_codec.models.precision import Dtype
from reducio_codec.rdc.fit import fit_tables
from reducio_codec.train.recipe import Recipe
from reducio_codec.weights.card import ModelCard
from reducio_codec.weights.io import save_model
from reducio_codec.weights.layout import model_name

_TABLE_STEPS = (0.35, 0.7, 1.4)


def export(
    model: CodecModel,
    folder: Path,
    *,
    dtype: Dtype,
    widths: Tensor,
    clips: Iterable[Tensor],
    card: str,
    tables: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``folder``; ``model`` stays as it is.

    Args:
        dtype: what weights are stored as.
        widths: (z,), the quantiser's steps in training.
        clips: training clips (1, 3, 16, H, W) uint8, for the latent's statistics; none: no tables.
        card: text of the model card.
        tables: the coder's tables of the model whose frozen encoder this one has. Its latents must stay what they are, so
            nothing is fitted or scaled then.
    """
    network = copy.deepcopy(model).cpu().float().eval().requires_grad_(False)
    steps = widths.detach().flatten().cpu().clone()
    with torch.inference_mode():
        found = [] if tables else [network.latent(network.encode(to_unit(clip)).mode()) for clip in clips]
    entropy = tables
    if found:
        latents = torch.cat(found).clone()  # (N, z, t, h, w)
        ratio = network.set_unit_variance(latents)
        latents, steps = latents / ratio[:, None, None, None], steps / ratio
        entropy = fit_tables(list(np.asarray(latents)), multipliers=steps.tolist(), steps=_TABLE_STEPS).to_json()
    return save_model(network, folder, card=card, dtype=dtype, entropy=entropy)


def card_text(recipe: Recipe, folder: Path, *, command: str, results: str) -> str:
    """A card that says what is known; who trains adds the rest."""
    return ModelCard(
        name=recipe.export.name or model_name(folder),
        licence=recipe.export.licence,
        summary=f"Reducio-VAE ({recipe.model.architecture}) with the decoders {', '.join(recipe.model.decoders)}.",
        source=f"Trained by `{command}`. {results}",
    ).text()
