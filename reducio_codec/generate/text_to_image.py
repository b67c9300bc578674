"""The first stage of text to video: a text-to-image pipeline of diffusers makes the key picture (Sec. 4.1)."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from reducio_codec.clips.padding import padded_length
from reducio_codec.errors import WeightsError
from reducio_codec.generate.optional import diffusers
from reducio_codec.generate.pictures import Picture, cover
from reducio_codec.generate.sampling import make_generators
from reducio_codec.models.precision import Dtype, as_dtype

DEFAULT_TEXT_TO_IMAGE = "PixArt-alpha/PixArt-XL-2-1024-MS"


class TextToImage:
    """Any pipeline that ``AutoPipelineForText2Image`` loads: PixArt-alpha, SDXL, ..."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        pipeline.set_progress_bar_config(disable=True)

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | Path = DEFAULT_TEXT_TO_IMAGE,
        *,
        device: torch.device | str = "cpu",
        dtype: Dtype = torch.float32,
        offline: bool = False,
    ) -> Self:
        """Load from a folder, or ``org/name`` from the hub or its local cache. Only safetensors weights are read.

        Raises:
            WeightsError: it isn't there; the message says what to fetch. MissingDependencyError: no diffusers.
        """
        package, kind = diffusers(), as_dtype(dtype)
        name = str(name_or_folder)
        try:
            with warnings.catch_warnings():
                # its new name, dtype, is not known to the oldest version that we take
                warnings.filterwarnings("ignore", message=".*torch_dtype.*", category=FutureWarning)
                pipeline = package.AutoPipelineForText2Image.from_pretrained(
                    name, torch_dtype=kind, local_files_only=offline, use_safetensors=True
                )
        except (OSError, ValueError, KeyError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
            raise WeightsError(
                f"the text-to-image pipeline {name!r} can't be loaded: {reason}. Fetch the repository "
                f"{DEFAULT_TEXT_TO_IMAGE} or another text-to-image one in diffusers' layout (model_index.json and its "
                "folders, safetensors weights) into a folder, and pass that folder as text_to_image"
            ) from error
        return cls(pipeline.to(device))

    @property
    def steps(self) -> int:
        """Of its sampler, unless others are asked for."""
        return int(inspect.signature(self.pipeline.__call__).parameters["num_inference_steps"].default)

    def make(
        self,
        prompts: Sequence[str],
        *,
        height: int,
        width: int,
        seeds: Sequence[int],
        steps: int | None = None,
        guidance: float | None = None,
        after_step: Callable[[], None] | None = None,
    ) -> list[Picture]:
        """One picture (height, width, 3) uint8 for each prompt and seed.

        The pipeline works at the size that it was trained for, in the wanted shape; the result is resized.

        Args:
            steps, guidance: of its sampler; None: the pipeline's own.
            after_step: called once for each step; may raise to stop.
        """
        rows, columns = self._own_size(height, width)
        wanted: dict[str, Any] = {"num_inference_steps": steps, "guidance_scale": guidance}
        told = _Steps(steps or self.steps, after_step)
        found = self.pipeline(
            list(prompts),
            height=rows,
            width=columns,
            generator=make_generators(seeds, stage="picture"),
            output_type="pil",
            **{name: value for name, value in wanted.items() if value is not None},
            **told.options(self.pipeline),
        ).images
        told.rest()
        return [cover(np.array(picture.convert("RGB")), height=height, width=width) for picture in found]

    def _own_size(self, height: int, width: int) -> tuple[int, int]:
        network = getattr(self.pipeline, "transformer", None) or getattr(self.pipeline, "unet", None)
        positions = getattr(getattr(network, "config", None), "sample_size", None)
        factor = getattr(self.pipeline, "vae_scale_factor", None)
        if not isinstance(positions, int) or not isinstance(factor, int):
            return padded_length(height), padded_length(width)
        scale = positions * factor / math.sqrt(height * width)
        return padded_length(round(height * scale)), padded_length(round(width * scale))


class _Steps:
    """Calls ``after`` once for each step, through whichever callback a pipeline of diffusers has."""

    def __init__(self, total: int, after: Callable[[], None] | None) -> None:
        self._left, self._after = total, after

    def options(self, pipeline: Any) -> dict[str, Any]:
        """What the pipeline is called with."""
        known = inspect.signature(pipeline.__call__).parameters
        if "callback_on_step_end" in known:
            return {"callback_on_step_end": self._new}
        if "callback" in known:
            return {"callback": self._old}
        return {}

    def rest(self) -> None:
        """At the end: the steps that the pipeline didn't tell of."""
        while self._left > 0:
            self._one()

    def _new(self, _pipeline: Any, _step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        self._one()
        return tensors

    def _old(self, _step: int, _timestep: Any, _latents: Any) -> None:
        self._one()

    def _one(self) -> None:
        if self._left > 0:
            self._left -= 1
            if self._after is not None:
                self._after()
