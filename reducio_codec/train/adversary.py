"""The discriminator: what it adds to the loss, and its own step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from reducio_codec.models.contract import CodecModel
from reducio_codec.models.discriminator import PatchDiscriminator
from reducio_codec.train.clip_loss import Outcome
from reducio_codec.train.loading import Batch
from reducio_codec.train.losses import adaptive_weight, hinge_loss
from reducio_codec.train.options import GanOptions
from reducio_codec.training.acceleration import prepare
from reducio_codec.training.run import Run, update


class Adversary:
    """A discriminator and its optimiser, as accelerate wraps them.

    Args:
        run: which it joins.
        seed: of its weights.
    """

    def __init__(self, options: GanOptions, run: Run, *, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = PatchDiscriminator(options.channels)
        optimizer = torch.optim.Adam(
            module.parameters(), lr=options.learning_rate, betas=(options.betas[0], options.betas[1])
        )
        self._options = options
        self._module, self._optimizer = prepare(run.accelerator, module, optimizer)
        run.others.append(self._module)

    def counts(self, step: int) -> bool:
        """Whether its losses count at this step already."""
        return step >= self._options.start

    def judge(self, run: Run, outcome: Outcome) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss with the adversarial part, and that part's terms."""
        loss, weight = outcome.loss, self._options.weight
        parts: dict[str, Tensor] = {}
        self._module.requires_grad_(False)
        for name, decoded in outcome.decoded.items():
            wrong = -self._module(decoded.float()).float().mean()
            balance = adaptive_weight(outcome.reconstruction[name], wrong, cast(CodecModel, run.model).last_layer(name))
            loss = loss + weight * balance * wrong / len(outcome.decoded)
            parts |= {f"{name}/adversarial": wrong.detach(), f"{name}/adaptive weight": balance}
        self._module.requires_grad_(True)
        return loss, parts

    def learn(self, run: Run, batch: Batch, decoded: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Its own step."""
        for group in self._optimizer.param_groups:
            group["lr"] = self._options.learning_rate * discriminator_factor(self._options, step=run.position.step)
        with run.timed("discriminator"):
            loss = self._loss(run.accelerator, batch, decoded)
            run.accelerator.backward(loss)
            update(run, self._optimizer, self._module, clip_norm=self._options.clip_norm, names=batch.names)
        return {"discriminator": loss.detach()}

    def _loss(self, accelerator: Any, batch: Batch, decoded: Mapping[str, Tensor]) -> Tensor:
        real = batch.video.float() / 127.5 - 1
        losses = []
        with accelerator.autocast():
            for video in decoded.values():
                judged = hinge_loss(self._module(video.detach().float()).float(), real=False)
                losses.append(0.5 * (hinge_loss(self._module(real).float(), real=True) + judged))
        return torch.stack(losses).mean()


def discriminator_factor(options: GanOptions, *, step: int) -> float:
    """Share of its learning rate: a tenth for ``slow_steps``, then rising to 1 within ``ramp_steps``."""
    if step < options.slow_steps:
        return 0.1
    return 1.0 if not options.ramp_steps else min(1.0, 0.1 + 0.9 * (step - options.slow_steps) / options.ramp_steps)
