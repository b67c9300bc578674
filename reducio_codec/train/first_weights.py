"""The model at step 0: fresh, from other weights, from an image VAE, or (lite) from searched flow and its residual."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from reducio_codec.config import CLIP_LENGTH
from reducio_codec.errors import InputError, WeightsError
from reducio_codec.io.pixels import to_unit
from reducio_codec.models import factory
from reducio_codec.models.contract import CodecModel, Reference
from reducio_codec.models.lite.blocks import SLOTS
from reducio_codec.models.lite.model import ReducioLite
from reducio_codec.models.motion import estimate_flow
from reducio_codec.models.reducio.vae import ReducioVAE
from reducio_codec.rdc.entropy import LatentCoder
from reducio_codec.rdc.ranges import UNIT
from reducio_codec.train.recipe import Recipe
from reducio_codec.weights.layout import ENTROPY_FILE
from reducio_codec.weights.sd_init import start_from_image_vae
from reducio_codec.weights.zoo import load_pretrained, resolve

_log = logging.getLogger(__name__)

_RESIDUAL_STEP = 0.4
"""Quantiser step of a component of the residual at ``latent_step`` 1, in the units of ``flow_pixel_step`` (pixel values
over 127.5 for pixels): a component then costs as much quality as one of flow does."""


def build_model(recipe: Recipe) -> CodecModel:
    """The recipe's model with fresh weights; the same ones for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.run.seed)
        return factory.build_model(recipe.model)


def start_from_files(model: nn.Module, recipe: Recipe) -> Tensor:
    """Give ``model`` the weights at step 0 that other models have, in place.

    Returns:
        (z,): the quantiser's step of each channel at ``latent_step`` 1, in standard deviations.
    """
    options = recipe.start
    channels = recipe.model.latent_channels
    if options.weights:
        return _take_weights(model, options.weights, channels=channels)
    if options.image_vae:
        started = start_from_image_vae(cast(ReducioVAE, model), options.image_vae)
        _log.info("%d tensors start from %s", len(started), options.image_vae)
    return torch.ones(channels)


def start_from_clips(model: ReducioLite, recipe: Recipe, *, clips: Iterator[Tensor]) -> Tensor:
    """``start.flow``: the weights at step 0 that training clips (1, 3, 16, H, W) uint8 give, in place.

    Returns:
        As ``start_from_files``.
    """
    options = recipe.start
    _log.info("start.flow: looks for motion in %d clips", 2 * options.flow_clips)
    start_from_flow(model, [next(clips) for _ in range(options.flow_clips)], channels=options.flow_channels)
    start_residual(model, [next(clips) for _ in range(options.flow_clips)], channels=options.flow_channels)
    steps = torch.full((recipe.model.latent_channels,), 2 * _RESIDUAL_STEP * options.flow_pixel_step)
    steps[: options.flow_channels] = 2 * options.flow_pixel_step
    return steps / model.latent_std


def _take_weights(model: nn.Module, name: str, *, channels: int) -> Tensor:
    """Copies what both have; the whole encoder must fit, and a decoder that the other hasn't got stays fresh."""
    other, info = load_pretrained(name)
    source, target = other.state_dict(), model.state_dict()
    for key, value in target.items():
        fresh = key.startswith("decoders.") and key.split(".")[1] not in other.decoder_names
        if not fresh and (key not in source or source[key].shape != value.shape):
            found = tuple(source[key].shape) if key in source else "missing"
            raise WeightsError(
                f"start.weights {name!r} doesn't fit the recipe's [model]: {key} is {found} there, {tuple(value.shape)} here"
            )
    model.load_state_dict({key: source.get(key, value) for key, value in target.items()})
    return torch.tensor(LatentCoder.load(info.folder, channels=channels).tables.multipliers) / UNIT


def kept_tables(recipe: Recipe) -> dict[str, Any] | None:
    """The latent coder's tables that a run with a frozen encoder must keep; None for any other run."""
    if "encoder" not in recipe.train.freeze:
        return None
    source = resolve(recipe.start.weights).folder / ENTROPY_FILE
    if not source.is_file():
        return None
    tables: dict[str, Any] = json.loads(source.read_text(encoding="utf-8"))
    return tables


