"""Does a generator do what it is asked? Motion and camera that were asked for against those of the clips that were made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple

import numpy as np
import torch
from numpy.typing import NDArray

from reducio_codec.codec import ReducioCodec
from reducio_codec.generate.controls import Camera
from reducio_codec.generate.latent_motion import LatentMotion
from reducio_codec.generate.measure import Clip
from reducio_codec.generate.pipeline import ReducioDiTPipeline

_MOTIONS = (0.25, 4.0)
"""Smallest and largest that is asked for."""
_SPREAD = {"pan_x": 0.1, "pan_y": 0.1, "zoom": 0.1, "roll": 4.0}
"""Standard deviations of the cameras that are asked for, one movement at a time."""


def asked_against_made(
    pipeline: ReducioDiTPipeline,
    codec: ReducioCodec,
    pictures: Sequence[NDArray[np.uint8]],
    *,
    done: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Correlations over the pictures: of motion (logarithms), and of each of a camera's numbers.

    Each picture (H, W, 3) is asked for two clips, one with a motion and one with a camera. What was made is read from the
    clips' own latents.

    Args:
        pipeline: of a model that takes motion and camera.
        done: called after each picture.
    """
    config = pipeline.config
    reader = LatentMotion(codec.model, unit=config.motion_unit, side=config.sample_size)
    rng = np.random.default_rng(0)
    low, high = np.log(_MOTIONS)
    motions: list[tuple[float, float]] = []
    cameras: dict[str, list[tuple[float, float]]] = {name: [] for name in _SPREAD}

    def read(clip: Clip) -> tuple[float, list[float]]:
        latent, _ = codec.encode(torch.from_numpy(clip))
        motion, camera = reader.measure(latent.plain())
        return float(motion), camera[0].tolist()

    for number, picture in enumerate(pictures):
        motion = float(np.exp(rng.uniform(low, high)))
        made, _ = read(pipeline(image=picture, seed=number, motion=motion))
        motions.append((float(np.log(motion)), float(np.log(made + 1e-3))))
        name = list(_SPREAD)[number % len(_SPREAD)]
        camera = Camera(**{name: float(rng.normal()) * _SPREAD[name]})
        _, turned = read(pipeline(image=picture, seed=number, camera=camera))
        for each, asked, found in zip(_SPREAD, astuple(camera), turned, strict=True):
            cameras[each].append((asked, found))
        done()
    return {"motion": _correlation(motions), **{name: _correlation(pairs) for name, pairs in cameras.items()}}


def _correlation(pairs: Sequence[tuple[float, float]]) -> float:
    """Pearson's; 0 where one side doesn't vary."""
    asked, made = np.array(pairs).T
    if not asked.std() or not made.std():
        return 0.0
    return float(np.corrcoef(asked, made)[0, 1])
