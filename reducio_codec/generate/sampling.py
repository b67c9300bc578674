"""Noise to latents: diffusers' schedulers take the steps, the transformer predicts, guidance runs in one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from reducio_codec.errors import InputError, ReducioError
from reducio_codec.generate.block_cache import BlockCache
from reducio_codec.generate.conditioning import Conditions
from reducio_codec.generate.config import GuidanceOf, Objective
from reducio_codec.generate.context import Context
from reducio_codec.generate.dit import ReducioDiT
from reducio_codec.generate.noise_levels import BETAS, TRAIN_STEPS, add_noise
from reducio_codec.generate.optional import diffusers

SamplerName = Literal["dpm++", "unipc", "ddim", "euler", "heun"]

SAMPLERS: dict[Objective, tuple[SamplerName, ...]] = {"noise": ("dpm++", "unipc", "ddim"), "flow": ("euler", "heun")}
"""Samplers for what a model predicts; the first is the default."""

NoiseStage = Literal["clip", "picture", "motion"]
"""What is drawn: motion latents, the key picture of a text-to-image stage, or how much moves."""


@dataclass(frozen=True)
class Known:
    """Part of the latents that is given, as when a clip continues another."""

    latent: Tensor
    """(B, z, t, h, w), right in the first ``slots`` positions of time."""
    slots: int

    def told_to(self, conditions: Conditions) -> Conditions:
        """The same clips, with this among their conditions: for models that take it there."""
        is_known = torch.zeros(self.latent.shape[0], self.latent.shape[2], dtype=torch.bool)
        is_known[:, : self.slots] = True
        return replace(conditions, known=self.latent, is_known=is_known)


def check_sampler(name: str | None, *, objective: Objective, distilled: bool = False) -> SamplerName:
    """The sampler of that name, or the default, if it fits what the model predicts; a student's steps are Euler's."""
    allowed = SAMPLERS[objective]
    if name is None:
        return allowed[0]
    if distilled and name != allowed[0]:
        raise InputError(f"sampler is {name!r}; this model was distilled for {allowed[0]!r} and no other")
    for sampler in allowed:
        if sampler == name:
            return sampler
    known = name in get_args(SamplerName)
    why = f"; this model predicts {objective}" if known else ""
    raise InputError(f"sampler is {name!r}; allowed: {', '.join(allowed)}{why}")


def make_scheduler(name: SamplerName, *, steps: int, shift: float = 1.0) -> Any:
    """A scheduler of diffusers, set to ``steps`` steps of the paper's schedule or of the straight path, with ``shift`` times as
    many where there is much noise as where there is little. Its numbers stay on the host, where it looks at them."""
    if steps < 1:
        raise InputError(f"steps is {steps}; it must be at least 1")
    package = diffusers()
    common = {"num_train_timesteps": TRAIN_STEPS}
    linear = {**common, "beta_start": BETAS[0], "beta_end": BETAS[1], "beta_schedule": "linear"}
    if name == "dpm++":
        scheduler = package.DPMSolverMultistepScheduler(**linear, algorithm_type="dpmsolver++", solver_order=2)
    elif name == "unipc":
        scheduler = package.UniPCMultistepScheduler(**linear, solver_order=2)
    elif name == "ddim":
        # latents have no bounds to clip to; "trailing" starts at pure noise, as sampling does
        scheduler = package.DDIMScheduler(
            **linear, clip_sample=False, set_alpha_to_one=True, timestep_spacing="trailing"
        )
    elif name == "euler":
        scheduler = package.FlowMatchEulerDiscreteScheduler(**common, shift=shift)
    else:
        scheduler = package.FlowMatchHeunDiscreteScheduler(**common, shift=shift)
    if name == "euler":
        # equal steps; the scheduler's own end at 0.001, so that the last one would go almost nowhere
        scheduler.set_timesteps(sigmas=[1 - step / steps for step in range(steps)])
    else:
        scheduler.set_timesteps(steps)
    return scheduler


class MixedOnHost:
    """Takes the steps of a scheduler that solves equations on the device of its latents, and so waits for it: on the host.

    A step mixes latents and predictions so far. What it does to unit vectors says with which weights.
    """

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self._units = torch.eye(2 * len(scheduler.timesteps))
        self._mixed: list[Tensor] = []

    def step(self, prediction: Tensor, timestep: Any, latent: Tensor) -> Tensor:
        """The latent (B, z, t, h, w) of the next time."""
        first = len(self._mixed)
        self._mixed += [latent, prediction]
        units = self._units[first + 1, None], timestep, self._units[first, None]
        weights = self._scheduler.step(*units, return_dict=False)[0][0].tolist()
        parts = [weight * tensor for weight, tensor in zip(weights, self._mixed, strict=False) if weight]
        return torch.stack(parts).sum(0)


def evaluations(name: SamplerName, steps: int) -> int:
    """How often the network runs in ``steps`` steps."""
    return 2 * steps - 1 if name == "heun" else steps


def make_generators(seeds: Sequence[int], *, stage: NoiseStage = "clip") -> list[torch.Generator]:
    """One for each clip, on the CPU: a clip's noise depends on its own seed alone, not on batch or device.

    Args:
        stage: what is drawn. Seeds of the picture that a clip starts from, and of how much moves, are derived, so that all
            are independent; equal ones would be the same numbers where both have as many.
    """
    return [torch.Generator().manual_seed(_stage_seed(seed, stage)) for seed in seeds]


def _stage_seed(seed: int, stage: NoiseStage) -> int:
    if stage == "clip":
        return seed
    return int.from_bytes(sha256(f"{stage} {seed}".encode()).digest()[:7])


def draw_noise(shape: Sequence[int], *, generators: Sequence[torch.Generator]) -> Tensor:
    """(B, *shape) float32, clip by clip from its own generator."""
    return torch.stack([torch.randn(*shape, generator=generator) for generator in generators])


@torch.inference_mode()
def sample(
    model: ReducioDiT,
    context: Context,
    *,
    noise: Tensor,
    sampler: SamplerName,
    steps: int | None = None,
    guidance: float | None = None,
    guidance_of: GuidanceOf = "all",
    cache_blocks: int = 0,
    known: Known | None = None,
    after_evaluation: Callable[[], None] | None = None,
) -> Tensor:
    """Latents for the clips of ``context``.

    Args:
        model: in eval mode.
        context: of B clips, without guidance.
        noise: (B, z, t, h, w) float32, standard normal.
        sampler: one that fits the model's objective.
        steps: of the sampler; None: 20, or what the model was distilled for.
        guidance: 1 is none; larger follows the conditions more. Other values than 1 double the batch. None: 2.5, or 1
            for a distilled model, which has it inside.
        guidance_of: what it strengthens: all conditions, or the text alone; the picture is then told to both halves.
        cache_blocks: so many middle blocks run at every second evaluation only; 0: off.
        known: positions in time that are given; the rest is made to fit them. For models that aren't told them in ``context``.
        after_evaluation: called after each evaluation of the network; may raise to stop.

    No step waits for the device: on one ``after_evaluation`` runs ahead of it.

    Returns:
        (B, z, t, h, w) float32 on the model's device.

    Raises:
        ReducioError: the network gave a value that isn't a number.
    """
    config, objective = model.config, model.config.objective
    steps, guidance = config.sampling_steps(steps), config.sampling_guidance(guidance)
    sampler = check_sampler(sampler, objective=objective, distilled=config.distilled_steps > 0)
    scheduler = make_scheduler(sampler, steps=steps, shift=config.shift)
    if sampler != "ddim":  # which has no place of its own
        scheduler.set_begin_index(0)  # otherwise it searches for it
    take_step = MixedOnHost(scheduler).step if sampler == "unipc" else partial(_plain_step, scheduler)
    more = {"cache": BlockCache(cache_blocks, depth=config.depth)} if cache_blocks else {}
    start = noise.to(model.device, torch.float32)
    given = None if known is None else known.latent.to(start)
    latent = start * getattr(scheduler, "init_noise_sigma", 1.0)
    guided = context if guidance == 1 else context.guided(guidance_of)
    finite: list[Tensor] = []
    numbers = scheduler.timesteps.tolist()
    for timestep, number in zip(scheduler.timesteps, numbers, strict=True):
        if known is not None and given is not None and getattr(scheduler, "state_in_first_order", True):
            # the same noise at each step: what is given moves on a straight way, which multistep solvers can follow
            noisy = add_noise(objective, given, start, timestep)
            latent = torch.cat([noisy[:, :, : known.slots], latent[:, :, known.slots :]], dim=2)
        prediction = predict(model, latent, number, context=guided, guidance=guidance, **more)
        finite.append(torch.isfinite(prediction).all())
        latent = take_step(prediction, number if sampler == "ddim" else timestep, latent)  # ddim looks its own up
        if after_evaluation is not None:
            after_evaluation()
    _check_finite(finite, numbers, dtype=model.dtype)
    if known is not None and given is not None:
        latent = torch.cat([given[:, :, : known.slots], latent[:, :, known.slots :]], dim=2)
    if context.known is not None and context.is_known is not None:
        latent = torch.where(context.is_known, context.known.to(latent), latent)
    return latent.float()


def _plain_step(scheduler: Any, prediction: Tensor, timestep: Tensor | int, latent: Tensor) -> Tensor:
    after: Tensor = scheduler.step(prediction, timestep, latent, return_dict=False)[0]
    return after


def _check_finite(finite: Sequence[Tensor], timesteps: Sequence[float], *, dtype: torch.dtype) -> None:
    """At the end, since it waits for the device."""
    for good, timestep in zip(torch.stack(list(finite)).tolist(), timesteps, strict=True):
        if not good:
            raise ReducioError(
                f"the transformer gave infinite or undefined values at time step {timestep:.0f} in {dtype}; its weights "
                "are damaged, or they need bfloat16 or float32"
            )


def predict(
    model: ReducioDiT, latent: Tensor, timestep: float, *, context: Context, guidance: float, **more: Any
) -> Tensor:
    """(B, z, t, h, w) float32. ``context`` is ``guided()`` unless guidance is 1."""
    batch = len(context.size)
    inputs = latent if guidance == 1 else torch.cat([latent, latent])
    times = torch.full((batch,), float(timestep), device=model.device)
    out: Tensor = model(inputs, times, context, **more).float()
    if guidance == 1:
        return out
    told, untold = out.chunk(2)
    return untold + guidance * (told - untold)