@torch.no_grad()
def start_from_flow(model: ReducioLite, clips: list[Tensor], *, channels: int) -> None:
    """Set the linear route of motion to the leading principal components of searched flow, and its statistics."""
    index = model.default_keyframe_index
    found = []
    for clip in clips:
        video = to_unit(clip)
        flow = F.avg_pool2d(estimate_flow(video, video[:, :, index], far=True)[0], 2)  # (16, 2, H/16, W/16)
        found.append(rearrange(flow, "(s t) c (h y) (w x) -> s (h w) (t c y x)", s=SLOTS, y=2, x=2))
    samples = torch.cat(found, 1)  # (4, N, 32)
    if samples.shape[1] < samples.shape[2]:
        raise InputError(f"start.flow_clips is {len(clips)}: too few positions to find components of flow")
    variance, basis = torch.linalg.eigh(samples.transpose(1, 2) @ samples / samples.shape[1])
    weight = _as_weight(basis.flip(2)[:, :, :channels], model, first=0, side=2)
    model.encoder.flow_in.weight.copy_(weight)
    model.encoder.flow_basis.copy_(weight)
    model.code.flow_out.weight.copy_(weight)
    model.latent_std[:channels] = variance.flip(1)[:, :channels].mean(0).clamp_min(1e-4).sqrt()


@torch.no_grad()
def start_residual(model: ReducioLite, clips: list[Tensor], *, channels: int) -> None:
    """Set the linear route of the residual: in, its leading principal components; out, least squares.

    Out is fitted to what the model as it is leaves unexplained. Every clip counts by the inverse of its error, as in a
    mean of PSNRs.
    """
    seen, left, weights = [], [], []
    inputs: list[Tensor] = []
    hook = model.encoder.residual_in.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    # until they learn, all decoders with references show what this code does
    name = next((name for name in model.decoder_names if model.decoder(name).least), None)
    for clip in clips:
        video = to_unit(clip)
        own = model.decoder(name).select([Reference.of_frame(video, model.default_keyframe_index)])
        decoded = model.decode(model.latent(model.encode(video).mode()), own, decoder=name)
        rest = F.avg_pool2d(rearrange(video - decoded, "b c t h w -> (b t) c h w"), 4)
        seen.append(_blocks(inputs.pop()))
        left.append(_blocks(rearrange(rest, "(b t) c h w -> b (t c) h w", t=CLIP_LENGTH)))
        weights.append(1 / (seen[-1].square().mean().sqrt() + 0.02))
    hook.remove()
    count = model.config.latent_channels - channels
    covariance = torch.stack([x.transpose(1, 2) @ x * w * w for x, w in zip(seen, weights, strict=True)]).sum(0)
    basis = torch.linalg.eigh(covariance)[1].flip(2)[:, :, :count]  # (4, 768, k)
    codes = [x @ basis for x in seen]
    pairs = list(zip(codes, left, weights, strict=True))
    gram = torch.stack([c.transpose(1, 2) @ c * w * w for c, _, w in pairs]).sum(0)
    moments = torch.stack([c.transpose(1, 2) @ r * w * w for c, r, w in pairs]).sum(0)
    out = torch.linalg.lstsq(gram, moments).solution  # (4, k, 768)
    model.encoder.residual_in.weight.copy_(_as_weight(basis, model, first=channels, side=8))
    model.code.residual_out.weight.copy_(_as_weight(out.transpose(1, 2), model, first=channels, side=8))
    model.latent_std[channels:] = torch.cat(codes, 1).square().mean((0, 1)).clamp_min(1e-6).sqrt()


def _blocks(x: Tensor) -> Tensor:
    """(1, 48, 8h, 8w) -> (4, h*w, 768): what each position of the latent stands for."""
    return rearrange(x, "b (s t c) (h y) (w x) -> s (b h w) (t c y x)", s=SLOTS, c=3, y=8, x=8)


def _as_weight(basis: Tensor, model: ReducioLite, *, first: int, side: int) -> Tensor:
    """(4, values of a block, k) -> weight of a grouped convolution whose channels from ``first`` on are those k."""
    weight = torch.zeros(SLOTS, model.config.latent_channels, basis.shape[1])
    weight[:, first : first + basis.shape[2]] = basis.transpose(1, 2)
    return rearrange(weight, "s z (c y x) -> (s z) c y x", y=side, x=side)
