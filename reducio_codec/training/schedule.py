"""What of a run follows from how far it is: its share, and the learning rate."""

from __future__ import annotations

import math

from reducio_codec.training.checkpoint import Position
from reducio_codec.training.options import OptimizerOptions, RunOptions


def share_done(run: RunOptions, position: Position) -> float:
    """0 to 1."""
    done = position.step / run.steps if run.steps else position.seconds / (60 * run.minutes)
    return min(1.0, done)


def rate_factor(options: OptimizerOptions, *, step: int, share: float) -> float:
    """Share of the learning rate at a step (counted from 0)."""
    rise = min(1.0, (step + 1) / options.warmup) if options.warmup else 1.0
    if options.schedule == "cosine":
        fall = options.final + (1 - options.final) * 0.5 * (1 + math.cos(math.pi * share))
    elif options.schedule == "linear":
        fall = options.final + (1 - options.final) * (1 - share)
    else:
        fall = 1.0
    return rise * fall
