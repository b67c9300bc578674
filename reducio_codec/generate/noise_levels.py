"""How much noise a latent has at a time step: what training adds, and where sampling meets what is known."""

from __future__ import annotations

import torch
from torch import Tensor

from reducio_codec.generate.config import Objective

TRAIN_STEPS = 1000
"""Time steps of the paper's schedule; flow matching's time 0..1 is counted in thousandths too."""

BETAS = (1e-4, 0.02)
"""First and last beta of the linear schedule (PixArt-alpha's)."""


def noise_level(objective: Objective, timestep: Tensor) -> tuple[Tensor, Tensor]:
    """``(a, s)`` of ``noisy = a * clean + s * noise``, float32, each of ``timestep``'s shape.

    Args:
        objective: ``noise``: whole steps 0 to 999 of the linear-beta schedule. ``flow``: 0 to 1000, a straight line.
        timestep: (...), 0 is (almost) clean.
    """
    if objective == "flow":
        level = timestep.float() / TRAIN_STEPS
        return 1 - level, level
    betas = torch.linspace(*BETAS, TRAIN_STEPS, dtype=torch.float64, device=timestep.device)
    kept = torch.cumprod(1 - betas, dim=0).take(timestep.long())
    return kept.sqrt().float(), (1 - kept).sqrt().float()


def add_noise(objective: Objective, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
    """(B, ...) latents with noise at time steps (B,) or ()."""
    signal, spread = (_as_factor(level, clean) for level in noise_level(objective, timestep))
    return signal * clean + spread * noise


def target(objective: Objective, clean: Tensor, noise: Tensor) -> Tensor:
    """What the network shall predict: the noise, or the velocity from clean to noise."""
    return noise - clean if objective == "flow" else noise


def _as_factor(level: Tensor, like: Tensor) -> Tensor:
    if level.ndim == 0:  # of the host goes with any device
        return level
    return level.to(like.device).reshape(-1, *(1,) * (like.ndim - 1))
