"""ReducioLite: the paper's interface (16 channels on a 4 x H/32 x W/32 grid, a key frame, several decoders) at a
thousandth of its cost. Pixels enter and leave by unshuffling 4x4 blocks, and frames are folded into the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from einops import rearrange
from torch import Tensor, nn

from reducio_codec.config import CLIP_LENGTH, LITE_BUILDS_ON, LiteConfig, TilingConfig
from reducio_codec.errors import InputError
from reducio_codec.models.contract import Allowed, CodecModel, Decoder, Reference, Training
from reducio_codec.models.lite.bidirectional import BidirectionalDecoder
from reducio_codec.models.lite.blocks import SLOTS
from reducio_codec.models.lite.decoders import FusionDecoder, Parts, WarpDecoder
from reducio_codec.models.lite.encoder import LiteMotionEncoder
from reducio_codec.models.posterior import Posterior

_IDLE = 0.02
"""A channel with a standard deviation below this carries nothing; scaling it up would only code its noise."""

_REACH = 320
"""Of the convolutions on the latent grid 160 px, of those on finer maps 32 + 16 + 80 + 32. Attention and search see the tile."""


class ReducioLite(CodecModel):
    """Encoder and named decoders; see ``models.contract.CodecModel`` for what each call takes and returns.

    The latent is normalised by fixed statistics of each channel rather than by a norm over the clip: such a norm removes
    the clip's gain, and the size of a motion is a gain.
    """

    tiling: ClassVar[TilingConfig] = TilingConfig(tile_size=384, tile_batch=1, shrink=True)
    """Nothing here was trained to one size, and larger tiles lose less of the motion that crosses a border. One at a time:
    a tile of 384 px is as much work as two of 256."""

    peak_bytes_per_pixel: ClassVar[int] = 200
    """140 measured (``python -m bench speed``)."""

    config: LiteConfig
    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: LiteConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or LiteConfig()
        self.encoder = LiteMotionEncoder(config)
        self.decoders = nn.ModuleDict({name: _build_decoder(config, name) for name in config.decoders})
        self.register_buffer("latent_mean", torch.zeros(config.latent_channels))
        self.register_buffer("latent_std", torch.ones(config.latent_channels))

    @classmethod
    def describe(cls, config: LiteConfig, name: str) -> Decoder:
        """See ``CodecModel``."""
        return Decoder(
            name=name,
            inside=Allowed() if name == "none" else Allowed(least=1, most=1),
            beside=Allowed(most=1) if name == "bidirectional" else Allowed(),
            builds_on=LITE_BUILDS_ON.get(name),
            last_layer="out_4",
            reach=None if name in ("attention", "bidirectional") else _REACH,
        )

    @classmethod
    def training_of(cls, config: LiteConfig) -> Training:
        """See ``CodecModel``."""
        return Training(block="ResBlock", starts=("flow",))

    def encode(self, video: Tensor, *, references: Sequence[Reference] | None = None) -> Posterior:
        """Motion latent of a clip, relative to the key frame that the decoder will have.

        Args:
            video: (B, 3, 16, H, W) in [-1, 1]; H and W multiples of 32.
            references: the one key frame, as the decoder will see it; frame 7 itself unless given.

        Returns:
            Posterior with ``mean`` (B, 16, 4, H/32, W/32). Its variance is a constant, 1/100 of each channel's own.
        """
        references = self.own_references(video, references)
        if len(references) != 1:
            raise InputError(f"{len(references)} references are given; the encoder takes the one that lies in the clip")
        keyframe = references[0]
        if not 0 <= keyframe.place < CLIP_LENGTH:
            raise InputError(f"a reference inside the clip is at {keyframe.place}; allowed: 0 to {CLIP_LENGTH - 1}")
        self.check_pictures(references, (video.shape[0], 3, *video.shape[3:]))
        std = self._per_channel(self.latent_std)
        motion, learned = self.encoder(video, keyframe.picture, keyframe.place)
        mean = motion + std * learned
        logvar = torch.log(0.01 * std.square()).expand_as(mean)
        return Posterior(mean, logvar)

    def latent(self, mean: Tensor) -> Tensor:
        """(B, 16, 4, h, w) -> the same with about zero mean and unit variance in each channel."""
        return (mean - self._per_channel(self.latent_mean)) / self._per_channel(self.latent_std)

    def decode(self, latent: Tensor, references: Sequence[Reference], *, decoder: str | None = None) -> Tensor:
        """Clip from a normalised latent (B, 16, 4, h, w) and references (B, 3, 32h, 32w) in [-1, 1].

        Returns:
            (B, 3, 16, 32h, 32w) float32, not clipped; references inside the clip are shown at their places as they are.
        """
        found = self.check_decode(latent, references, decoder=decoder)
        raw = latent * self._per_channel(self.latent_std) + self._per_channel(self.latent_mean)
        parts = Parts(latent=latent, raw=raw, references=tuple(references))
        if found.builds_on is None:
            frames = self.decoders[found.name](parts)
        else:
            base = cast(WarpDecoder, self.decoders[found.builds_on])
            frames = self.decoders[found.name](parts, base.explain(parts))
        video: Tensor = rearrange(frames, "(b t) c h w -> b c t h w", t=CLIP_LENGTH)
        for item in references:
            if not item.beside:
                video[:, :, item.place] = item.picture
        return video

    @torch.no_grad()
    def set_unit_variance(self, latents: Tensor) -> Tensor:
        """See ``CodecModel``: statistics, encoder and decoders change together."""
        ratio = latents.square().mean((0, 2, 3, 4)).sqrt()
        ratio = torch.where(ratio < _IDLE, torch.ones_like(ratio), ratio)
        self.latent_std *= ratio
        by_slot = ratio.repeat(SLOTS)  # channels of a slot lie side by side
        self.encoder.out_conv.weight /= by_slot[:, None, None, None]
        assert self.encoder.out_conv.bias is not None
        self.encoder.out_conv.bias /= by_slot
        for decoder in self.decoders.values():
            if not isinstance(decoder, BidirectionalDecoder):  # that one sees the latent through warp alone
                decoder.trunk.in_conv.weight *= by_slot[None, :, None, None]  # type: ignore[union-attr, operator]
        return ratio

    def warp_decoders(self) -> list[WarpDecoder]:
        """Those that read a flow from the latent: what a start from searched flow initialises."""
        return [decoder for decoder in self.decoders.values() if isinstance(decoder, WarpDecoder)]

    @staticmethod
    def _per_channel(x: Tensor) -> Tensor:
        return x.float()[:, None, None, None]


def _build_decoder(config: LiteConfig, name: str) -> nn.Module:
    if name == "warp":
        return WarpDecoder(config)
    return BidirectionalDecoder(config) if name == "bidirectional" else FusionDecoder(config, name)
