"""The paper's video autoencoder: one motion encoder, one content encoder, several decoders (Sec. 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self, cast

import torch
from torch import Tensor, nn

from reducio_codec.config import CLIP_LENGTH, ReducioConfig
from reducio_codec.errors import InputError
from reducio_codec.models.contract import Allowed, CodecModel, Decoder, Reference, Training
from reducio_codec.models.posterior import Posterior, latent_norm_scale, layer_norm_latent
from reducio_codec.models.precision import Dtype, as_dtype
from reducio_codec.models.reducio.content import ContentEncoder
from reducio_codec.models.reducio.decoder import MotionDecoder
from reducio_codec.models.reducio.encoder import MotionEncoder
from reducio_codec.models.reducio.inference import optimize_decoder, optimize_encoder
from reducio_codec.models.reducio.layers import batch_as_frames, convolution, frames_as_batch
from reducio_codec.models.reducio.near_identity import start_near_identity

FIXED_KEYFRAMES = {"middle": (CLIP_LENGTH - 1) // 2, "first": 0}


class ReducioVAE(CodecModel):
    """Reducio-VAE, configuration-driven; see ``models.contract.CodecModel``.

    Weights of one decoder live under ``decoders.<name>.``; ``encoder.``, ``quant_conv.`` and ``content.`` are shared.
    Inputs may be of any floating type and are computed in the weights' type; with float32 weights the result is the
    published code's within rounding.
    """

    config: ReducioConfig

    def __init__(self, config: ReducioConfig) -> None:
        super().__init__()
        self.config = config
        moments = 2 * config.latent_channels
        self.encoder = MotionEncoder(config)
        self.quant_conv = convolution(moments, moments, kind=config.conv, kernel=1)
        self.content = None if config.content_frame == "none" else ContentEncoder(config)
        self.decoders = nn.ModuleDict({name: MotionDecoder(config, fusion=name) for name in config.decoders})
        start_near_identity(self)

    @classmethod
    def describe(cls, config: ReducioConfig, name: str) -> Decoder:
        """See ``CodecModel``. Norms and attention see the whole tile, so no decoder has a reach."""
        unused = name == "none" or config.content_frame == "none"
        return Decoder(name=name, inside=Allowed() if unused else Allowed(least=1, most=1), last_layer="conv_out")

    @classmethod
    def training_of(cls, config: ReducioConfig) -> Training:
        """See ``CodecModel``."""
        return Training(
            block="ResidualBlock",
            # with conv="image" the widths are others than those of the image VAE
            starts=() if config.conv == "image" else ("image_vae",),
            learned_variance=True,
            shared=("content",),
            random_keyframe=config.content_frame == "random",
        )

    @property
    def default_keyframe_index(self) -> int:
        """The frame that ``content_frame`` means, 0-based; the middle one (7) where it is random or none."""
        return FIXED_KEYFRAMES.get(self.config.content_frame, FIXED_KEYFRAMES["middle"])

    def encode(self, video: Tensor, *, references: Sequence[Reference] | None = None) -> Posterior:
        """The latent's Gaussian: ``mean`` and ``logvar`` are (B, z, 16 / f_t, H / f_s, W / f_s), before the norm.

        The motion encoder does not look at the key frame, so ``references`` have no influence on the result; they are
        checked all the same.

        Args:
            video: (B, 3, 16, H, W) float in [-1, 1], H and W multiples of ``spatial_compression_ratio``.
            references: the key frame, where one is given, at a place that the model was trained with.
        """
        batch, height, width = self._check_video(video)
        if references is not None:
            self._check_places(self.own_references(video, references))
            self.check_pictures(references, (batch, 3, height, width))
        frames = video.to(self._input_dtype)
        if self.config.conv == "image":
            moments = self.quant_conv(self.encoder(frames_as_batch(frames)))  # (B * 16, 2 z, h, w)
            return Posterior.from_moments(batch_as_frames(moments, frames=CLIP_LENGTH))
        return Posterior.from_moments(self.quant_conv(self.encoder(frames)))

    def latent(self, mean: Tensor) -> Tensor:
        """Layer norm over (z, t, h, w) of the whole picture's mean: (B, z, t, h, w), any h and w. With ``conv="image"``
        the mean itself: the frames of a clip have nothing in common there."""
        return mean if self.config.conv == "image" else layer_norm_latent(mean)

    def latent_scale(self, mean: Tensor) -> Tensor:
        """See ``CodecModel``: of the layer norm (B, 1, 1, 1, 1), 1 with ``conv="image"``."""
        return mean.new_ones(()) if self.config.conv == "image" else latent_norm_scale(mean)

    def decode(self, latent: Tensor, references: Sequence[Reference], *, decoder: str | None = None) -> Tensor:
        """The clip, (B, 3, 16, H, W) float, not clipped.

        Args:
            latent: (B, z, 16 / f_t, H / f_s, W / f_s), normalised.
            references: the key frame, (B, 3, H, W) float in [-1, 1]; none for the decoder ``none``.
            decoder: one of ``decoder_names``; None is ``default_decoder``.

        Raises:
            InputError: a shape, type, decoder or key frame that the model doesn't take.
        """
        name = self.check_decode(latent, references, decoder=decoder).name
        self._check_places(references)
        latent = latent.to(self._input_dtype)
        if self.config.conv == "image":
            return batch_as_frames(self.decoders[name](frames_as_batch(latent), None), frames=CLIP_LENGTH)
        content = self.content if references else None
        pyramid = None if content is None else content(references[0].picture.to(self._input_dtype))
        return cast(Tensor, self.decoders[name](latent, pyramid))

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
        place = self.default_keyframe_index if keyframe_index is None else keyframe_index
        own = [Reference.of_frame(video, place)]
        posterior = self.encode(video, references=own)
        drawn = posterior.sample(generator) if sample else posterior.mode()
        return self.decode(self.latent(drawn), self.decoder(decoder).select(own), decoder=decoder), posterior

    @property
    def optimizable(self) -> bool:
        """Whether ``optimize_for_inference`` has anything to offer: not for frames that are coded one by one."""
        return self.config.conv != "image"

    def optimize_for_inference(self, *, dtype: Dtype = torch.float32, winograd: bool | None = None) -> Self:
        """Make this model faster and smaller in memory for inference, in place; the model itself is returned.

        See ``reducio_codec.models.reducio.inference``: afterwards it can be neither trained nor saved. It goes into eval
        mode. Move it to its device first.

        Args:
            dtype: float32 (same result to about 1e-6), bfloat16 or float16.
            winograd: None chooses: on a CPU.

        Raises:
            InputError: another dtype, or a model that is optimised already or codes frames one by one (``conv="image"``).
        """
        if not self.optimizable:
            raise InputError("a model with conv='image' has nothing to optimise; run it under autocast")
        dtype = as_dtype(dtype)
        if self.optimized_dtype is not None:
            raise InputError(f"this model is optimised already, for {self.optimized_dtype}; load it again for {dtype}")
        if winograd is None:
            winograd = next(self.parameters()).device.type == "cpu"
        self.float().eval().requires_grad_(False)
        optimize_encoder(self.encoder, dtype=dtype, winograd=winograd)
        for decoder in self.decoders.values():
            optimize_decoder(cast(MotionDecoder, decoder), dtype=dtype, winograd=winograd)
        self.optimized_dtype = dtype
        self.register_state_dict_pre_hook(_refuse_saving)  # type: ignore[no-untyped-call]
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

    def _check_places(self, references: Sequence[Reference]) -> None:
        fixed = FIXED_KEYFRAMES.get(self.config.content_frame)
        for place in (item.place for item in references if not item.beside):
            if fixed is not None and place != fixed:
                raise InputError(
                    f"keyframe_index is {place}; this model was trained with the {self.config.content_frame} frame, {fixed}"
                )
            if not 0 <= place < CLIP_LENGTH:
                raise InputError(f"keyframe_index is {place}; it must be from 0 to {CLIP_LENGTH - 1}")


def _refuse_saving(module: nn.Module, prefix: str, keep_vars: bool) -> None:
    raise InputError("this model was optimised for inference, which folds its weights; save it before that")


def _multiples(sides: torch.Size, ratio: int) -> bool:
    return all(side > 0 and side % ratio == 0 for side in sides)
