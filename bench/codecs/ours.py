"""This package's models: as tensors for the reconstruction benchmark, as real files for rate and distortion."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.methods import Candidate, Coded, Frames, NotRunError, Reconstruction, Reconstructor, VideoCodec
from reducio_codec.codec import ReducioCodec
from reducio_codec.coding.options import Keyframes
from reducio_codec.config import CLIP_LENGTH
from reducio_codec.errors import InputError, WeightsError
from reducio_codec.models.contract import choose_decoder

MODEL = "reducio-lite"
DECODERS = ("linear",)
IMAGE_VAE = "image-vae"
"""Method and recipe: Stable Diffusion's image VAE with lite's data, time and parameters. Of 16x256x256 its latent has 16384
positions and 65536 values; lite's has 256 and 4096."""
QUALITIES = (5, 15, 25, 35, 50, 65)
STEPS = (0.25, 0.5, 1.0, 2.0)
AUTO_QUALITIES = (0, 5, 15, 30, 50)

Opener = Callable[[], ReducioCodec]


@dataclass(frozen=True, kw_only=True)
class Tensors:
    """Latent and key frame as floats: what the network itself loses."""

    codec: ReducioCodec
    decoder: str

    @property
    def settings(self) -> dict[str, Any]:
        settings = {"model": self.codec.model_id, "hash": self.codec.model_hash, "decoder": self.decoder}
        if self.codec.dtype != torch.float32:
            settings["dtype"] = str(self.codec.dtype).removeprefix("torch.")
        return settings

    def __call__(self, clip: Frames) -> Reconstruction:
        latent, keyframe = self.codec.encode(clip)  # (1, z, t, h, w), (1, 3, 1, H, W)
        frames = self.codec.decode(latent, keyframe, decoder=self.decoder, output="uint8")[0].numpy()
        seen = keyframe.numel() if self.codec.model.decoder(self.decoder).inside.most else 0
        positions = latent.numel() // latent.shape[1]
        return Reconstruction(frames=frames, latent={"positions": positions, "values": latent.numel(), "pixels": seen})


@dataclass(frozen=True, kw_only=True)
class File:
    """Through an ``.rdc`` file on disk: key frames, latents, container and all."""

    codec: ReducioCodec
    decoder: str
    quality: int
    step: float | None
    """None: what goes with the quality."""
    group: int | None = 1
    """None: what files have by default."""
    effort: int = 0
    keyframes: Keyframes = 1

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "model": self.codec.model_id,
            "hash": self.codec.model_hash,
            "decoder": self.decoder,
            "keyframe_codec": "avif",
            "keyframe_quality": self.quality,
            "latent_step": self.step,
            **({"keyframe_group": self.group} if self.group is None or self.group > 1 else {}),
            **({"keyframes": self.keyframes} if self.keyframes != 1 else {}),
            **({"effort": self.effort} if self.effort else {}),
            "counted": "the whole file",
        }

    def __call__(self, frames: Frames, *, rate: Fraction) -> Coded:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "sample.rdc"
            report = self.codec.compress(
                list(frames),
                path,
                rate=rate,
                keyframe_quality=self.quality,
                latent_step=self.step,
                keyframes=self.keyframes,
                seek_every=None if self.group is None else float(CLIP_LENGTH * self.group / rate),
                effort=self.effort,
                decoder=self.decoder if self.effort else None,
            )
            size = path.stat().st_size
            with self.codec.open_file(path) as video:
                decoded = [video.shown_clip(index, decoder=self.decoder) for index in range(video.clips)]
        parts = {"keyframes": report.keyframe_bytes, "latents": report.latent_bytes}
        return Coded(frames=np.concatenate(decoded), parts={**parts, "container": size - sum(parts.values())})


def reconstructors(
    model: str, *, decoders: Sequence[str], dtype: torch.dtype = torch.float32
) -> Candidate[Reconstructor]:
    """A model with each of its decoders as a point."""
    load = _loader(model, dtype=dtype)

    def opener(decoder: str) -> Callable[[], Reconstructor]:
        return lambda: Tensors(codec=load(), decoder=_known(load(), decoder))

    return Candidate(name=method_name(model), points={name: opener(name) for name in decoders})


