"""What ``effort`` asks for, checked, and as steps of the coder that the latents are quantised for."""

from __future__ import annotations

from reducio_codec.clips.refine import Refinement
from reducio_codec.clips.runner import ClipRunner
from reducio_codec.coding.options import MAX_EFFORT
from reducio_codec.config import check_whole
from reducio_codec.errors import InputError
from reducio_codec.rdc.entropy import LatentCoder
from reducio_codec.rdc.ranges import step_units


def plan_refinement(
    effort: int, *, runner: ClipRunner, coder: LatentCoder, decoder: str, latent_step: float
) -> Refinement | None:
    """``None`` for effort 0. InputError for an effort or a model that can't be."""
    if check_whole(effort, name="effort", most=MAX_EFFORT) == 0:
        return None
    if runner.model.optimized_dtype is not None:
        raise InputError("effort needs gradients, which a model optimised for inference hasn't; use dtype float32")
    step_units(latent_step)  # refuses what isn't allowed
    return Refinement(steps=effort, decoder=decoder, widths=coder.steps(latent_step))
