"""Which latents a codec speaks: a transformer is of use with the codec it was trained with, and with no other."""

from __future__ import annotations

import hashlib
from typing import cast

import torch
from torch import nn

from reducio_codec.errors import InputError, WeightsError
from reducio_codec.generate.config import DiTConfig
from reducio_codec.models.interface import CodecModel

ID_DIGITS = 16
"""Hex digits of an identity: it tells spaces apart, it signs nothing."""

_NO_PART_OF_IT = ("decoders.", "content.")
"""Decoders share the encoder's latent space, and so does what they read the key frame with."""


def latent_space_id(model: CodecModel) -> str:
    """Identity of the space that ``model.encode`` writes and its decoders read: 16 hex digits.

    It is a hash over the encoder's weights as float32 and the latent's shape: another set of decoders, or another
    stored precision of the decoders, does not change it.

    Raises:
        InputError: the model was changed by ``optimize_for_inference``, so its weights aren't those of its file.
    """
    if getattr(model, "optimized_dtype", None) is not None:
        raise InputError(
            "the codec was prepared for reduced precision, so its latent space can't be identified; give its name or "
            "folder, or load it with dtype=torch.float32"
        )
    config = model.config
    total = hashlib.sha256(
        f"{config.architecture} {config.latent_channels} {config.temporal_compression_ratio} "
        f"{config.spatial_compression_ratio}\n".encode()
    )
    tensors = cast(nn.Module, model).state_dict()
    for key in sorted(key for key in tensors if not key.startswith(_NO_PART_OF_IT)):
        values = tensors[key].detach().to("cpu", torch.float32).contiguous()
        total.update(f"{key} {tuple(values.shape)}\n".encode())
        total.update(values.numpy().astype("<f4", copy=False).tobytes())
    return total.hexdigest()[:ID_DIGITS]


def check_latent_space(config: DiTConfig, codec: CodecModel, *, codec_name: str) -> None:
    """Refuse a codec whose latents this transformer does not make.

    A transformer without an identity (random weights) is checked for the latent's shape only.
    """
    for name in ("latent_channels", "temporal_compression_ratio", "spatial_compression_ratio"):
        needed, found = getattr(config, name), getattr(codec.config, name)
        if needed != found:
            raise WeightsError(f"the codec {codec_name!r} has {name} {found}; this transformer was made for {needed}")
    if not config.latent_space:
        return
    found = latent_space_id(codec)
    if found != config.latent_space:
        home = f", of the codec {config.codec!r}" if config.codec else ""
        raise WeightsError(
            f"the codec {codec_name!r} has the latent space {found}; this transformer makes latents of "
            f"{config.latent_space}{home}. They don't belong together: the video would be noise"
        )