def image_vae(folder: Path | None, *, dtype: torch.dtype = torch.float32) -> Candidate[Reconstructor]:
    """The 2-D baseline that was trained here, by its folder's name, or why it doesn't run."""

    def opener() -> Reconstructor:
        if folder is None:
            raise NotRunError(f"needs a model: reducio-codec train {IMAGE_VAE} ..., then --image-vae FOLDER")
        codec = _loader(str(folder), dtype=dtype)()
        if codec.model.decoder().inside.most != 0:
            raise NotRunError(f"{folder} has another kind of model; the recipe {IMAGE_VAE} makes one")
        return Tensors(codec=codec, decoder=codec.model.default_decoder)

    return Candidate(name=IMAGE_VAE if folder is None else method_name(str(folder)), points={"mode": opener})


def files(
    model: str,
    *,
    decoder: str | None,
    qualities: Sequence[int] = QUALITIES,
    steps: Sequence[float] = STEPS,
    group: int = 1,
    effort: int = 0,
) -> Candidate[VideoCodec]:
    """A model at a grid of key-frame quality and latent step; part of the name are ``group``, clips whose key frames are
    coded together, and ``effort``, steps that refine a latent. ``decoder`` None: what its files use by default."""
    load = _loader(model)
    name = decoder or _file_decoder(load)

    def opener(quality: int, step: float) -> Callable[[], VideoCodec]:
        return lambda: File(
            codec=load(), decoder=_known(load(), name), quality=quality, step=step, group=group, effort=effort
        )

    more = [f"-group{group}" if group > 1 else "", f"-effort{effort}" if effort else ""]
    return Candidate(
        name="".join([f"{method_name(model)}-{name}", *more]),
        points={f"q{quality:02d}-s{step:g}": opener(quality, step) for quality in qualities for step in steps},
    )


def files_by_content(
    model: str, *, decoder: str | None, qualities: Sequence[int] = AUTO_QUALITIES, effort: int = 0
) -> Candidate[VideoCodec]:
    """A model with as many key frames as pay, which is what files have by default, at several qualities."""
    load = _loader(model)
    name = decoder or _file_decoder(load)

    def opener(quality: int) -> Callable[[], VideoCodec]:
        return lambda: File(
            codec=load(), decoder=_known(load(), name), quality=quality, step=None, group=None, effort=effort,
            keyframes="auto",
        )  # fmt: skip

    return Candidate(
        name="".join([f"{method_name(model)}-{name}-auto", f"-effort{effort}" if effort else ""]),
        points={f"q{quality:02d}": opener(quality) for quality in qualities},
    )


def _file_decoder(load: Opener) -> str:
    """What files of the model use by default; "linear" where there is no such model, which its points will tell."""
    try:
        return choose_decoder(load().model, decoder=None, references=None).decoder
    except NotRunError:
        return DECODERS[0]


def method_name(model: str) -> str:
    """A model's name, or its folder's, as the name of a folder of results. A run's ``OUT/model`` has the run's name."""
    path = Path(model)
    return path.parent.name if path.name == "model" and path.parent.name else path.name


def identities(models: Sequence[str]) -> dict[str, str]:
    """Names of those that are there, with the hashes of their weights."""
    found = {}
    for model in models:
        try:
            codec = _loader(model)()
        except NotRunError:
            continue  # its row says so
        found[codec.model_id] = codec.model_hash
    return found


def _known(codec: ReducioCodec, decoder: str) -> str:
    try:
        return codec.check_decoder(decoder)
    except InputError as error:
        raise NotRunError(str(error)) from error


def _loader(model: str, *, dtype: torch.dtype = torch.float32) -> Opener:
    """Loads on first use and keeps the codec for the other points."""

    @cache
    def load() -> ReducioCodec:
        try:
            return ReducioCodec.from_pretrained(model, dtype=dtype)
        except WeightsError as error:
            raise NotRunError(str(error)) from error

    return load
