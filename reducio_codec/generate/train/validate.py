"""What a transformer is worth so far: its loss where nothing is drawn anew, and a few clips that it makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reducio_codec.codec import ReducioCodec
from reducio_codec.errors import ReducioError
from reducio_codec.generate.codec_match import check_latent_space
from reducio_codec.generate.conditioning import for_model
from reducio_codec.generate.config import DiTConfig
from reducio_codec.generate.dit import ReducioDiT
from reducio_codec.generate.latent_motion import LatentMotion
from reducio_codec.generate.measure import Clip, motion_magnitude
from reducio_codec.generate.sampling import check_sampler, draw_noise, make_generators, sample
from reducio_codec.generate.train.denoise import DenoisingLoss
from reducio_codec.generate.train.distill import DistillationLoss
from reducio_codec.generate.train.recipe import DitRecipe, DitValidationOptions
from reducio_codec.generate.train.samples import Entry, LatentBatch, Samples, batches_in_order, collate_entries
from reducio_codec.io.pixels import to_bytes
from reducio_codec.weights.io import load_model
from reducio_codec.weights.zoo import resolve

T = TypeVar("T")

VALIDATION_SEED = 20_000
"""Of validation's noise: the same at every validation of every run."""


def spread(items: Sequence[T], count: int) -> list[T]:
    """At most ``count`` of them, evenly spread."""
    if count >= len(items):
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, count).round().astype(int)]


GeneratorLoss = DenoisingLoss | DistillationLoss


@torch.no_grad()
def validation_loss(
    loss: GeneratorLoss, samples: Samples, entries: Sequence[Entry], *, batch: int, device: torch.device, autocast: Any
) -> float:
    """Mean over the samples."""
    losses: list[Tensor] = []
    for part in batches_in_order(samples, entries, batch=batch):
        with autocast():
            losses.append(loss(part.to(device)).float().cpu())
    return float(torch.cat(losses).mean())


def make_loss(
    model: ReducioDiT, recipe: DitRecipe, *, seed: int, teacher: ReducioDiT | None, motion: LatentMotion | None
) -> GeneratorLoss:
    """What is learned: to denoise, or where there is a teacher to go its way in few steps."""
    if teacher is not None:
        return DistillationLoss(model, teacher, teacher_steps=recipe.loss.teacher_steps, seed=seed, motion=motion)
    return DenoisingLoss(model, recipe.loss, seed=seed, motion=motion)


def load_codec(samples: Samples, *, config: DiTConfig, device: torch.device) -> ReducioCodec:
    """The codec that the shards name.

    Raises:
        WeightsError: it isn't there any more, or has another latent space now.
    """
    source = resolve(samples.index.codec)
    model, info = load_model(source.folder)
    codec = ReducioCodec(model, model_id=info.id, device=device)
    check_latent_space(config, codec.model, codec_name=samples.index.codec)
    return codec


@dataclass(frozen=True, kw_only=True)
class Generated:
    """Clips that were made from the pictures of samples, and what the codec makes of their own latents."""

    made: list[Clip]
    real: list[Clip]

    def motion(self, keyframe_index: int) -> float:
        """Mean motion of the made clips over that of the real ones."""
        made, real = (
            float(np.mean([motion_magnitude(clip, keyframe_index=keyframe_index) for clip in clips]))
            for clips in (self.made, self.real)
        )
        return made / max(real, 1e-3)


class Generator:
    """Makes clips of a few samples, with the codec that the shards name; see ``load_codec``."""

    def __init__(self, samples: Samples, options: DitValidationOptions, *, config: Any, device: torch.device) -> None:
        self.codec = load_codec(samples, config=config, device=device)
        first = samples.entries[0].size
        chosen = spread([entry for entry in samples.entries if entry.size == first], options.clips)
        self.batch: LatentBatch = collate_entries(samples, chosen)
        self._options = options
        self._device = device

    @torch.no_grad()
    def __call__(self, model: ReducioDiT, *, autocast: Any) -> Generated:
        batch = self.batch.to(self._device)
        noise = draw_noise(batch.latent.shape[1:], generators=make_generators(range(len(batch.latent))))
        with autocast():
            latent = sample(
                model,
                model.context(for_model(batch.conditions, config=model.config)),
                noise=noise,
                sampler=check_sampler(None, objective=model.config.objective),
                steps=self._options.steps,
                guidance=self._options.guidance,
            )
        if not bool(torch.isfinite(latent).all()):
            raise ReducioError("the transformer makes latents that aren't finite")
        return Generated(made=self._decode(latent), real=self._decode(batch.latent))

    def _decode(self, latent: Tensor) -> list[Clip]:
        keyframe = self.batch.conditions.keyframe
        assert keyframe is not None
        video = to_bytes(self.codec.decode(latent.cpu(), keyframe[:, :, None])).permute(0, 2, 3, 4, 1)
        clips: NDArray[np.uint8] = np.ascontiguousarray(video.numpy())
        return list(clips)
