"""What a batch costs: the latent as a file has it, every trained decoder's error, and what the eye sees of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reducio_codec.config import CLIP_LENGTH
from reducio_codec.models.contract import Reference
from reducio_codec.models.lite.model import ReducioLite
from reducio_codec.train.losses import rate_loss, reconstruction_loss
from reducio_codec.train.packed.data import Batch
from reducio_codec.train.packed.perceptual import Lpips

_LATENT_STEPS = (0.15, 1.2)
_UNQUANTIZED = 0.2
"""Share of batches whose latent isn't disturbed."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Of the loss's terms."""

    reconstruction: str = "log-l2"
    """See ``train.recipe.Reconstruction``."""
    perceptual: float = 0.0
    perceptual_frames: int = 4
    """Frames of a batch that are looked at."""
    rate: float = 0.02
    """Of the latent's bits, where the encoder is trained."""


class BatchLoss(nn.Module):
    """``forward(batch)``: the loss by these decoders, and its parts for the log.

    Where batches ``repeat``, a frozen encoder sees each but once.
    """

    def __init__(
        self,
        model: ReducioLite,
        *,
        widths: Tensor,
        encoder: bool,
        weights: Weights,
        perceptual: Lpips | None,
        repeats: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("widths", widths.reshape(-1, 1, 1, 1))
        self._encoder, self._weights, self._perceptual = encoder, weights, perceptual
        self._latents: dict[int, Tensor] | None = {} if repeats and not encoder else None

    def forward(
        self, batch: Batch, *, decoders: Sequence[str], generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        video, references = unpacked(batch)
        weights = self._weights
        clean = self._latent(batch.number, video, [item for item in references if not item.beside])
        decoded = self.model.decode_by(decoders, self._disturbed(clean, generator), references)
        parts: dict[str, Tensor] = {}
        total = clean.new_zeros((), dtype=torch.float32)
        looked = torch.randperm(len(video) * CLIP_LENGTH, generator=generator)[: weights.perceptual_frames]
        for name, out in decoded.items():
            error = parts[name] = reconstruction_loss(out, video, kind=weights.reconstruction)
            if self._perceptual is not None and weights.perceptual:
                shown, wanted = (x.transpose(1, 2).flatten(0, 1)[looked.to(x.device)] for x in (out, video))
                parts[f"{name}/lpips"] = self._perceptual(shown, wanted).mean()
                error = error + weights.perceptual * parts[f"{name}/lpips"]
            total = total + error / len(decoded)
        if self._encoder and weights.rate:
            parts["bits"] = rate_loss(clean, self.get_buffer("widths"))
            total = total + weights.rate * parts["bits"]
        return total, {key: value.detach() for key, value in parts.items()}

    def _latent(self, number: int, video: Tensor, references: Sequence[Reference]) -> Tensor:
        if self._latents is not None and number in self._latents:
            return self._latents[number]
        with torch.set_grad_enabled(self._encoder):
            latent = self.model.latent(self.model.encode(video, references=references).mode())
        if self._latents is not None:
            self._latents[number] = latent
        return latent

    def _disturbed(self, latent: Tensor, generator: torch.Generator) -> Tensor:
        """Uniform noise stands for rounding, by another step for each clip."""
        shape = (len(latent), 1, 1, 1, 1)
        low, high = (math.log(step) for step in _LATENT_STEPS)
        steps = torch.exp(low + (high - low) * torch.rand(shape, generator=generator))
        steps = steps * (torch.rand(shape, generator=generator) >= _UNQUANTIZED)
        noise = torch.rand(latent.shape, generator=generator) - 0.5
        return latent + (steps * noise).to(latent.device) * self.get_buffer("widths")


def unpacked(batch: Batch) -> tuple[Tensor, list[Reference]]:
    """(B, 3, 16, S, S) in [-1, 1] and the references of these clips."""
    video, pictures = (x.float() / 127.5 - 1 for x in (batch.video, batch.references))
    layout = batch.layout
    references = [
        Reference(picture=pictures[:, n], place=place, beside=beside, present=tuple(batch.present[:, n].tolist()))
        for n, (place, beside) in enumerate(zip(layout.places, layout.beside, strict=True))
    ]
    return video, references
