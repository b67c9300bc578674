"""One step of all optimisers."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from reducio_codec.models.contract import CodecModel
from reducio_codec.train.loading import Batch
from reducio_codec.train.losses import adaptive_weight, hinge_loss
from reducio_codec.train.objective import Outcome
from reducio_codec.train.run import check_finite, follow, set_rate, update
from reducio_codec.train.schedule import discriminator_factor
from reducio_codec.train.session import Session

_log = logging.getLogger(__name__)


def take_step(session: Session, batches: Iterator[Batch], *, share: float) -> None:
    """One step of all optimisers."""
    recipe, progress, accelerator = session.recipe, session.progress, session.accelerator
    set_rate(session, share=share)
    names = recipe.decoders
    if recipe.train.take_turns:
        names = (names[progress.step % len(names)],)
    session.objective.train()
    for _ in range(recipe.run.accumulate):
        with session.timed("wait for clips"):
            batch = _to_device(next(batches), session.device)
        for failure in batch.failures:
            progress.skipped += 1
            _log.warning("skipped a clip: %s", failure)
        stage = recipe.stages[batch.stage]
        modules = [session.objective] if session.discriminator is None else [session.objective, session.discriminator]
        with accelerator.accumulate(*modules):
            with session.timed("forward"), accelerator.autocast():
                outcome: Outcome = session.objective(batch, stage, names)
                loss, adversarial = _with_adversary(session, outcome)
            check = partial(check_finite, names=batch.names, step=progress.step)
            check(loss)
            with session.timed("backward"):
                accelerator.backward(loss)
            with session.timed("update"):
                update(session, session.optimizer, session.objective, clip_norm=recipe.optimizer.clip_norm, check=check)
            if adversarial:
                with session.timed("discriminator"):
                    adversarial |= _teach_discriminator(session, batch, outcome)
        session.count({"loss": loss.detach(), **outcome.parts, **adversarial})
    follow(session)


def _with_adversary(session: Session, outcome: Outcome) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss with the adversarial part, and that part's terms; none of it before ``gan.start``."""
    gan = session.recipe.gan
    if session.discriminator is None or session.progress.step < gan.start:
        return outcome.loss, {}
    loss = outcome.loss
    parts: dict[str, Tensor] = {}
    session.discriminator.requires_grad_(False)
    for name, decoded in outcome.decoded.items():
        wrong = -session.discriminator(decoded.float()).float().mean()
        weight = adaptive_weight(outcome.reconstruction[name], wrong, cast(CodecModel, session.model).last_layer(name))
        loss = loss + gan.weight * weight * wrong / len(outcome.decoded)
        parts |= {f"{name}/adversarial": wrong.detach(), f"{name}/adaptive weight": weight}
    session.discriminator.requires_grad_(True)
    return loss, parts


def _teach_discriminator(session: Session, batch: Batch, outcome: Outcome) -> dict[str, Tensor]:
    gan = session.recipe.gan
    for group in session.discriminator_optimizer.param_groups:
        group["lr"] = gan.learning_rate * discriminator_factor(gan, step=session.progress.step)
    real = batch.video.float() / 127.5 - 1
    losses = []
    with session.accelerator.autocast():
        for decoded in outcome.decoded.values():
            judged = hinge_loss(session.discriminator(decoded.detach().float()).float(), real=False)
            losses.append(0.5 * (hinge_loss(session.discriminator(real).float(), real=True) + judged))
    loss = torch.stack(losses).mean()
    session.accelerator.backward(loss)
    check = partial(check_finite, names=batch.names, step=session.progress.step)
    update(session, session.discriminator_optimizer, session.discriminator, clip_norm=gan.clip_norm, check=check)
    return {"discriminator": loss.detach()}


def _to_device(batch: Batch, device: torch.device) -> Batch:
    tensors: dict[str, Any] = {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}
    return replace(batch, **{name: value.to(device, non_blocking=True) for name, value in tensors.items()})
