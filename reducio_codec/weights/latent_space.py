"""Which latents a model speaks: all its decoders share them, and a retrained decoder still reads what is there.

Two questions, two identities: which encoder made a latent (``tensors_id``: what a generator learns from), and what has to be
known to read one (``decoding_id``: what a file depends on).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

ID_DIGITS = 16
"""Hex digits of an identity: it tells spaces apart, it signs nothing."""

_NO_PART_OF_IT = ("decoders.", "content.", "code.", "trunk.", "mend.")
"""Decoders share the encoder's latent space, and so does what all of them read the latent and the references with."""

_STATISTICS = "latent_"
"""Of each channel: ``latent_mean``, ``latent_std``."""


def decoding_id(tensors: Mapping[str, Tensor], config: Any, *, tables: str | None) -> str:
    """Identity of what decoding a file's latents needs: 16 hex digits.

    It is a hash over the latent's shape, its statistics as float32 and the coder's tables. The encoder's weights play no part,
    so a better encoder's files are read by every decoder of the space, and the other way round. Only a model without tables of
    its own, which nothing else tells from others like it, is identified by its encoder.

    Args:
        tensors, config: as for ``tensors_id``.
        tables: sha256 of the tables' file, None where there is none.
    """
    if tables is None:
        return tensors_id(tensors, config)
    kept = {key: value for key, value in tensors.items() if key.startswith(_STATISTICS)}
    return hashlib.sha256(f"{tensors_id(kept, config)} {tables}".encode()).hexdigest()[:ID_DIGITS]


def tensors_id(tensors: Mapping[str, Tensor], config: Any) -> str:
    """Identity of the latents that an encoder writes: 16 hex digits.

    It is a hash over the encoder's weights and the latent's statistics as float32, and the latent's shape: another set of
    decoders, or another stored precision of the decoders, does not change it.

    Args:
        tensors: a model's state dict, or as much of it as isn't decoders'.
        config: the model's configuration.
    """
    total = hashlib.sha256(
        f"{config.architecture} {config.latent_channels} {config.temporal_compression_ratio} "
        f"{config.spatial_compression_ratio}\n".encode()
    )
    for key in sorted(key for key in tensors if not key.startswith(_NO_PART_OF_IT)):
        values = tensors[key].detach().to("cpu", torch.float32).contiguous()
        total.update(f"{key} {tuple(values.shape)}\n".encode())
        total.update(values.numpy().astype("<f4", copy=False).tobytes())
    return total.hexdigest()[:ID_DIGITS]
