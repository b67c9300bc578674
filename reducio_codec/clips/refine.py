"""Better latents at no cost to the decoder: gradient steps on the decoder that will read them.

A trained encoder gives a latent that is good for videos in general. Which latent is best for this very clip can be found
with the decoder at hand, as any video encoder searches for the best decision: here by gradient descent on the decoded
clip's error and the latent's bits together (semi-amortised inference, arXiv 1802.02550; for codecs arXiv 2006.04240).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reducio_codec.clips.runner import ClipRunner
from reducio_codec.config import CLIP_LENGTH
from reducio_codec.models.contract import Reference
from reducio_codec.models.precision import fast_autocast

_RATE = 0.3
"""Weight of a bit for each value of the latent against the log of the mean squared error: keeps lite's bits about equal."""
_PACE = 0.2
"""Quantiser steps that a value moves at first for a gradient of the clip's usual size; larger ones count by their asinh."""
_FALL = 0.3
"""How much of the pace is gone at the end."""
_MOMENTUM = 0.6
_FLAT = 0.05
"""Size of gradient, for a change of one quantiser step, below which there is nothing to gain."""
_LARGEST = 384
"""Pixels of a tile: gradients keep all steps of all its frames (720p in one: 4.4 GB more), and larger ones gain nothing."""
_FLOOR = 1e-4
"""Mean squared error on [-1, 1] (46 dB) below which a clip is good enough."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Refinement:
    """What a latent is refined for."""

    steps: int
    """Gradient steps; each takes about three times as long as decoding."""
    decoder: str
    """The decoder that will be used. Others read the latent too, and gain less."""
    widths: Tensor
    """(z, 1, 1, 1): quantiser step of each channel, in its standard deviations."""

    def at(self, widths: Tensor) -> Refinement:
        """The same for other quantiser steps."""
        return replace(self, widths=widths)


def refine(
    runner: ClipRunner,
    latent: Tensor,
    clip: Tensor,
    *,
    references: Sequence[Reference],
    frames: slice,
    refinement: Refinement,
) -> Tensor:
    """A better latent of one clip (or a batch of them) than the encoder's. The same input gives the same bits.

    The gradient is that of the latent as it is, without noise that would stand for rounding: in so few steps noise costs
    more than it teaches. The result is meant to be quantised with those steps. Tiles are decoded one batch at a time, and
    their gradients added up.

    Args:
        latent: (B, z, t, h, w), normalised, from ``runner.encode``.
        clip: (B, 3, 16, H, W) uint8, or float in [-1, 1].
        references: (B, 3, H, W) each, as the decoder will have them.
        frames: the real ones among the 16.

    Returns:
        (B, z, t, h, w) float32, where ``latent`` lies.
    """
    widths = refinement.widths.to(runner.device)
    symbols = latent.to(runner.device, torch.float32) / widths  # in quantiser steps
    used = runner.model.decoder(refinement.decoder).select(references)
    movement = torch.zeros_like(symbols)
    for step in range(refinement.steps):
        gradient, error = _error_gradient(
            runner,
            symbols * widths,
            clip,
            used,
            frames=frames,
            decoder=refinement.decoder,
        )
        # the gradient of log(error + floor) + rate * bits, each clip for itself, times its number of values
        slope = gradient * widths / (error + _FLOOR)[:, None, None, None, None] * symbols[0].numel()
        slope += _RATE * symbols.sign() / ((0.5 + symbols.abs()) * math.log(2))
        usual = slope.square().mean((1, 2, 3, 4), keepdim=True).sqrt().clamp_min(_FLAT)
        movement = _MOMENTUM * movement + (slope / usual).asinh()
        symbols = symbols - _PACE * (1 - _FALL * step / refinement.steps) * movement
    return (symbols * widths).to(latent.device)


def _error_gradient(
    runner: ClipRunner,
    latent: Tensor,
    clip: Tensor,
    references: Sequence[Reference],
    *,
    frames: slice,
    decoder: str,
) -> tuple[Tensor, Tensor]:
    """Mean squared error (B,) of the decoded tiles, weighted as they are blended, and its gradient (B, z, t, h, w).

    The latent's alone: the model may be one that somebody trains.
    """
    height, width = clip.shape[-2:]
    tiling = runner.tiling
    plan = runner.plan(height, width, tiling=tiling.of_size(min(_LARGEST, tiling.tile_size)))
    latent_plan = plan.divided(runner.ratio)
    weights = [
        (row[:, None] * column).to(runner.device) for row in plan.rows.weights() for column in plan.columns.weights()
    ]
    values = 3 * len(range(CLIP_LENGTH)[frames]) * plan.rows.length * plan.columns.length
    leaf = latent.detach().requires_grad_()
    gradient = torch.zeros_like(leaf)
    error = torch.zeros(latent.shape[0], dtype=torch.float32, device=runner.device)
    with torch.enable_grad():
        place = 0
        for corners in runner.batches(plan, batch=latent.shape[0]):
            motion = runner.cut(leaf, [(y // runner.ratio, x // runner.ratio) for y, x in corners], plan=latent_plan)
            target = runner.cut(clip, corners, plan=plan)[:, :, frames]  # (n*B, 3, T, tile, tile)
            pictures = runner.cut_references(references, corners, plan=plan)
            with fast_autocast(runner.device):
                decoded = runner.model.decode(motion, pictures, decoder=decoder)
            weight = torch.stack(weights[place : place + len(corners)]).repeat_interleave(latent.shape[0], 0)
            squares = ((decoded[:, :, frames].float() - target).square() * weight[:, None, None]).sum(
                (1, 2, 3, 4)
            ) / values
            gradient += torch.autograd.grad(squares.sum(), leaf)[0]
            error += squares.detach().unflatten(0, (len(corners), -1)).sum(0)
            place += len(corners)
    return gradient, error
