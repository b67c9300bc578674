"""Start the transformer from PixArt-alpha (Sec. 4.1): its blocks, its time embedding and its text layers fit as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from reducio_codec.errors import InputError, WeightsError
from reducio_codec.generate.dit import ReducioDiT
from reducio_codec.generate.optional import diffusers
from reducio_codec.generate.started import Started

DEFAULT_PIXART = "PixArt-alpha/PixArt-XL-2-256x256"

_TOP = {
    "time.time.0": "adaln_single.emb.timestep_embedder.linear_1",
    "time.time.2": "adaln_single.emb.timestep_embedder.linear_2",
    "modulation.1": "adaln_single.linear",
    **{
        f"time.size.{kind}.{layer}": f"adaln_single.emb.{kind}_embedder.linear_{1 + layer // 2}"
        for kind in ("resolution", "aspect_ratio")
        for layer in (0, 2)
    },
    "text_in.0": "caption_projection.linear_1",
    "text_in.2": "caption_projection.linear_2",
}
_BLOCK = {
    "attn.qkv": ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
    "attn.proj": ("attn1.to_out.0",),
    "cross.q": ("attn2.to_q",),
    "cross.kv": ("attn2.to_k", "attn2.to_v"),
    "cross.proj": ("attn2.to_out.0",),
    "mlp.0": ("ff.net.0.proj",),
    "mlp.2": ("ff.net.2",),
}
"""Layers of ours, and those of diffusers' PixArtTransformer2DModel whose rows they have, one after another."""


def start_from_pixart(
    model: ReducioDiT, name_or_folder: str | Path = DEFAULT_PIXART, *, offline: bool = False
) -> Started:
    """Copy what fits into ``model`` and say which tensors that is.

    Patches (another latent), the half of the output that is the noise's spread, and the layers of picture conditions have no
    counterpart and stay as they are; sizes have one in the weights for 1024 pixels. A model with fewer blocks takes the first
    ones.

    Args:
        name_or_folder: a transformer in diffusers' layout, or a whole pipeline with a folder ``transformer``.

    Raises:
        WeightsError: it can't be loaded. InputError: it has another width or fewer blocks, or counts places otherwise.
    """
    name = str(name_or_folder)
    alone = (Path(name_or_folder) / "config.json").is_file()
    try:
        source = diffusers().PixArtTransformer2DModel.from_pretrained(
            name, subfolder=None if alone else "transformer", local_files_only=offline, use_safetensors=True
        )
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise WeightsError(
            f"PixArt-alpha's transformer {name!r} can't be loaded: {reason}. Fetch the folder transformer of "
            f"{DEFAULT_PIXART} (config.json and diffusion_pytorch_model.safetensors), and pass that folder"
        ) from error
    _check_shape(model, source.config, name=name)
    own, found = model.state_dict(), source.state_dict()
    taken: set[str] = set()
    used: set[str] = set()
    with torch.no_grad():
        for key, parts in _counterparts(found, depth=model.config.depth):
            rows = torch.cat([found[part] for part in parts])
            if key in own and own[key].shape == rows.shape:
                own[key].copy_(rows)
                taken.add(key)
                used.update(parts)
    return Started(
        taken=tuple(sorted(taken)), kept=tuple(sorted(set(own) - taken)), unused=tuple(sorted(set(found) - used))
    )


def _check_shape(model: ReducioDiT, found: Mapping[str, object], *, name: str) -> None:
    config = model.config
    heads, channels, depth = (
        int(str(found[key])) for key in ("num_attention_heads", "attention_head_dim", "num_layers")
    )
    if (config.width, config.heads) != (heads * channels, heads):
        raise InputError(
            f"{name!r} has width {heads * channels} and {heads} heads; the model has {config.width} and {config.heads}"
        )
    if depth < config.depth:
        raise InputError(f"{name!r} has {depth} blocks; the model has {config.depth}")
    if config.embeddings != "pixart":
        raise InputError(f"the model's embeddings are {config.embeddings!r}; PixArt-alpha's weights need 'pixart'")
    side, patch = int(str(found["sample_size"])), int(str(found["patch_size"]))
    scale = int(str(found["interpolation_scale"])) if found["interpolation_scale"] else max(side // 64, 1)
    if side // patch / scale != config.place_reach:
        raise InputError(
            f"{name!r} counts places up to {side // patch / scale:g}; the model has place_reach {config.place_reach}"
        )


def _counterparts(tensors: Mapping[str, Tensor], *, depth: int) -> Iterator[tuple[str, list[str]]]:
    """Names of our tensors, each with those of PixArt's that it is made of, one after another."""
    for kind in ("weight", "bias"):
        for ours, theirs in _TOP.items():
            if f"{theirs}.{kind}" in tensors:
                yield f"{ours}.{kind}", [f"{theirs}.{kind}"]
        for number in range(depth):
            for ours, parts in _BLOCK.items():
                yield f"blocks.{number}.{ours}.{kind}", [f"transformer_blocks.{number}.{part}.{kind}" for part in parts]
    yield "offset_out", ["scale_shift_table"]
    for number in range(depth):
        yield f"blocks.{number}.offset", [f"transformer_blocks.{number}.scale_shift_table"]
