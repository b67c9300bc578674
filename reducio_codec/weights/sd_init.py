"""Start the paper's model from an image VAE: Stable Diffusion's ``AutoencoderKL`` (Sec. 3.1: it speeds convergence).

The content encoder is that VAE's encoder without its latent, weight for weight. The motion encoder and the decoders are
deeper and three-dimensional: each of their layers takes the next one of its width from the VAE, its kernel placed in the
middle of time, so that at the start every frame is treated as a picture. Layers of another width stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from reducio_codec.errors import InputError, WeightsError
from reducio_codec.models.reducio.content import ContentEncoder
from reducio_codec.models.reducio.layers import Downsample, ResidualBlock, Upsample
from reducio_codec.models.reducio.vae import ReducioVAE

WEIGHT_FILE = "diffusion_pytorch_model.safetensors"

_RULES = (
    (r"conv_in\.", "conv_in."),
    (r"(?:down|up)_blocks\.(\d+)\.resnets\.(\d+)\.conv_shortcut\.", r"level.\1.block.\2.nin_shortcut."),
    (r"(?:down|up)_blocks\.(\d+)\.resnets\.(\d+)\.", r"level.\1.block.\2."),
    (r"(?:down|up)_blocks\.(\d+)\.(?:down|up)samplers\.0\.", r"level.\1.resample."),
    (r"mid_block\.resnets\.0\.", "mid.block_1."),
    (r"mid_block\.resnets\.1\.", "mid.block_2."),
    (r"mid_block\.attentions\.0\.group_norm\.", "mid.attn_1.norm."),
    (r"mid_block\.attentions\.0\.(?:to_q|query)\.", "mid.attn_1.q."),  # the second names are older files'
    (r"mid_block\.attentions\.0\.(?:to_k|key)\.", "mid.attn_1.k."),
    (r"mid_block\.attentions\.0\.(?:to_v|value)\.", "mid.attn_1.v."),
    (r"mid_block\.attentions\.0\.(?:to_out\.0|proj_attn)\.", "mid.attn_1.proj_out."),
    (r"conv_norm_out\.", "norm_out."),
    (r"conv_out\.", "conv_out."),
)
"""diffusers' names to those of this package's layers; ``level`` counts in the order of execution."""

_LATENT_LAYERS = ("mid.block_2.", "mid.norm_out.", "conv_out.")
"""What makes the VAE's latent out of its features. The codec's content encoder has none of it, the transformer's all but the
last."""


def start_from_image_vae(model: ReducioVAE, folder: str | Path) -> list[str]:
    """Start the content encoder, the motion encoder and all decoders from an image VAE, in place.

    Self-attention has 8 heads here and one there: its weights are a start and not the same function.

    Args:
        model: the paper's model.
        folder: a VAE as diffusers stores it (config.json and diffusion_pytorch_model.safetensors), or a pipeline's folder
            with a folder ``vae`` in it.

    Returns:
        Names of the parameters that were started so.

    Raises:
        WeightsError: the folder has no such VAE, or its encoder doesn't fit the content encoder.
    """
    tensors = read_image_vae(folder)
    encoder, decoder = part(tensors, "encoder"), part(tensors, "decoder")
    started: list[str] = []
    if model.content is not None:
        start_content(model.content, encoder, name=str(folder))
        started += [f"content.{key}" for key in model.content.state_dict()]
    started += [f"encoder.{key}" for key in _inflate_all(model.encoder, encoder)]
    for name, module in model.decoders.items():
        started += [f"decoders.{name}.{key}" for key in _inflate_all(module, decoder)]
    return started


def read_image_vae(folder: str | Path) -> dict[str, Tensor]:
    """Tensors of an ``AutoencoderKL`` folder by diffusers' names, float32. WeightsError where there is none."""
    folder = Path(folder)
    found = next((path for path in (folder / WEIGHT_FILE, folder / "vae" / WEIGHT_FILE) if path.is_file()), None)
    if found is None:
        raise WeightsError(
            f"{folder} has no {WEIGHT_FILE}, nor has its folder vae; fetch the folder vae of Stable Diffusion 2.1 "
            "(config.json and that file) and name it"
        )
    try:
        return {key: value.float() for key, value in load_file(found).items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{found} can't be read: {error}") from error


def part(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors of the VAE's ``encoder`` or ``decoder`` by this package's names."""
    return {
        _our_name(key.removeprefix(f"{name}.")): value for key, value in tensors.items() if key.startswith(f"{name}.")
    }


def start_content(trunk: ContentEncoder, encoder: Mapping[str, Tensor], *, name: str) -> list[str]:
    """Copy the VAE's encoder (``part(..., "encoder")``) into a content encoder.

    Returns:
        The VAE's tensors that the content encoder has no layer for: some of those that make the latent.

    Raises:
        WeightsError: a tensor is missing, doesn't fit or has no place; the message names it, and ``name``.
    """
    given = {
        re.sub(r"^level\.(\d+)\.", r"down.\1.", key)
        .replace(".resample.", ".downsample.")
        .replace("norm_out.", "mid.norm_out."): value
        for key, value in encoder.items()
    }
    expected = trunk.state_dict()
    for key, tensor in expected.items():
        if key not in given or given[key].numel() != tensor.numel():
            found = tuple(given[key].shape) if key in given else "nothing"
            raise WeightsError(f"{name}: {key} needs {tuple(tensor.shape)}, and the VAE has {found} there")
    left = sorted(set(given) - set(expected))
    unknown = [key for key in left if not key.startswith(_LATENT_LAYERS)]
    if unknown:
        raise WeightsError(f"{name}: {unknown[0]} has no place in the content encoder ({len(unknown)} such tensors)")
    with torch.no_grad():
        for key, tensor in expected.items():  # linear layers of its attention are 1x1 convolutions here
            tensor.copy_(given[key].reshape(tensor.shape))
    return left


def _inflate_all(module: nn.Module, source: Mapping[str, Tensor]) -> Iterator[str]:
    """Start every layer of a 3-D network that the VAE has one for; yields the names of its parameters."""
    blocks = sorted({match[0] for key in source if (match := re.match(r"level\.\d+\.block\.\d+", key))})
    resamplers = sorted({match[0] for key in source if (match := re.match(r"level\.\d+\.resample", key))})
    for key in ("conv_in", "mid.block_1", "mid.attn_1", "mid.block_2", "norm_out", "conv_out"):
        yield from _inflate(module.get_submodule(key), key, source, key)
    for kind, names in ((ResidualBlock, blocks), ((Downsample, Upsample), resamplers)):
        following = 0
        for target, layer in _in_order(module):
            if isinstance(layer, kind) and not target.startswith("mid."):
                fitting = [index for index, name in enumerate(names) if _fits(layer, name, source)]
                if fitting:
                    following = next((index for index in fitting if index >= following), fitting[-1])
                    yield from _inflate(layer, target, source, names[following])
                    following += 1


def _in_order(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Layers in the order of execution: a decoder's levels run from the last to the first."""
    layers = list(module.named_modules())
    return sorted(layers, key=lambda item: -_level(item[0])) if hasattr(module, "up") else layers


def _level(name: str) -> int:
    match = re.match(r"up\.(\d+)", name)
    return int(match[1]) if match else 0


def _fits(layer: nn.Module, name: str, source: Mapping[str, Tensor]) -> bool:
    given = {key.removeprefix(f"{name}."): value for key, value in source.items() if key.startswith(f"{name}.")}
    wanted = dict(layer.named_parameters())
    return given.keys() == wanted.keys() and all(given[key].shape[:2] == wanted[key].shape[:2] for key in wanted)


def _inflate(layer: nn.Module, target: str, source: Mapping[str, Tensor], name: str) -> Iterator[str]:
    if not _fits(layer, name, source):
        return
    with torch.no_grad():
        for key, parameter in layer.named_parameters():
            value = source[f"{name}.{key}"]
            if parameter.ndim == 5:
                parameter.zero_()
                parameter[:, :, parameter.shape[2] // 2] = value.reshape(*value.shape[:2], *parameter.shape[3:])
            else:
                parameter.copy_(value)
            yield f"{target}.{key}"


def _our_name(key: str) -> str:
    for pattern, ours in _RULES:
        renamed, count = re.subn(f"^{pattern}", ours, key)
        if count:
            return renamed
    raise InputError(f"{key} isn't a tensor of an image VAE as diffusers stores it")
