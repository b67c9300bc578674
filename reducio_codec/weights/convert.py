"""Published checkpoints to model folders. The only place that reads a pickle, and only with ``weights_only=True``.

The published files are Lightning checkpoints; their key names follow latent diffusion's. The configuration isn't in them
and is inferred from keys and shapes. Whatever doesn't fit exactly is refused by name: a checkpoint that loads partly
decodes to something that looks almost right.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from reducio_codec.config import FusionName, ReducioConfig
from reducio_codec.errors import InputError, WeightsError
from reducio_codec.io.files import check_input
from reducio_codec.models.reducio.fusion import time_embedding
from reducio_codec.models.reducio.vae import ReducioVAE
from reducio_codec.weights.card import ModelCard
from reducio_codec.weights.io import save_model

_UNUSED = ("encoder_2d.mid.block_2.", "encoder_2d.norm_out.")
"""The published content encoder computes these and throws the result away."""

_Shapes = Mapping[str, tuple[int, ...]]


def convert_checkpoint(checkpoint: str | Path, folder: str | Path) -> Path:
    """Write the model folder of a published checkpoint, and return the folder.

    Args:
        checkpoint: a Lightning checkpoint, or a bare dictionary of tensors, as ``torch.save`` writes it.
        folder: made if missing.

    Raises:
        WeightsError: it isn't a checkpoint of this model; the message names the first key that doesn't fit.
    """
    path = check_input(checkpoint)
    model = from_published(read_checkpoint(path))
    card = ModelCard(
        name=Path(folder).name,
        licence="unknown",
        summary=f"Reducio-VAE with the decoder {model.default_decoder}, converted from {path.name}.",
        source=f"Converted by `reducio-codec convert` from {path.name}. The published code is under the MIT licence; "
        "the licence of the weights is for whoever published them to say.",
    )
    return save_model(model, folder, card=card.text())


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The model's tensors by their published names, without the loss's and the optimizer's."""
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(f"{path} holds more than tensors, or isn't a checkpoint; code in it is never run") from error
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        raise WeightsError(f"{path} isn't a readable checkpoint: {str(error).splitlines()[0]}") from error
    state = data.get("state_dict", data) if isinstance(data, dict) else None
    if not isinstance(state, dict) or not state:
        raise WeightsError(f"{path} holds no state_dict; it holds a {type(data).__name__}")
    tensors = {str(key).removeprefix("module."): value for key, value in state.items() if isinstance(value, Tensor)}
    return {key: value for key, value in tensors.items() if not key.startswith("loss.")}


def from_published(state: Mapping[str, Tensor]) -> ReducioVAE:
    """The model with weights by their published names, in eval mode. WeightsError names the first that doesn't fit."""
    config = infer_config({key: tuple(value.shape) for key, value in state.items()})
    fusion = config.decoders[0]
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.endswith(".pos_embed"):
            _check_embedding(key, value)
        elif not key.startswith(_UNUSED):
            renamed[_our_name(key, fusion=fusion)] = value.float()
    with torch.device("meta"):
        model = ReducioVAE(config)
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    _refuse([key for key in expected if key not in renamed], "is missing")
    _refuse([key for key in renamed if key not in expected], "isn't part of the model that its other keys describe")
    _refuse([key for key in expected if tuple(renamed[key].shape) != expected[key]], "has an unexpected shape")
    model.load_state_dict(renamed, strict=True, assign=True)
    return model.requires_grad_(False).eval()


def infer_config(shapes: _Shapes) -> ReducioConfig:
    """The configuration that published keys and shapes describe."""
    try:
        base, content_base = shapes["encoder_3d.conv_in.weight"][0], shapes["encoder_2d.conv_in.weight"][0]
        downsamples = [
            shapes[f"encoder_3d.down.{level}.downsample.conv.weight"]
            for level in range(_count(shapes, r"encoder_3d\.down\.(\d+)\.") - 1)
        ]
        fused = sorted({int(match[1]) for key in shapes if (match := re.match(r"decoder\.up\.(\d+)\.fuse\.", key))})
        return ReducioConfig(
            temporal_compression_ratio=2 ** sum(shape[2] == 3 for shape in downsamples),
            spatial_compression_ratio=2 ** len(downsamples),
            latent_channels=shapes["post_quant_conv.weight"][0],
            decoders=(_fusion(shapes, fused),),
            base_channels=base,
            channel_multipliers=_multipliers(shapes, "encoder_3d", base),
            depth=_count(shapes, r"encoder_3d\.down\.0\.block\.(\d+)\."),
            content_channels=content_base,
            content_multipliers=_multipliers(shapes, "encoder_2d", content_base),
            content_depth=_count(shapes, r"encoder_2d\.down\.0\.block\.(\d+)\."),
            fuse_levels=tuple(fused) or ReducioConfig.fuse_levels,
        )
    except KeyError as error:
        raise WeightsError(f"not a checkpoint of Reducio-VAE: {error.args[0]} is missing") from error
    except (InputError, IndexError) as error:
        raise WeightsError(f"not a checkpoint of Reducio-VAE: {error}") from error


def _count(shapes: _Shapes, pattern: str) -> int:
    found = [int(match[1]) for key in shapes if (match := re.match(pattern, key))]
    return max(found, default=-1) + 1


def _multipliers(shapes: _Shapes, prefix: str, base: int) -> tuple[int, ...]:
    levels = range(_count(shapes, rf"{prefix}\.down\.(\d+)\."))
    return tuple(shapes[f"{prefix}.down.{level}.block.0.conv1.weight"][0] // base for level in levels)


def _fusion(shapes: _Shapes, levels: list[int]) -> FusionName:
    if not levels:
        return "none" if not any(".fuse." in key for key in shapes) else "attention"
    first = f"decoder.up.{levels[0]}.fuse.0."
    if f"{first}attn.to_q.weight" in shapes:
        return "attention"
    return "add" if f"{first}temp_embed" in shapes else "linear"


def _our_name(key: str, *, fusion: str) -> str:
    key = key.replace(".fuse.0.attn.", ".fuse.").replace(".fuse.0.", ".fuse.").replace(".to_out.0.", ".to_out.")
    for published, ours in (
        ("encoder_3d.", "encoder."),
        ("encoder_2d.", "content."),
        ("decoder.", f"decoders.{fusion}."),
        ("post_quant_conv.", f"decoders.{fusion}.post_quant_conv."),
    ):
        if key.startswith(published):
            return ours + key[len(published) :]
    return key


def _check_embedding(key: str, value: Tensor) -> None:
    """The fixed sinusoid is made, not loaded, so it must be the one that would be made."""
    if value.ndim != 4 or not torch.allclose(value.float(), time_embedding(value.shape[1], value.shape[3]), atol=1e-3):
        raise WeightsError(f"{key} isn't the fixed embedding that this model has")


def _refuse(keys: list[str], why: str) -> None:
    if keys:
        raise WeightsError(f"not a checkpoint that can be converted: {keys[0]} {why} ({len(keys)} such keys)")
