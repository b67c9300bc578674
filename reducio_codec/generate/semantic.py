"""Key pictures to semantic tokens: OpenCLIP image encoders (Sec. 3.2: ViT-H)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional

from reducio_codec.errors import WeightsError
from reducio_codec.generate.optional import open_clip
from reducio_codec.models.precision import Dtype, as_dtype

DEFAULT_IMAGE_ENCODER = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"


class ImageEncoder:
    """The picture half of an OpenCLIP model."""

    def __init__(self, visual: Any) -> None:
        self.visual = visual
        # tokens of all places, and a picture's own token at the same width rather than projected to the text's
        visual.output_tokens = True
        visual.proj = None

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | Path = DEFAULT_IMAGE_ENCODER,
        *,
        device: torch.device | str = "cpu",
        dtype: Dtype = torch.float32,
        offline: bool = False,
    ) -> Self:
        """Load from a folder (open_clip_config.json and weights), or ``org/name`` from the hub.

        Raises:
            WeightsError: it isn't there; the message says what to fetch. MissingDependencyError: no open_clip.
        """
        package, kind = open_clip(), as_dtype(dtype)
        name = str(name_or_folder)
        local = Path(name_or_folder).is_dir()
        by_hand = (
            f"Fetch open_clip_config.json and open_clip_model.safetensors of {DEFAULT_IMAGE_ENCODER} into "
            "a folder, and pass that folder as image_encoder"
        )
        if offline and not local:
            raise WeightsError(f"the image encoder {name!r} isn't a folder, and nothing is fetched offline. {by_hand}")
        try:
            model = package.create_model(f"local-dir:{name}" if local else f"hf-hub:{name}", require_pretrained=True)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise WeightsError(f"the image encoder {name!r} can't be loaded: {reason} {by_hand}") from error
        return cls(model.visual.to(device, kind).requires_grad_(False).eval())

    @torch.inference_mode()
    def encode(self, keyframe: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] to tokens (B, S, channels) float32: the picture's own, then one for each patch.

        The whole picture is squeezed into the encoder's square: what a crop leaves out would move, too.
        """
        visual = self.visual
        weight = next(visual.parameters())
        size = visual.image_size if isinstance(visual.image_size, tuple) else (visual.image_size,) * 2
        picture = functional.interpolate(keyframe.float(), size=size, mode="bicubic", antialias=True).clamp(-1, 1)
        mean, std = (
            torch.tensor(values, device=keyframe.device).view(1, 3, 1, 1)
            for values in (visual.image_mean, visual.image_std)
        )
        normed = ((picture + 1) / 2 - mean) / std
        own, patches = visual(normed.to(weight.device, weight.dtype))  # (B, C), (B, S - 1, C)
        return torch.cat([own[:, None], patches], dim=1).float()
