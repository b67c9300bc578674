"""What a run of a protocol generates with, and what of it a result names."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch

from reducio_codec.errors import InputError
from reducio_codec.generate.config import GuidanceOf
from reducio_codec.generate.folder import read_config
from reducio_codec.generate.pipeline import ReducioDiTPipeline
from reducio_codec.generate.sampling import check_sampler
from reducio_codec.models.precision import Dtype, resolve_device, resolve_dtype
from reducio_codec.weights.io import file_sha256
from reducio_codec.weights.layout import TENSOR_FILE
from reducio_codec.weights.zoo import resolve

_PACKAGES = (
    "reducio-codec",
    "torch",
    "numpy",
    "av",
    "diffusers",
    "transformers",
    "open_clip_torch",
    "beautifulsoup4",
    "ftfy",
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Models and sampling."""

    model: str
    codec: str | None = None
    text_encoder: str | None = None
    image_encoder: str | None = None
    text_to_image: str | None = None
    size: tuple[int, int] | None = None
    """Width and height in pixels; None: the square that the model was trained for."""
    steps: int | None = None
    """None, as for guidance and sampler: what the model was made for."""
    guidance: float | None = None
    guidance_of: GuidanceOf = "all"
    picture_steps: int | None = None
    """Of the text-to-image stage, as its guidance; None: its own."""
    picture_guidance: float | None = None
    sampler: str | None = None
    decoder: str | None = None
    seed: int = 0
    batch: int = 4
    device: str = "cpu"
    precision: Dtype | Literal["auto"] = "auto"
    offload: bool = False
    offline: bool = False


@dataclass(frozen=True, kw_only=True)
class Generator:
    """A pipeline with the settings of a run."""

    pipeline: ReducioDiTPipeline
    settings: Settings
    width: int
    height: int
    description: dict[str, Any]
    """Everything that its clips depend on, as JSON values."""

    @classmethod
    def open(cls, settings: Settings) -> Generator:
        """Load the models (or prepare to, with ``offload``) and say what they are.

        Raises:
            InputError: settings that have no effect, or don't fit the model. WeightsError: a part is missing or damaged.
        """
        source = resolve(settings.model, offline=settings.offline)
        config = read_config(source.folder)
        if settings.text_encoder is not None and not config.text_channels:
            raise InputError(f"text_encoder is given, but {settings.model!r} takes no text")
        if settings.image_encoder is not None and not config.uses_semantic:
            raise InputError(f"image_encoder is given, but {settings.model!r} takes no semantic tokens")
        sampler = check_sampler(settings.sampler, objective=config.objective, distilled=config.distilled_steps > 0)
        steps, guidance = config.sampling_steps(settings.steps), config.sampling_guidance(settings.guidance)
        told = settings.text_encoder is not None
        guidance_of = config.check_guidance_of(settings.guidance_of, guidance=guidance, text=told)
        for name in ("picture_steps", "picture_guidance"):
            if getattr(settings, name) is not None and settings.text_to_image is None:
                raise InputError(f"{name} is {getattr(settings, name)}, but there is no text-to-image stage")
        device = resolve_device(settings.device)
        dtype = resolve_dtype(settings.precision, device=device)
        pipeline = ReducioDiTPipeline.from_pretrained(
            settings.model,
            codec=settings.codec,
            text_encoder=settings.text_encoder,
            image_encoder=settings.image_encoder,
            text_to_image=settings.text_to_image,
            device=device,
            dtype=dtype,
            offload=settings.offload,
            offline=settings.offline,
        )
        codec = resolve(settings.codec or config.codec, offline=settings.offline)
        width, height = settings.size or (config.sample_size,) * 2
        stages = ("text_encoder", "image_encoder", "text_to_image")
        description = {
            "model": {"id": source.id, "sha256": file_sha256(source.folder / TENSOR_FILE)},
            "codec": {"id": codec.id, "sha256": file_sha256(codec.folder / TENSOR_FILE)},
            "latent_space": config.latent_space or "none (random weights)",
            "keyframe_index": pipeline.keyframe_index,
            **{name: _stage(getattr(settings, name)) for name in stages},
            "width": width,
            "height": height,
            "sampler": sampler,
            "steps": steps,
            "guidance": guidance,
            "guidance_of": guidance_of,
            "picture_steps": settings.picture_steps,
            "picture_guidance": settings.picture_guidance,
            "decoder": settings.decoder or pipeline.decoders[0],
            "seed": settings.seed,
            "device": device.type,
            "dtype": str(dtype).removeprefix("torch."),
        }
        return cls(pipeline=pipeline, settings=settings, width=width, height=height, description=description)

    @property
    def tells_prompts(self) -> bool:
        """Whether prompts reach a model: the transformer's, or the one that makes key pictures."""
        return self.settings.text_encoder is not None or self.settings.text_to_image is not None


def environment() -> dict[str, Any]:
    """Versions and the accelerator: what a result names, and what may differ between two parts of a run."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"python": platform.python_version(), "versions": versions, "accelerator": accelerator}


def _stage(name: str | None) -> dict[str, str] | None:
    """A model of others: its name, and for a folder a hash over all its safetensors files."""
    if name is None:
        return None
    folder = Path(name)
    if not folder.is_dir():
        return {"id": name}
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*.safetensors")):
        total.update(f"{path.relative_to(folder).as_posix()} {file_sha256(path)}\n".encode())
    return {"id": folder.name, "sha256": total.hexdigest()}
