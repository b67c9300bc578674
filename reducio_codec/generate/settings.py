"""How a pipeline makes its clips, checked against its model before any work is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import TypedDict

import torch
from torch import Tensor

from reducio_codec.config import check_choice
from reducio_codec.errors import InputError
from reducio_codec.generate.block_cache import BlockCache
from reducio_codec.generate.config import DiTConfig, GuidanceOf
from reducio_codec.generate.continuation import frames_of
from reducio_codec.generate.controls import Camera, check_motion, read_camera
from reducio_codec.generate.sampling import SamplerName, check_sampler


class Options(TypedDict, total=False):
    """What a caller may say of how clips are made; see ``ReducioDiTPipeline.__call__``."""

    seconds: float
    steps: int | None
    guidance: float | None
    guidance_of: GuidanceOf
    cache_blocks: int
    sampler: SamplerName | None
    decoder: str | None
    motion: float | None
    camera: Camera | str | Sequence[float] | None
    match_motion: bool
    match_colour: bool
    sharpen: bool
    loop: bool


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What ``ReducioDiTPipeline`` takes beside pictures and prompts, with all that was left out filled in."""

    frames: int
    sampler: SamplerName
    steps: int
    guidance: float
    guidance_of: GuidanceOf
    cache_blocks: int
    decoder: str | None
    motion: float | None
    camera: Camera | None
    match_motion: bool
    match_colour: bool
    sharpen: bool
    loop: bool

    def controls(self, count: int, *, drawn: Tensor | None = None) -> dict[str, Tensor]:
        """Motion and camera as conditions of so many clips; what isn't told is missing. ``drawn`` (B,) is their motion where a
        user doesn't say so."""
        found: dict[str, Tensor] = {}
        if self.motion is not None:
            found["motion"] = torch.full((count,), self.motion)
        elif drawn is not None:
            found["motion"] = drawn
        if self.camera is not None:
            found["camera"] = torch.tensor([astuple(self.camera)] * count)
        return found


def read_settings(
    config: DiTConfig,
    *,
    decoders: Sequence[str],
    text: bool,
    seconds: float = 1.0,
    steps: int | None = None,
    guidance: float | None = None,
    guidance_of: GuidanceOf = "all",
    cache_blocks: int = 0,
    sampler: SamplerName | None = None,
    decoder: str | None = None,
    motion: float | None = None,
    camera: Camera | str | Sequence[float] | None = None,
    match_motion: bool = True,
    match_colour: bool = True,
    sharpen: bool = True,
    loop: bool = False,
) -> Settings:
    """Check what a caller asks for; see ``ReducioDiTPipeline.__call__``.

    Args:
        decoders: the codec's.
        text: whether there are prompts.

    Raises:
        InputError: what this model can't do, or what has no effect.
    """
    steps, guidance = config.sampling_steps(steps), config.sampling_guidance(guidance)
    if cache_blocks:
        BlockCache(cache_blocks, depth=config.depth)
    if decoder is not None:
        check_choice(decoder, name="decoder", allowed=decoders)
    for name, value in (("motion", motion), ("camera", camera)):
        if value is not None and not config.motion_unit:
            raise InputError(f"{name} is {value!r}, but this model was trained without: it decides itself what moves")
    return Settings(
        frames=frames_of(seconds),
        sampler=check_sampler(sampler, objective=config.objective, distilled=config.distilled_steps > 0),
        steps=steps,
        guidance=guidance,
        guidance_of=config.check_guidance_of(guidance_of, guidance=guidance, text=text),
        cache_blocks=cache_blocks,
        decoder=decoder,
        motion=None if motion is None else check_motion(motion),
        camera=None if camera is None else read_camera(camera),
        match_motion=match_motion,
        match_colour=match_colour,
        sharpen=sharpen,
        loop=loop,
    )
