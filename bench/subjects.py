"""The models that are measured, and the clip that all of them get."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from reducio_codec.config import CLIP_LENGTH, LiteConfig, ReducioConfig
from reducio_codec.models.contract import CodecModel, Reference
from reducio_codec.models.lite.model import ReducioLite
from reducio_codec.models.posterior import Posterior
from reducio_codec.models.precision import resolve_dtype
from reducio_codec.models.reducio.vae import ReducioVAE
from reducio_codec.weights.layout import TENSOR_FILE
from reducio_codec.weights.zoo import BUNDLED, load_pretrained

LITE_TINY = LiteConfig(channels_4=4, channels_8=4, channels_16=4, channels_32=8, decoders=("linear",))


PAPER_TINY = ReducioConfig(base_channels=32, depth=1, content_channels=32, content_depth=1)


@dataclass(frozen=True, kw_only=True)
class Model:
    """A network and the two calls that are measured."""

    network: CodecModel
    weights: str
    """Which weights, in words: ``random`` or a model's id and hash."""
    encode_call: Callable[..., Posterior]
    decode_call: Callable[..., Tensor]
    dtype: torch.dtype = torch.float32
    """What it computes in (autocast), as ``ReducioCodec(dtype=...)`` does it."""

    @classmethod
    def of(cls, network: CodecModel, *, weights: str, dtype: torch.dtype = torch.float32) -> Model:
        calls = {"encode_call": network.encode, "decode_call": network.decode}
        return cls(network=network, weights=weights, dtype=dtype, **calls)  # type: ignore[arg-type]

    def _autocast(self) -> torch.autocast:
        return torch.autocast("cpu", dtype=self.dtype, enabled=self.dtype != torch.float32)

    def encode(self, video: Tensor) -> Tensor:
        """``(1, 3, 16, H, W)`` to the posterior's mean; lite's motion search is part of it."""
        with torch.inference_mode(), self._autocast():
            return self.encode_call(video).mean

    def decode(self, latent: Tensor, keyframe: Tensor) -> Tensor:
        """``(1, 3, 16, H, W)`` float, with the model's default decoder."""
        with torch.inference_mode(), self._autocast():
            own = Reference(picture=keyframe, place=self.network.default_keyframe_index)
            return self.decode_call(latent, self.network.decoder().select([own]))

    def decoder_input(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """A latent and a key frame of the right shapes; made up, since a decoder's time doesn't depend on values."""
        config = self.network.config
        side = [size // config.spatial_compression_ratio for size in video.shape[-2:]]
        shape = (1, config.latent_channels, CLIP_LENGTH // config.temporal_compression_ratio, *side)
        latent = torch.randn(shape, generator=torch.Generator().manual_seed(0))  # (1, z, t, h, w)
        return latent, video[:, :, self.network.default_keyframe_index].contiguous()

    def compiled(self) -> Model:
        """The same model with its two operations compiled."""
        return replace(
            self, encode_call=torch.compile(self.network.encode), decode_call=torch.compile(self.network.decode)
        )


def same_video(*, size: int, seed: int) -> Tensor:
    """A smooth texture that slides, zooms and fades: ``(1, 3, 16, size, size)`` float in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn((1, 3, 48, 48), generator=generator)
    fine = torch.randn((1, 3, 192, 192), generator=generator)
    texture = functional.interpolate(coarse, size=(384, 384), mode="bicubic")
    texture = texture + 0.3 * functional.interpolate(fine, size=(384, 384), mode="bicubic")  # (1, 3, 384, 384)
    frames = []
    for index in range(CLIP_LENGTH):
        zoom, angle = 0.6 + 0.01 * index, 0.01 * index
        matrix = torch.tensor(
            [[zoom * math.cos(angle), -zoom * math.sin(angle), 0.01 * index], [zoom * math.sin(angle), zoom, 0.0]]
        )
        grid = functional.affine_grid(matrix[None], [1, 3, size, size], align_corners=False)
        frames.append(functional.grid_sample(texture, grid, align_corners=False, padding_mode="reflection"))
    return torch.stack(frames, dim=2).mul(0.4).clamp(-1, 1)  # (1, 3, 16, size, size)


def paper_model(*, optimised: bool, tiny: bool, seed: int) -> Model:
    """The paper's model with attention fusion and random weights: this package ships no trained ones.

    ``optimised`` is what ``optimize_for_inference`` makes of it in bfloat16.
    """
    with torch.device("meta"):  # torch's own random start would cost as long as ours
        network = ReducioVAE(PAPER_TINY if tiny else ReducioConfig())
    network.to_empty(device="cpu")
    fill(network, seed=seed)
    network.requires_grad_(False).eval()
    if optimised:
        network.optimize_for_inference(dtype=torch.bfloat16)
    return Model.of(network, weights="random")


def lite_model(*, tiny: bool, seed: int) -> Model:
    """reducio-lite in the precision that ``dtype="auto"`` takes here: the bundled weights, or random ones where a checkout
    has none (time doesn't depend on them)."""
    if not tiny and (BUNDLED / "reducio-lite" / TENSOR_FILE).is_file():
        network, info = load_pretrained("reducio-lite", decoders=("linear",))
        weights = f"{info.id} {info.short_hash}"
    else:
        network, weights = ReducioLite(LITE_TINY if tiny else LiteConfig(decoders=("linear",))), "random"
        fill(network, seed=seed)
    network.requires_grad_(False).eval().to(memory_format=torch.channels_last)
    dtype = resolve_dtype("auto", device=torch.device("cpu"))
    return Model.of(network, weights=f"{weights}, {str(dtype).removeprefix('torch.')}", dtype=dtype)


def fill(network: nn.Module, *, seed: int) -> None:
    """Random weights that keep activations near unit size, so that no infinity or NaN slows or speeds a kernel."""
    generator = torch.Generator(next(network.parameters()).device).manual_seed(seed)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if not value.is_floating_point():
                continue
            if value.dim() >= 2:
                value.normal_(0, value[0].numel() ** -0.5, generator=generator)
            else:
                value.fill_(1.0 if name.endswith("weight") else 0.0)
