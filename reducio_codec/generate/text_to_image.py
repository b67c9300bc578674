"""The first stage of text to video: a text-to-image pipeline of diffusers makes the key picture (Sec. 4.1)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from reducio_codec.clips.padding import padded_length
from reducio_codec.errors import WeightsError
from reducio_codec.generate.optional import diffusers
from reducio_codec.generate.pictures import Picture, cover
from reducio_codec.generate.sampling import make_generators

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
        dtype: torch.dtype = torch.float32,
        offline: bool = False,
    ) -> Self:
        """Load from a folder, or ``org/name`` from the hub or its local cache. Only safetensors weights are read.

        Raises:
            WeightsError: it isn't there; the message says what to fetch. MissingDependencyError: no diffusers.
        """
        package = diffusers()
        name = str(name_or_folder)
        try:
            with warnings.catch_warnings():
                # its new name, dtype, is not known to the oldest version that we take
                warnings.filterwarnings("ignore", message=".*torch_dtype.*", category=FutureWarning)
                pipeline = package.AutoPipelineForText2Image.from_pretrained(
                    name, torch_dtype=dtype, local_files_only=offline, use_safetensors=True
                )
        except (OSError, ValueError, KeyError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
            raise WeightsError(
                f"the text-to-image pipeline {name!r} can't be loaded: {reason}. Fetch the repository "
                f"{DEFAULT_TEXT_TO_IMAGE} or another text-to-image one in diffusers' layout (model_index.json and its "
                "folders, safetensors weights) into a folder, and pass that folder as text_to_image"
            ) from error
        return cls(pipeline.to(device))

    def make(self, prompts: Sequence[str], *, height: int, width: int, seeds: Sequence[int]) -> list[Picture]:
        """One picture (height, width, 3) uint8 for each prompt and seed.

        The pipeline works at the size that it was trained for, in the wanted shape; the result is resized.
        """
        rows, columns = self._own_size(height, width)
        found = self.pipeline(
            list(prompts), height=rows, width=columns, generator=make_generators(seeds), output_type="pil"
        ).images
        return [cover(np.array(picture.convert("RGB")), height=height, width=width) for picture in found]

    def _own_size(self, height: int, width: int) -> tuple[int, int]:
        network = getattr(self.pipeline, "transformer", None) or getattr(self.pipeline, "unet", None)
        positions = getattr(getattr(network, "config", None), "sample_size", None)
        factor = getattr(self.pipeline, "vae_scale_factor", None)
        if not isinstance(positions, int) or not isinstance(factor, int):
            return padded_length(height), padded_length(width)
        scale = positions * factor / math.sqrt(height * width)
        return padded_length(round(height * scale)), padded_length(round(width * scale))
