"""The paper's video autoencoder: one motion encoder, one content encoder, several decoders (Sec. 3.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from reducio_codec.config import CLIP_LENGTH, ReducioConfig
from reducio_codec.errors import InputError
from reducio_codec.models.posterior import Posterior, layer_norm_latent
from reducio_codec.models.reducio.content import ContentEncoder, ContentPyramid
from reducio_codec.models.reducio.decoder import MotionDecoder
from reducio_codec.models.reducio.encoder import MotionEncoder
from reducio_codec.models.reducio.fusion import AttentionFusion
from reducio_codec.models.reducio.layers import (
    ResidualBlock,
    batch_as_frames,
    convolution,
    frames_as_batch,
)
from reducio_codec.models.reducio.start import start_near_identity

if TYPE_CHECKING:
    from typing import Self

FIXED_KEYFRAMES = {"middle": (CLIP_LENGTH - 1) // 2, "first": 0}


class ReducioVAE(nn.Module):
    """Reducio-VAE, configuration-driven. Satisfies ``CodecModel``.

    Weights of one decoder live under ``decoders.<name>.``; ``encoder.``, ``quant_conv.`` and ``content.`` are shared.
    Inputs may be of any floating type and are computed in the weights' type; with float32 weights the result is the
    published code's within rounding.
    """

    def __init__(self, config: ReducioConfig) -> None:
        super().__init__()
        self.config = config
        moments = 2 * config.latent_channels
        self.encoder = MotionEncoder(config)
        self.quant_conv = convolution(moments, moments, kind=config.conv, kernel=1)
        self.content = None if config.content_frame == "none" else ContentEncoder(config)
        self.decoders = nn.ModuleDict({name: MotionDecoder(config, fusion=name) for name in config.decoders})
        start_near_identity(self)
        self._gradient_checkpointing = False
        self.optimized_dtype: torch.dtype | None = None

    @property
    def decoder_names(self) -> tuple[str, ...]:
        """Decoders of this model, the default first."""
        return tuple(self.decoders)

    @property
    def default_decoder(self) -> str:
        """The decoder that ``decode`` takes when none is named."""
        return self.decoder_names[0]

    @property
    def default_keyframe_index(self) -> int:
        """The frame that ``content_frame`` means, 0-based; the middle one (7) where it is random or none."""
        return FIXED_KEYFRAMES.get(self.config.content_frame, FIXED_KEYFRAMES["middle"])

    @property
    def gradient_checkpointing(self) -> bool:
        """Recompute residual blocks and attention in the backward pass: less memory, about a third more time."""
        return self._gradient_checkpointing

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, value: bool) -> None:
        self._gradient_checkpointing = value
        for module in self.modules():
            if isinstance(module, ResidualBlock | AttentionFusion):
                module.checkpointing = value

    def encode(self, video: Tensor, *, keyframe_index: int | None = None, keyframe: Tensor | None = None) -> Posterior:
        """The latent's Gaussian: ``mean`` and ``logvar`` are (B, z, 16 / f_t, H / f_s, W / f_s), before the norm.

        The motion encoder does not look at the key frame, so ``keyframe_index`` and ``keyframe`` have no influence on
        the result; they are checked all the same.

        Args:
            video: (B, 3, 16, H, W) float in [-1, 1], H and W multiples of ``spatial_compression_ratio``.
            keyframe_index: the key frame's place; None is ``default_keyframe_index``.
            keyframe: (B, 3, H, W).

        Raises:
            InputError: a shape or type that the model doesn't take, or a key frame that it wasn't trained with.
        """
        batch, height, width = self._check_video(video)
        self._check_keyframe_index(keyframe_index)
        if keyframe is not None and tuple(keyframe.shape) != (batch, 3, height, width):
            raise InputError(f"keyframe has shape {tuple(keyframe.shape)}; it must be {(batch, 3, height, width)}")
        frames = video.to(self._input_dtype)
        if self.config.conv == "image":
            moments = self.quant_conv(self.encoder(frames_as_batch(frames)))  # (B * 16, 2 z, h, w)
            return Posterior.from_moments(batch_as_frames(moments, frames=CLIP_LENGTH))
        return Posterior.from_moments(self.quant_conv(self.encoder(frames)))

    def latent(self, mean: Tensor) -> Tensor:
        """Layer norm over (z, t, h, w) of the whole picture's mean: (B, z, t, h, w), any h and w. With ``conv="image"``
        the mean itself: the frames of a clip have nothing in common there."""
        return mean if self.config.conv == "image" else layer_norm_latent(mean)

    def decode(
        self, latent: Tensor, keyframe: Tensor, *, decoder: str | None = None, keyframe_index: int | None = None
    ) -> Tensor:
        """The clip, (B, 3, 16, H, W) float, not clipped.

        Args:
            latent: (B, z, 16 / f_t, H / f_s, W / f_s), normalised.
            keyframe: (B, 3, H, W) float in [-1, 1]. The decoder ``none`` doesn't use its pixels.
            decoder: one of ``decoder_names``; None is ``default_decoder``.
            keyframe_index: the key frame's place; None is ``default_keyframe_index``.

        Raises:
            InputError: a shape, type, decoder or key frame that the model doesn't take.
        """
        name = self._check_decoder(decoder)
        self._check_keyframe_index(keyframe_index)
        self._check_latent(latent, keyframe)
        latent = latent.to(self._input_dtype)
        if self.config.conv == "image":
            return batch_as_frames(self.decoders[name](frames_as_batch(latent), None), frames=CLIP_LENGTH)
        return cast(Tensor, self.decoders[name](latent, self.pyramid(keyframe, decoder=name)))

    def pyramid(self, keyframe: Tensor, *, decoder: str) -> ContentPyramid | None:
        """The key frame's features, (B, 3, H, W) in; None for a decoder that doesn't fuse them."""
        if decoder == "none" or self.content is None:
            return None
        return cast(ContentPyramid, self.content(keyframe.to(self._input_dtype)))

    @property
    def _input_dtype(self) -> torch.dtype:
        return torch.float32 if self.optimized_dtype is not None else next(self.parameters()).dtype

    def forward(
        self,
        video: Tensor,
        *,
        keyframe_index: int | None = None,
        decoder: str | None = None,
        sample: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Posterior]:
        """Encode and decode a clip: (B, 3, 16, H, W) to (the same shape, posterior). Training takes ``sample=True``."""
        posterior = self.encode(video, keyframe_index=keyframe_index)
        drawn = posterior.sample(generator) if sample else posterior.mode()
        index = self.default_keyframe_index if keyframe_index is None else keyframe_index
        return self.decode(self.latent(drawn), video[:, :, index], decoder=decoder, keyframe_index=index), posterior

    @property
    def optimizable(self) -> bool:
        """Whether ``optimize_for_inference`` has anything to offer: not for frames that are coded one by one."""
        return self.config.conv != "image"

    def optimize_for_inference(self, *, dtype: torch.dtype = torch.float32) -> Self:
        """Make this model faster and smaller in memory for inference, in place; the model itself is returned.

        See ``reducio_codec.models.reducio.inference``: afterwards it can be neither trained nor saved.
        """
        from reducio_codec.models.reducio.inference import optimize_for_inference

        optimize_for_inference(self, dtype=dtype)
        return self

    def _check_video(self, video: Tensor) -> tuple[int, int, int]:
        ratio = self.config.spatial_compression_ratio
        if not video.is_floating_point():
            raise InputError(f"video is {video.dtype}; it must be floating point in [-1, 1]")
        if video.ndim != 5 or video.shape[1:3] != (3, CLIP_LENGTH) or not _multiples(video.shape[3:], ratio):
            raise InputError(
                f"video has shape {tuple(video.shape)}; it must be (B, 3, {CLIP_LENGTH}, H, W) "
                f"with H and W positive multiples of {ratio}"
            )
        return video.shape[0], video.shape[3], video.shape[4]

    def _check_latent(self, latent: Tensor, keyframe: Tensor) -> None:
        ratio, channels = self.config.spatial_compression_ratio, self.config.latent_channels
        if not latent.is_floating_point() or not keyframe.is_floating_point():
            raise InputError(f"latent is {latent.dtype} and keyframe {keyframe.dtype}; both must be floating point")
        if keyframe.ndim != 4 or keyframe.shape[1] != 3 or not _multiples(keyframe.shape[2:], ratio):
            raise InputError(
                f"keyframe has shape {tuple(keyframe.shape)}; it must be (B, 3, H, W) "
                f"with H and W positive multiples of {ratio}"
            )
        batch, _, height, width = keyframe.shape
        frames = CLIP_LENGTH // self.config.temporal_compression_ratio
        expected = (batch, channels, frames, height // ratio, width // ratio)
        if tuple(latent.shape) != expected:
            raise InputError(
                f"latent has shape {tuple(latent.shape)}; a key frame of shape {tuple(keyframe.shape)} needs {expected}"
            )

    def _check_decoder(self, decoder: str | None) -> str:
        name = self.default_decoder if decoder is None else decoder
        if name not in self.decoders:
            raise InputError(f"decoder is {name!r}; this model has: {', '.join(self.decoder_names)}")
        return name

    def _check_keyframe_index(self, index: int | None) -> None:
        if index is None:
            return
        fixed = FIXED_KEYFRAMES.get(self.config.content_frame)
        if fixed is not None and index != fixed:
            raise InputError(
                f"keyframe_index is {index}; this model was trained with the {self.config.content_frame} frame, {fixed}"
            )
        if index not in range(CLIP_LENGTH):
            raise InputError(f"keyframe_index is {index}; it must be from 0 to {CLIP_LENGTH - 1}")


def _multiples(sides: torch.Size, ratio: int) -> bool:
    return all(side > 0 and side % ratio == 0 for side in sides)
