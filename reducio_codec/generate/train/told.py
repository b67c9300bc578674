"""What a batch's clips are told of themselves, beside picture and text: the beginning, the motion, the camera.

What is drawn is a function of the seed, the step and the sample's place in the whole batch.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from reducio_codec.generate.conditioning import Conditions
from reducio_codec.generate.config import DiTConfig
from reducio_codec.generate.latent_motion import LatentMotion
from reducio_codec.generate.train.samples import LatentBatch
from reducio_codec.training.transfer import to_device

_KNOWN, _CONTROLS = 6, 7
"""Streams of random numbers."""

_GOES_ON = 0.3
"""Share of clips that are told their first half."""


def tell(
    conditions: Conditions, batch: LatentBatch, *, config: DiTConfig, motion: LatentMotion | None, seed: int
) -> Conditions:
    """``conditions`` of the clips of ``batch``, with what a model takes of these.

    Args:
        motion: reads motion and camera from latents; for models that take them.
    """
    draws = [(seed, batch.step, index) for index in batch.indices]
    latent = batch.latent  # (B, z, t, h, w)
    if config.goes_on:
        is_known = torch.zeros(len(draws), latent.shape[2], dtype=torch.bool)
        for row, draw in zip(is_known, draws, strict=True):
            row[: latent.shape[2] // 2] = np.random.default_rng((_KNOWN, *draw)).random() < _GOES_ON
        conditions = replace(conditions, known=latent, is_known=to_device(is_known, latent.device))
    if config.motion_unit:
        assert motion is not None
        moved, camera = motion.measure(latent)
        drawn = np.stack([np.random.default_rng((_CONTROLS, *draw)).random(2) for draw in draws])
        hide = drawn < config.control_dropout
        # what it is told nothing of, a model shall move as fast as people film it
        hide[:, 0] &= np.array(batch.paces) == 1
        hidden = to_device(torch.from_numpy(hide), moved.device)  # (B, 2)
        moved, camera = moved.masked_fill(hidden[:, 0], math.nan), camera.masked_fill(hidden[:, 1:], math.nan)
        conditions = replace(conditions, motion=moved, camera=camera)
    return conditions


def asked_mean(error: Tensor, conditions: Conditions) -> Tensor:
    """Mean (B,) of errors (B, z, t, h, w) where nothing is given: what is told needn't be foretold."""
    if conditions.is_known is None:
        return error.flatten(1).mean(1)
    asked = (~conditions.is_known)[:, None, :, None, None].expand_as(error).flatten(1)  # (B, z t h w)
    return (error.flatten(1) * asked).sum(1) / asked.sum(1)
