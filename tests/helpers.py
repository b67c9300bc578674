"""Tiny models without weights that a test can predict, and small synthetic videos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reducio_codec.clips.runner import ClipRunner
from reducio_codec.clips.streams import EncodedClip
from reducio_codec.coding import rdc_clips
from reducio_codec.models.contract import CodecModel, Decoder, Reference
from reducio_codec.models.posterior import Posterior


@dataclass(frozen=True, kw_only=True)
class TinyConfig:
    """The paper's latent grid."""

    architecture: ClassVar[str] = "tiny"
    decoders: tuple[str, ...] = ("mean", "copy")
    latent_channels: ClassVar[int] = 16
    temporal_compression_ratio: ClassVar[int] = 4
    spatial_compression_ratio: ClassVar[int] = 32

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class TinyModel(CodecModel):
    """Position by position, so that tiles change nothing.

    The latent is the mean colour of each 4x32x32 block less the key frame's there; ``mean`` adds it to the key frame,
    ``copy`` repeats the key frame. Both show the key frame at its own place. It counts its calls.
    """

    def __init__(self, config: TinyConfig | None = None) -> None:
        super().__init__()
        self.config = config or TinyConfig()
        self.batches: list[tuple[int, ...]] = []

    @classmethod
    def describe(cls, config: TinyConfig, name: str) -> Decoder:
        return Decoder(name=name, last_layer="up")

    def encode(self, video: Tensor, *, references: Sequence[Reference] | None = None) -> Posterior:
        self.batches.append(tuple(video.shape))
        (keyframe,) = self.own_references(video, references)
        pooled = nn.functional.avg_pool3d(video - keyframe.picture[:, :, None], (4, 32, 32))  # (B, 3, 4, h, w)
        mean = torch.cat([pooled, pooled.new_zeros((pooled.shape[0], 13, *pooled.shape[2:]))], dim=1)
        return Posterior(mean, torch.full_like(mean, -3.0))

    def latent(self, mean: Tensor) -> Tensor:
        return mean * 4

    def decode(self, latent: Tensor, references: Sequence[Reference], *, decoder: str | None = None) -> Tensor:
        name = self.check_decode(latent, references, decoder=decoder).name
        (keyframe,) = references
        still = keyframe.picture[:, :, None].expand(-1, -1, 16, -1, -1)
        if name == "copy":
            return still
        change = nn.functional.interpolate(latent[:, :3] / 4, scale_factor=(4, 32, 32))
        video = still + change
        video[:, :, keyframe.place] = keyframe.picture
        return video


class IdentityModel(TinyModel):
    """Nothing is lost: each block's 4x32x32x3 values are its channels (the key frame isn't used)."""

    def __init__(self) -> None:
        super().__init__()
        self.config = IdentityConfig()

    def encode(self, video: Tensor, *, references: Sequence[Reference] | None = None) -> Posterior:
        self.batches.append(tuple(video.shape))
        b, c, t, h, w = video.shape
        blocks = video.reshape(b, c, t // 4, 4, h // 32, 32, w // 32, 32)
        mean = blocks.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(b, c * 4096, t // 4, h // 32, w // 32)
        return Posterior(mean, torch.zeros_like(mean))

    def latent(self, mean: Tensor) -> Tensor:
        return mean

    def decode(self, latent: Tensor, references: Sequence[Reference], *, decoder: str | None = None) -> Tensor:
        b, _z, t, h, w = latent.shape
        blocks = latent.reshape(b, 3, 4, 32, 32, t, h, w)
        return blocks.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(b, 3, 4 * t, 32 * h, 32 * w)


@dataclass(frozen=True, kw_only=True)
class IdentityConfig(TinyConfig):
    decoders: tuple[str, ...] = ("identity",)
    latent_channels: ClassVar[int] = 3 * 4 * 32 * 32


class ConvModel(TinyModel):
    """Random small convolutions: what it computes depends on batch, tile and number format as a real model's does."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.down = nn.Conv3d(3, 32, (4, 32, 32), stride=(4, 32, 32))
        self.up = nn.Conv3d(16, 12, (3, 3, 3), padding=1)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.02, generator=generator)

    def encode(self, video: Tensor, *, references: Sequence[Reference] | None = None) -> Posterior:
        self.batches.append(tuple(video.shape))
        return Posterior.from_moments(self.down(video))

    def decode(self, latent: Tensor, references: Sequence[Reference], *, decoder: str | None = None) -> Tensor:
        b, _, t, h, w = latent.shape
        grid = self.up(latent).reshape(b, 3, 4, t, h, w).transpose(2, 3).reshape(b, 3, 4 * t, h, w)
        return references[0].picture[:, :, None] + nn.functional.interpolate(grid, scale_factor=(1, 32, 32))


def decode(
    model: CodecModel,
    latent: Tensor,
    keyframe: Tensor,
    *,
    decoder: str | None = None,
    place: int | None = None,
    beside: Sequence[tuple[Tensor, int]] = (),
) -> Tensor:
    """A clip from its key frame, at the model's own place by default, and pictures beside it; as much as the decoder uses."""
    own = Reference(picture=keyframe, place=model.default_keyframe_index if place is None else place)
    others = [Reference(picture=picture, place=where, beside=True) for picture, where in beside]
    return model.decode(latent, model.decoder(decoder).select([own, *others]), decoder=decoder)


def moving_frames(frames: int, height: int, width: int, *, seed: int = 0) -> Iterator[np.ndarray]:
    """uint8 ``(H, W, 3)`` frames of a coloured gradient that drifts, made one by one."""
    colour = np.random.default_rng(seed).uniform(0.3, 1, 3)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    for number in range(frames):
        wave = 0.5 + 0.5 * np.sin((x + 2 * number) / 9 + y / 13)
        yield np.rint(255 * wave[..., None] * colour).astype(np.uint8)


def moving_video(frames: int, height: int, width: int, *, seed: int = 0) -> np.ndarray:
    """The same as one ``(T, H, W, 3)`` array."""
    return np.stack(list(moving_frames(frames, height, width, seed=seed)))


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """So many in the block; tests have one otherwise."""
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(1)


def decoded_clips(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the number of each clip that an open file decodes from now on."""
    decoded: list[int] = []
    real = rdc_clips.decode_clip

    def noted(runner: ClipRunner, clip: EncodedClip, **options: Any) -> object:
        decoded.append(clip.index)
        return real(runner, clip, **options)

    monkeypatch.setattr(rdc_clips, "decode_clip", noted)
    return decoded
