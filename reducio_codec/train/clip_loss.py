"""What one batch costs: the model, the noise on its latent, and the loss. One module, so that DDP and FSDP can wrap it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from reducio_codec.config import CLIP_LENGTH
from reducio_codec.io.pixels import to_unit
from reducio_codec.models.contract import CodecModel, Reference
from reducio_codec.models.posterior import Posterior
from reducio_codec.train.loading import Batch
from reducio_codec.train.losses import (
    PerceptualLoss,
    outlier_loss,
    rate_loss,
    reconstruction_loss,
)
from reducio_codec.train.options import Stage
from reducio_codec.train.recipe import Recipe
from reducio_codec.training.transfer import to_device

_NOISE, _SAMPLE = 1, 2  # streams of random numbers, beside the sampler's own (0)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Of one batch."""

    loss: Tensor
    """Scalar."""
    parts: Mapping[str, Tensor]
    """Its terms before weighting, detached, for the log."""
    decoded: Mapping[str, Tensor]
    """(B, 3, 16, H, W) of each decoder, with gradients."""
    reconstruction: Mapping[str, Tensor]
    """Each decoder's reconstruction and perceptual loss: what the adversarial loss is balanced against."""


class ClipLoss(nn.Module):
    """``forward(batch, stage, decoders)`` gives an ``Outcome``.

    Noise is a function of the seed, the step and the clip's place in the whole batch: the same after a resume, and the same
    however many processes share the batch. Nothing here reads the device.
    """

    widths: Tensor
    """(z, 1, 1, 1): quantiser step of each channel at ``latent_step`` 1, in standard deviations."""

    def __init__(
        self, model: CodecModel, recipe: Recipe, *, widths: Tensor, perceptual: Mapping[str, PerceptualLoss]
    ) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("widths", widths.reshape(-1, 1, 1, 1).clone())
        self._recipe = recipe
        self._perceptual = dict(perceptual)  # not a submodule: its trunk is neither trained nor saved

    def forward(self, batch: Batch, stage: Stage, decoders: Sequence[str]) -> Outcome:
        recipe, model = self._recipe, self.model
        frozen = "encoder" in recipe.train.freeze
        video = to_unit(batch.video)  # (B, 3, 16, H, W)
        references = self._references(batch)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            posterior: Posterior = model.encode(video, references=[item for item in references if not item.beside])
            clean: Tensor = model.latent(self._draw(posterior, batch))
        latent = self._disturb(clean, batch, stage)
        counted = None
        if recipe.loss.skip_keyframe:
            counted = torch.arange(CLIP_LENGTH, device=latent.device) != batch.keyframe_index[:, None]  # (B, 16)
        total = latent.new_zeros((), dtype=torch.float32)
        parts: dict[str, Tensor] = {}
        decoded: dict[str, Tensor] = {}
        balance: dict[str, Tensor] = {}
        if recipe.loss.kl:
            parts["kl"] = posterior.kl().mean()
            total = total + recipe.loss.kl * parts["kl"]
        if recipe.loss.rate:
            parts["bits"] = rate_loss(clean, self.widths)
            total = total + recipe.loss.rate * parts["bits"]
        for name in decoders:
            out = model.decode(latent, model.decoder(name).select(references), decoder=name)
            kind = stage.reconstruction or recipe.loss.reconstruction
            error = parts[f"{name}/{kind}"] = reconstruction_loss(out, video, kind=kind, counted=counted)
            if (look := stage.perceptual or recipe.loss.perceptual) != "none":
                parts[f"{name}/{look}"] = self._perceptual[look](out, video)
                error = error + recipe.loss.perceptual_weight * parts[f"{name}/{look}"]
            balance[name], decoded[name] = error, out
            if recipe.loss.outliers:
                parts[f"{name}/outliers"] = outlier_loss(out)
                error = error + recipe.loss.outliers * parts[f"{name}/outliers"]
            total = total + error / len(decoders)
        return Outcome(
            loss=total,
            parts={key: value.detach() for key, value in parts.items()},
            decoded=decoded,
            reconstruction=balance,
        )

    def _references(self, batch: Batch) -> list[Reference]:
        """What the batch has of coded pictures. Clips of a random key frame get the default place: their model knows none."""
        place = self.model.default_keyframe_index
        found = [Reference(picture=to_unit(batch.keyframe), place=place)]
        if batch.neighbours is not None and batch.present is not None:
            pairs = zip(to_unit(batch.neighbours).unbind(1), zip(*batch.present, strict=True), strict=True)
            for far, (picture, present) in zip((-CLIP_LENGTH, CLIP_LENGTH), pairs, strict=True):
                found.append(Reference(picture=picture, place=place + far, beside=True, present=present))
        return found

    def _draw(self, posterior: Posterior, batch: Batch) -> Tensor:
        if not self._recipe.latent.sample:
            return posterior.mode()
        shape = tuple(posterior.mean.shape[1:])
        draws = [rng.standard_normal(shape, np.float32) for rng in self._generators(batch, _SAMPLE)]
        noise = to_device(torch.from_numpy(np.stack(draws)), posterior.mean.device)  # (B, z, t, h, w)
        return posterior.mean + (0.5 * posterior.logvar).exp() * noise.to(posterior.mean)

    def _disturb(self, latent: Tensor, batch: Batch, stage: Stage) -> Tensor:
        """Gaussian noise, and the uniform noise that stands for rounding."""
        options, rounded = self._recipe.latent, bool(self._recipe.latent.quantize) and stage.quantize
        if not options.noise and not rounded:
            return latent
        shape = tuple(latent.shape[1:])
        draws = [self._disturbance(rng, shape, rounded=rounded) for rng in self._generators(batch, _NOISE)]
        gauss, steps, uniform = (torch.stack(parts) for parts in zip(*draws, strict=True))
        noise = to_device(gauss, latent.device)  # (B, z, t, h, w)
        if rounded:
            steps = to_device(steps, latent.device)[:, None, None, None, None]
            noise = noise + steps * self.widths * to_device(uniform, latent.device)
        return latent + noise.to(latent)

    def _disturbance(
        self, rng: np.random.Generator, shape: tuple[int, ...], *, rounded: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of one clip: Gaussian noise (z, t, h, w), the quantiser's step () or 0, and -0.5 to 0.5 (z, t, h, w)."""
        options = self._recipe.latent
        unquantized, place = rng.random(2)
        gauss = (options.noise * rng.standard_normal(shape, np.float32)).astype(np.float32)
        step, uniform = 0.0, np.zeros(shape if rounded else (), np.float32)
        if rounded and unquantized >= options.unquantized:
            low, high = (math.log(bound) for bound in options.quantize)
            step = math.exp(low + place * (high - low))
            uniform = rng.random(shape, np.float32) - np.float32(0.5)
        return torch.from_numpy(gauss), torch.tensor(step, dtype=torch.float32), torch.from_numpy(uniform)

    def _generators(self, batch: Batch, stream: int) -> Iterator[np.random.Generator]:
        """One for each clip."""
        for index in batch.indices:
            yield np.random.default_rng((self._recipe.run.seed, stream, batch.step, index))
