"""Start the content encoder from the image VAE of Stable Diffusion 2.1 (Sec. 3.2)."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from reducio_codec.errors import InputError, WeightsError
from reducio_codec.generate.content import ImageVaeContent
from reducio_codec.generate.dit import ReducioDiT
from reducio_codec.generate.optional import diffusers

DEFAULT_IMAGE_VAE = "stabilityai/stable-diffusion-2-1"

_RULES = (
    (r"conv_in\.", "conv_in."),
    (r"down_blocks\.(\d+)\.resnets\.(\d+)\.conv_shortcut\.", r"down.\1.block.\2.nin_shortcut."),
    (r"down_blocks\.(\d+)\.resnets\.(\d+)\.", r"down.\1.block.\2."),
    (r"down_blocks\.(\d+)\.downsamplers\.0\.", r"down.\1.downsample."),
    (r"mid_block\.resnets\.0\.", "mid.block_1."),
    (r"mid_block\.attentions\.0\.group_norm\.", "mid.attn_1.norm."),
    (r"mid_block\.attentions\.0\.to_([qkv])\.", r"mid.attn_1.\1."),
    (r"mid_block\.attentions\.0\.to_out\.0\.", "mid.attn_1.proj_out."),
)
_UNUSED = ("mid_block.resnets.1.", "conv_norm_out.", "conv_out.")
"""What makes that VAE's latent out of its features."""


def start_from_image_vae(
    model: ReducioDiT, name_or_folder: str | Path = DEFAULT_IMAGE_VAE, *, offline: bool = False
) -> None:
    """Copy the VAE's encoder into the trunk of ``model``'s content encoder; the layer behind it stays as it is.

    The attention at the end has 8 heads here and one there, so its weights are a start and not the same function.

    Args:
        model: with ``content="sd"``.
        name_or_folder: a VAE in diffusers' layout, or a whole pipeline with a folder ``vae``.

    Raises:
        WeightsError: it can't be loaded, or a tensor doesn't fit; the message names it.
    """
    content = getattr(model, "content", None)
    if not isinstance(content, ImageVaeContent):
        raise InputError("the model has no content encoder of the kind 'sd'; only that one starts from an image VAE")
    name = str(name_or_folder)
    alone = (Path(name_or_folder) / "config.json").is_file()
    try:
        vae = diffusers().AutoencoderKL.from_pretrained(
            name, subfolder=None if alone else "vae", local_files_only=offline, use_safetensors=True
        )
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise WeightsError(
            f"the image VAE {name!r} can't be loaded: {reason}. Fetch the folder vae of {DEFAULT_IMAGE_VAE} "
            "(config.json and diffusion_pytorch_model.safetensors), and pass that folder"
        ) from error
    expected = content.trunk.state_dict()
    renamed: dict[str, Tensor] = {}
    for key, value in vae.encoder.state_dict().items():
        if not key.startswith(_UNUSED):
            renamed[_our_name(key)] = value
    for key, tensor in expected.items():
        if key not in renamed or renamed[key].numel() != tensor.numel():
            found = tuple(renamed[key].shape) if key in renamed else "nothing"
            raise WeightsError(f"{name}: {key} needs {tuple(tensor.shape)}, and the VAE has {found} there")
    unknown = sorted(set(renamed) - set(expected))
    if unknown:
        raise WeightsError(f"{name}: {unknown[0]} has no place in the content encoder ({len(unknown)} such tensors)")
    with torch.no_grad():
        for key, tensor in expected.items():  # linear layers of its attention are 1x1 convolutions here
            tensor.copy_(renamed[key].reshape(tensor.shape))


def _our_name(key: str) -> str:
    for pattern, ours in _RULES:
        renamed, count = re.subn(f"^{pattern}", ours, key)
        if count:
            return renamed
    return key
