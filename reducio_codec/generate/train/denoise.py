"""What one batch costs: noise on its latents, and how far off the network's prediction is."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from reducio_codec.generate.conditioning import for_model
from reducio_codec.generate.dit import ReducioDiT
from reducio_codec.generate.latent_motion import LatentMotion
from reducio_codec.generate.noise_levels import TRAIN_STEPS, add_noise, noise_level, target
from reducio_codec.generate.train.recipe import DenoisingOptions
from reducio_codec.generate.train.samples import LatentBatch
from reducio_codec.generate.train.told import asked_mean, tell
from reducio_codec.training.transfer import to_device

_NOISE = 4
"""Stream of random numbers."""


class DenoisingLoss(nn.Module):
    """``forward(batch)`` gives the loss of each sample (B,); one module, so that DDP can wrap it.

    Noise, time step and what is left out are a function of the seed, the step and the sample's place in the whole batch: the
    same after a resume, and the same however many processes share the batch.

    Args:
        seed: of the noise.
        motion: reads what is told of motion from the latents, and how much channels count; for models and options that need it.
    """

    def __init__(
        self, model: ReducioDiT, options: DenoisingOptions, *, seed: int, motion: LatentMotion | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self._options, self._seed, self._motion = options, seed, motion
        self._channels: Tensor | None = None
        if options.channels == "pixels":
            assert motion is not None
            self._channels = motion.channel_weights()[:, None, None, None]  # (z, 1, 1, 1)

    def forward(self, batch: LatentBatch) -> Tensor:
        objective = self.model.config.objective
        clean = batch.latent  # (B, z, t, h, w)
        draws = [self._draw(batch, index) for index in batch.indices]
        noise = to_device(torch.stack([draw[0] for draw in draws]), clean.device)
        timestep = to_device(torch.tensor([draw[1] for draw in draws]), clean.device)  # (B,)
        conditions = for_model(batch.conditions, config=self.model.config)
        if self.training:
            conditions = conditions.leave_out(torch.stack([draw[2] for draw in draws], dim=1))
            conditions = tell(conditions, batch, config=self.model.config, motion=self._motion, seed=self._seed)
        noisy = add_noise(objective, clean, noise, timestep)
        predicted = self.model(noisy, timestep, self.model.context(conditions)).float()
        error: Tensor = (predicted - target(objective, clean, noise)).square()  # (B, z, t, h, w)
        if self._channels is not None:
            error = error * self._channels.to(error.device, non_blocking=True)
        return asked_mean(error, conditions) * self._weight(timestep)

    def _draw(self, batch: LatentBatch, index: int) -> tuple[Tensor, float, Tensor]:
        """Noise (z, t, h, w), time step, and whether text and picture are left out (2,)."""
        rng = np.random.default_rng((self._seed, _NOISE, batch.step, index))
        noise = torch.from_numpy(rng.standard_normal(tuple(batch.latent.shape[1:]), np.float32))
        dropped = torch.from_numpy(rng.random(2)) < self.model.config.condition_dropout
        if self.model.config.objective == "noise":
            return noise, float(rng.integers(TRAIN_STEPS)), dropped
        if self._options.timesteps == "logit-normal":
            return noise, TRAIN_STEPS / (1 + float(np.exp(-rng.standard_normal()))), dropped
        return noise, TRAIN_STEPS * rng.random(), dropped

    def _weight(self, timestep: Tensor) -> Tensor | float:
        """(B,): min-SNR (Hang et al. 2023) for a network that predicts noise."""
        if self._options.weighting == "plain":
            return 1.0
        signal, spread = noise_level("noise", timestep)
        return (self._options.min_snr * (spread / signal).square()).clamp(max=1)
