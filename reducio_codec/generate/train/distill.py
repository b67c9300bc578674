"""What one batch costs a student: how far its few steps are from where its teacher goes.

From the noise of a clip the teacher goes its way once, with guidance, in midpoint steps. At each state where the student
will be asked, it learns the mean velocity of the way to the next such state: progressive distillation
(Salimans and Ho 2022) in one stage, guidance distilled with it (Meng et al. 2023). The target doesn't depend on the
student and needs no derivative of the network, unlike consistency and flow-map objectives: nothing to balance, nothing
that can run away.

Going the way costs more than learning from it, so a run has a number of different batches (``loss.teacher_batches``) and
takes them in turns; their states stay in memory.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from reducio_codec.generate.conditioning import Conditions, for_model
from reducio_codec.generate.dit import ReducioDiT
from reducio_codec.generate.latent_motion import LatentMotion
from reducio_codec.generate.noise_levels import TRAIN_STEPS
from reducio_codec.generate.sampling import predict
from reducio_codec.generate.train.samples import LatentBatch
from reducio_codec.generate.train.told import asked_mean, tell
from reducio_codec.training.transfer import to_device

_NOISE = 5
"""Stream of random numbers."""


class DistillationLoss(nn.Module):
    """``forward(batch)`` gives the loss of each sample (B,), the mean over the student's steps.

    Noise is a function of the seed, the batch's step and the sample's place in the whole batch: a batch that comes again has
    the same noise, and its teacher's way is known. Of the batch's latents no more is used than what a model is told of them.

    Args:
        model: the student.
        teacher: in eval mode, on the device of the run.
        teacher_steps: midpoint steps of it for each of the student's.
        seed: of the noise.
        motion: reads what is told of motion from the latents; for models that take it.
    """

    def __init__(
        self,
        model: ReducioDiT,
        teacher: ReducioDiT,
        *,
        teacher_steps: int,
        seed: int,
        motion: LatentMotion | None = None,
    ) -> None:
        super().__init__()
        self._motion = motion
        self.model = model
        self._teacher = (teacher,)  # in a tuple: no part of this module, of its checkpoints and of its optimiser
        self._teacher_steps, self._seed = teacher_steps, seed
        self._ways: dict[tuple[int, tuple[int, ...]], Tensor] = {}
        """Step and places of a batch to the states of its way."""

    def forward(self, batch: LatentBatch) -> Tensor:
        config = self.model.config
        draws = [self._draw(batch, index) for index in batch.indices]
        conditions: Conditions = for_model(batch.conditions, config=config)
        if self.training:  # a user may give no prompt; the picture is always there
            text = torch.tensor([dropped for _, dropped in draws])
            conditions = conditions.leave_out(torch.stack([text, torch.zeros_like(text)]))
            conditions = tell(conditions, batch, config=config, motion=self._motion, seed=self._seed)
        key = (batch.step, batch.indices)
        if key not in self._ways:
            noise = to_device(torch.stack([noise for noise, _ in draws]), batch.latent.device)  # (B, z, t, h, w)
            self._ways[key] = self._way(noise, conditions).to("cpu", non_blocking=True)  # read on the same queue only
        states = to_device(self._ways[key], batch.latent.device)  # (K + 1, B, z, t, h, w)
        goals = config.distilled_steps * (states[:-1] - states[1:])  # (K, B, z, t, h, w)
        context = self.model.context(conditions)
        errors: list[Tensor] = []  # (B,) each
        for step, goal in enumerate(goals):
            timestep = torch.full((len(goal),), TRAIN_STEPS * (1 - step / config.distilled_steps), device=goal.device)
            velocity = self.model(states[step], timestep, context).float()
            errors.append(asked_mean((velocity - goal).square(), conditions))
        return torch.stack(errors).mean(0)

    @torch.no_grad()
    def _way(self, noise: Tensor, conditions: Conditions) -> Tensor:
        """Where the teacher is at the student's K times and at the end: (K + 1, B, z, t, h, w) float32."""
        (teacher,), config = self._teacher, self.model.config
        guidance = config.distilled_guidance
        context = teacher.context(conditions)
        context = context if guidance == 1 else context.guided()
        steps = config.distilled_steps * self._teacher_steps
        x, states = noise, [noise]

        def velocity(x: Tensor, time: float) -> Tensor:
            return predict(teacher, x, TRAIN_STEPS * time, context=context, guidance=guidance)

        for step in range(steps):
            time = 1 - step / steps
            middle = x - velocity(x, time) / (2 * steps)
            x = x - velocity(middle, time - 1 / (2 * steps)) / steps
            if (step + 1) % self._teacher_steps == 0:
                states.append(x)
        return torch.stack(states)

    def _draw(self, batch: LatentBatch, index: int) -> tuple[Tensor, bool]:
        """Noise (z, t, h, w), and whether the text is left out."""
        rng = np.random.default_rng((self._seed, _NOISE, batch.step, index))
        noise = torch.from_numpy(rng.standard_normal(tuple(batch.latent.shape[1:]), np.float32))
        return noise, bool(rng.random() < self.model.config.condition_dropout)
