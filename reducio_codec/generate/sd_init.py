"""Start the content encoder from the image VAE of Stable Diffusion 2.1 (Sec. 3.2)."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from reducio_codec.errors import InputError, WeightsError
from reducio_codec.generate.content import ImageVaeContent
from reducio_codec.generate.dit import ReducioDiT
from reducio_codec.generate.optional import diffusers
from reducio_codec.generate.started import Started
from reducio_codec.weights.sd_init import part, start_content

DEFAULT_IMAGE_VAE = "stabilityai/stable-diffusion-2-1"


def start_from_image_vae(
    model: ReducioDiT, name_or_folder: str | Path = DEFAULT_IMAGE_VAE, *, offline: bool = False
) -> Started:
    """Copy the VAE's encoder into ``model``'s content encoder, and say which tensors that is.

    All but the convolution that makes the VAE's latent is taken and computes what it does there; the layer that stands in
    its place stays as it is.

    Args:
        model: with ``content="sd"``.
        name_or_folder: a VAE in diffusers' layout, or a whole pipeline with a folder ``vae``.

    Raises:
        WeightsError: it can't be loaded, or a tensor doesn't fit; the message names it.
    """
    config = model.config
    if not (config.uses_content and config.content == "sd"):
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
    trunk = cast(ImageVaeContent, model.content).trunk
    unused = start_content(trunk, part(vae.state_dict(), "encoder"), name=name)
    taken = {f"content.trunk.{key}" for key in trunk.state_dict()}
    return Started(
        taken=tuple(sorted(taken)),
        kept=tuple(sorted(key for key in model.state_dict() if key.startswith("content.") and key not in taken)),
        unused=(*(f"encoder.{key}" for key in unused), "decoder"),
    )
