"""What of a run follows from how far it is: learning rates and stages."""

from __future__ import annotations

import math

from reducio_codec.train.checkpoint import Progress
from reducio_codec.train.recipe import GanOptions, OptimizerOptions, Recipe, RunOptions


def share_done(run: RunOptions, progress: Progress) -> float:
    """0 to 1."""
    done = progress.step / run.steps if run.steps else progress.seconds / (60 * run.minutes)
    return min(1.0, done)


def stage_number(recipe: Recipe, share: float) -> int:
    """The stage that is in force when ``share`` of the run is done."""
    return next((i for i, stage in enumerate(recipe.stages) if share < stage.until), len(recipe.stages) - 1)


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


def discriminator_factor(options: GanOptions, *, step: int) -> float:
    """A tenth for ``slow_steps``, then rising to 1 within ``ramp_steps``."""
    if step < options.slow_steps:
        return 0.1
    return 1.0 if not options.ramp_steps else min(1.0, 0.1 + 0.9 * (step - options.slow_steps) / options.ramp_steps)
