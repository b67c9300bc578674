"""Start the transformer from PixArt-alpha (Sec. 4.1): its blocks, its time embedding and its text layers fit as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from reducio_codec.errors import InputError, WeightsError
from reducio_codec.generate.dit import ReducioDiT
from reducio_codec.generate.optional import diffusers

DEFAULT_PIXART = "PixArt-alpha/PixArt-XL-2-256x256"

_TOP = {
    "time.time.0": "adaln_single.emb.timestep_embedder.linear_1",
    "time.time.2": "adaln_single.emb.timestep_embedder.linear_2",
    "modulation.1": "adaln_single.linear",
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
) -> list[str]:
    """Copy what fits into ``model`` and return the names of its tensors that were set.

    Patches, positions, size embeddings and the layers of picture conditions have no counterpart and stay as they are. A
    model with fewer blocks takes the first ones.

    Args:
        name_or_folder: a transformer in diffusers' layout, or a whole pipeline with a folder ``transformer``.

    Raises:
        WeightsError: it can't be loaded. InputError: it has another width or fewer blocks.
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
    own = model.state_dict()
    fitting = {
        key: value
        for key, value in _translated(source.state_dict(), depth=model.config.depth)
        if key in own and own[key].shape == value.shape
    }
    with torch.no_grad():
        for key, value in fitting.items():
            own[key].copy_(value)
    return sorted(fitting)


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


def _translated(tensors: Mapping[str, Tensor], *, depth: int) -> Iterator[tuple[str, Tensor]]:
    for kind in ("weight", "bias"):
        for ours, theirs in _TOP.items():
            if f"{theirs}.{kind}" in tensors:
                yield f"{ours}.{kind}", tensors[f"{theirs}.{kind}"]
        for number in range(depth):
            for ours, parts in _BLOCK.items():
                rows = [tensors[f"transformer_blocks.{number}.{part}.{kind}"] for part in parts]
                yield f"blocks.{number}.{ours}.{kind}", torch.cat(rows)
    yield "offset_out", tensors["scale_shift_table"]
    for number in range(depth):
        yield f"blocks.{number}.offset", tensors[f"transformer_blocks.{number}.scale_shift_table"]
