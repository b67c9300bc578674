"""What one batch costs a student: how far its few steps are from where its teacher goes.

Each of the K steps of the student is held against its teacher's own way over the same stretch, solved by a few midpoint
steps with guidance: progressive distillation (Salimans and Ho 2022) in one stage, guidance distilled with it (Meng et al.
2023). The states are the student's own, from pure noise on, so that it learns to go on from where it really is (backward
distillation, Kohler et al. 2024). The target doesn't depend on the student's prediction and needs no derivative of the
network, unlike consistency and flow-map objectives: nothing to balance, nothing that can run away, and the state for the
next step comes free with the prediction.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from reducio_codec.generate.conditioning import Conditions, for_model
from reducio_codec.generate.dit import Context, ReducioDiT
from reducio_codec.generate.sampling import predict
from reducio_codec.generate.schedule import TRAIN_STEPS
from reducio_codec.generate.train.samples import LatentBatch

_NOISE = 5
"""Stream of random numbers."""


class DistillationLoss(nn.Module):
    """``forward(batch)`` gives the loss of each sample (B,), the mean over the student's steps.

    Noise is a function of the seed, the step and the sample's place in the whole batch. The batch's latents aren't used.

    Args:
        model: the student.
        teacher: in eval mode, on the device of the run.
        teacher_steps: midpoint steps of it for each of the student's.
        seed: of the noise.
    """

    def __init__(self, model: ReducioDiT, teacher: ReducioDiT, *, teacher_steps: int, seed: int) -> None:
        super().__init__()
        self.model = model
        self._teacher = (teacher,)  # in a tuple: no part of this module, of its checkpoints and of its optimiser
        self._teacher_steps, self._seed = teacher_steps, seed

    def forward(self, batch: LatentBatch) -> Tensor:
        config, (teacher,) = self.model.config, self._teacher
        draws = [self._draw(batch, index) for index in batch.indices]
        latent = torch.stack([noise for noise, _ in draws]).to(batch.latent)  # (B, z, t, h, w)
        conditions: Conditions = for_model(batch.conditions, config=config)
        if self.training:  # a user may give no prompt; the picture is always there
            text = torch.tensor([dropped for _, dropped in draws])
            conditions = conditions.leave_out(torch.stack([text, torch.zeros_like(text)]))
        context = self.model.context(conditions)
        with torch.no_grad():
            told = teacher.context(conditions)
            told = told if config.distilled_guidance == 1 else told.guided()
        errors: list[Tensor] = []  # (B,) each
        span = 1 / config.distilled_steps
        for step in range(config.distilled_steps):
            time = 1 - step * span
            goal = self._average_velocity(latent, told, time=time, span=span)
            timestep = torch.full((len(latent),), TRAIN_STEPS * time, device=latent.device)
            velocity = self.model(latent, timestep, context).float()
            errors.append((velocity - goal).square().flatten(1).mean(1))
            latent = latent - span * velocity.detach()
        return torch.stack(errors).mean(0)

    @torch.no_grad()
    def _average_velocity(self, latent: Tensor, context: Context, *, time: float, span: float) -> Tensor:
        """Of the teacher's way from ``latent`` at ``time`` over ``span``: (B, z, t, h, w) float32."""
        guidance = self.model.config.distilled_guidance
        length = span / self._teacher_steps
        x = latent

        def velocity(x: Tensor, time: float) -> Tensor:
            timestep = torch.tensor(TRAIN_STEPS * time)
            return predict(self._teacher[0], x, timestep, context=context, guidance=guidance)

        for number in range(self._teacher_steps):
            now = time - number * length
            middle = x - length / 2 * velocity(x, now)
            x = x - length * velocity(middle, now - length / 2)
        return (latent - x) / span

    def _draw(self, batch: LatentBatch, index: int) -> tuple[Tensor, bool]:
        """Noise (z, t, h, w), and whether the text is left out."""
        rng = np.random.default_rng((self._seed, _NOISE, batch.step, index))
        noise = torch.from_numpy(rng.standard_normal(tuple(batch.latent.shape[1:]), np.float32))
        return noise, bool(rng.random() < self.model.config.condition_dropout)
