"""One step of all optimisers."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from reducio_codec.errors import ReducioError
from reducio_codec.train.loading import Batch
from reducio_codec.train.losses import adaptive_weight, hinge_loss
from reducio_codec.train.objective import Outcome, last_layer
from reducio_codec.train.schedule import discriminator_factor, rate_factor
from reducio_codec.train.session import Session

_log = logging.getLogger(__name__)


def take_step(session: Session, batches: Iterator[Batch], *, share: float) -> None:
    """One step of all optimisers."""
    recipe, progress, accelerator = session.recipe, session.progress, session.accelerator
    factor = rate_factor(recipe.optimizer, step=progress.step, share=share)
    for group in session.optimizer.param_groups:
        group["lr"] = recipe.optimizer.learning_rate * factor * group["scale"]
    names = recipe.decoders
    if recipe.train.take_turns:
        names = (names[progress.step % len(names)],)
    session.objective.train()
    for _ in range(recipe.run.accumulate):
        with _timed(session, "wait for clips"):
            batch = _to_device(next(batches), session.device)
        for failure in batch.failures:
            progress.skipped += 1
            _log.warning("skipped a clip: %s", failure)
        stage = recipe.stages[batch.stage]
        modules = [session.objective] if session.discriminator is None else [session.objective, session.discriminator]
        with accelerator.accumulate(*modules):
            with _timed(session, "forward"):
                outcome: Outcome = session.objective(batch, stage, names)
                loss, adversarial = _with_adversary(session, outcome)
            _check_finite(loss, batch, step=progress.step)
            with _timed(session, "backward"):
                accelerator.backward(loss)
            with _timed(session, "update"):
                _update(
                    session, session.optimizer, session.objective, clip_norm=recipe.optimizer.clip_norm, batch=batch
                )
            if adversarial:
                with _timed(session, "discriminator"):
                    adversarial |= _teach_discriminator(session, batch, outcome)
        parts = {"loss": loss.detach(), **outcome.parts, **adversarial}
        for name, value in parts.items():
            session.sums[name] = session.sums.get(name, 0.0) + float(value)
        session.counted += 1
    if session.average is not None:
        with _timed(session, "average"):
            _follow(session.average, session.model, decay=recipe.optimizer.ema, step=progress.step)


def _with_adversary(session: Session, outcome: Outcome) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss with the adversarial part, and that part's terms; none of it before ``gan.start``."""
    gan = session.recipe.gan
    if session.discriminator is None or session.progress.step < gan.start:
        return outcome.loss, {}
    loss = outcome.loss
    parts: dict[str, Tensor] = {}
    session.discriminator.requires_grad_(False)
    for name, decoded in outcome.decoded.items():
        wrong = -session.discriminator(decoded.float()).mean()
        weight = adaptive_weight(outcome.reconstruction[name], wrong, last_layer(session.model, name))
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
    for decoded in outcome.decoded.values():
        judged = hinge_loss(session.discriminator(decoded.detach().float()), real=False)
        losses.append(0.5 * (hinge_loss(session.discriminator(real), real=True) + judged))
    loss = torch.stack(losses).mean()
    session.accelerator.backward(loss)
    _update(session, session.discriminator_optimizer, session.discriminator, clip_norm=gan.clip_norm, batch=batch)
    return {"discriminator": loss.detach()}


def _update(session: Session, optimizer: Any, module: Any, *, clip_norm: float, batch: Batch) -> None:
    if session.accelerator.sync_gradients:
        norm = session.accelerator.clip_grad_norm_(module.parameters(), clip_norm or math.inf)
        _check_finite(norm, batch, step=session.progress.step)  # the gradients of all processes are in it
    optimizer.step()
    optimizer.zero_grad()


def _check_finite(value: Tensor, batch: Batch, *, step: int) -> None:
    if not torch.isfinite(value).all():
        raise ReducioError(
            f"the loss isn't finite at step {step}; its clips: {', '.join(batch.names)}. The last checkpoint is kept"
        )


@torch.no_grad()
def _follow(average: nn.Module, model: nn.Module, *, decay: float, step: int) -> None:
    weight = 1 - min(decay, (2 + step) / (11 + step))
    for target, source in zip(average.parameters(), model.parameters(), strict=True):
        if source.requires_grad:
            target.lerp_(source, weight)


def _to_device(batch: Batch, device: torch.device) -> Batch:
    tensors: dict[str, Any] = {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}
    return replace(batch, **{name: value.to(device, non_blocking=True) for name, value in tensors.items()})


@contextmanager
def _timed(session: Session, name: str) -> Iterator[None]:
    """Adds the time of a part of the step; accelerators are waited for only where somebody asked (``profile``)."""
    began = time.perf_counter()
    yield
    if session.profile and session.device.type == "cuda":
        torch.cuda.synchronize(session.device)
    session.times[name] = session.times.get(name, 0.0) + time.perf_counter() - began
