"""ReducioLite: the paper's interface (16 channels on a 4 x H/32 x W/32 grid, a key frame, several decoders) at a
thousandth of its cost. Pixels enter and leave by unshuffling 4x4 blocks, and frames are folded into the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from einops import rearrange
from torch import Tensor, nn

from reducio_codec.config import CLIP_LENGTH, LiteConfig, TilingConfig
from reducio_codec.errors import InputError
from reducio_codec.models.lite.bidirectional import BidirectionalDecoder
from reducio_codec.models.lite.decoders import FusionDecoder, WarpDecoder
from reducio_codec.models.lite.encoder import MotionEncoder
from reducio_codec.models.posterior import Posterior


class ReducioLite(nn.Module):
    """Encoder and named decoders; see ``models.contract.CodecModel`` for what each call takes and returns.

    The latent is normalised by fixed statistics of each channel rather than by a norm over the clip: such a norm removes
    the clip's gain, and the size of a motion is a gain.
    """

    tiling: ClassVar[TilingConfig] = TilingConfig(tile_size=384, tile_batch=1, shrink=True)
    """Nothing here was trained to one size, and larger tiles lose less of the motion that crosses a border. One at a time:
    a tile of 384 px is as much work as two of 256."""

    peak_bytes_per_pixel = 200
    """Memory for each pixel of the 16 frames of a tile, for ``tile_size="auto"``: 140 measured (``python -m bench speed``)."""

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: LiteConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or LiteConfig()
        self.decoder_names = config.decoders
        self.default_decoder = config.decoders[0]
        self.default_keyframe_index = (CLIP_LENGTH - 1) // 2
        self.encoder = MotionEncoder(config)
        self.neighbour_decoders = tuple(name for name in config.decoders if name == "bidirectional")
        self.decoders = nn.ModuleDict({name: _build_decoder(config, name) for name in config.decoders})
        self.register_buffer("latent_mean", torch.zeros(config.latent_channels))
        self.register_buffer("latent_std", torch.ones(config.latent_channels))

    def encode(self, video: Tensor, *, keyframe_index: int | None = None, keyframe: Tensor | None = None) -> Posterior:
        """Motion latent of a clip, relative to the key frame that the decoder will have.

        Args:
            video: (B, 3, 16, H, W) in [-1, 1]; H and W multiples of 32.
            keyframe_index: which frame the key frame is; 7 unless given.
            keyframe: (B, 3, H, W), the key frame as the decoder will see it; the frame itself unless given.

        Returns:
            Posterior with ``mean`` (B, 16, 4, H/32, W/32). Its variance is a constant, 1/100 of each channel's own.
        """
        index = self.default_keyframe_index if keyframe_index is None else keyframe_index
        std = self._per_channel(self.latent_std)
        motion, learned = self.encoder(video, video[:, :, index] if keyframe is None else keyframe, index)
        mean = motion + std * learned
        logvar = torch.log(0.01 * std.square()).expand_as(mean)
        return Posterior(mean, logvar)

    def latent(self, mean: Tensor) -> Tensor:
        """(B, 16, 4, h, w) -> the same with about zero mean and unit variance in each channel."""
        return (mean - self._per_channel(self.latent_mean)) / self._per_channel(self.latent_std)

    def decode(
        self,
        latent: Tensor,
        keyframe: Tensor,
        *,
        decoder: str | None = None,
        keyframe_index: int | None = None,
        neighbours: Sequence[Tensor | None] | None = None,
        neighbour_places: tuple[int, int] | None = None,
        present: Tensor | None = None,
    ) -> Tensor:
        """Clip from a normalised latent (B, 16, 4, h, w) and a key frame (B, 3, 32h, 32w) in [-1, 1].

        Args:
            neighbours, neighbour_places, present: for the decoder "bidirectional" alone.

        Returns:
            (B, 3, 16, 32h, 32w) float32, not clipped. The frame at ``keyframe_index`` (7 unless given) is the key frame
            itself, except with the decoder "none", which doesn't use it.
        """
        name = decoder or self.default_decoder
        if neighbours is not None and name not in self.neighbour_decoders:
            raise InputError(f"neighbours are given, and the decoder {name!r} has no use for them")
        index = self.default_keyframe_index if keyframe_index is None else keyframe_index
        raw = latent * self._per_channel(self.latent_std) + self._per_channel(self.latent_mean)
        if name in self.neighbour_decoders:
            frames = cast(WarpDecoder, self.decoders["warp"]).explain(latent, raw, keyframe)
            frames = self.decoders[name](
                frames,
                keyframe,
                keyframe_index=index,
                neighbours=(None, None) if neighbours is None else neighbours,
                places=neighbour_places or (index - CLIP_LENGTH, index + CLIP_LENGTH),
                present=present,
            )
        else:
            frames = self.decoders[name](latent, raw, keyframe)
        video: Tensor = rearrange(frames, "(b t) c h w -> b c t h w", t=CLIP_LENGTH)
        if name != "none":
            video[:, :, index] = keyframe
        return video

    @staticmethod
    def _per_channel(x: Tensor) -> Tensor:
        return x.float()[:, None, None, None]


def _build_decoder(config: LiteConfig, name: str) -> nn.Module:
    if name == "warp":
        return WarpDecoder(config)
    return BidirectionalDecoder(config) if name == "bidirectional" else FusionDecoder(config, name)
