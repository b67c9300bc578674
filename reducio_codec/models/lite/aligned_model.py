"""The small model's second version: every decoder starts from the latent's motion, and takes the references that there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from einops import rearrange
from torch import Tensor, nn

from reducio_codec.config import CLIP_LENGTH, AlignedConfig, TilingConfig
from reducio_codec.errors import InputError
from reducio_codec.models.contract import Allowed, CodecModel, Decoder, Reference, Training
from reducio_codec.models.lite.aligned import EFFORTS, AlignedDecoder, LatentOnlyDecoder, LinearCode
from reducio_codec.models.lite.aligned_encoder import AlignedEncoder
from reducio_codec.models.lite.between import motion_between
from reducio_codec.models.lite.blocks import SLOTS, LatentTrunk
from reducio_codec.models.lite.mend import Mend
from reducio_codec.models.lite.plan import nearest, plan_references
from reducio_codec.models.posterior import Posterior

_IDLE = 0.02
"""A channel with a standard deviation below this carries nothing; scaling it up would only code its noise."""


class AlignedLite(CodecModel):
    """Encoder, what the decoders share (the latent's linear part, its trunk, the mending of references), and decoders; see
    ``models.contract.CodecModel`` for what each call takes and returns.

    The latent is normalised by fixed statistics of each channel rather than by a norm over the clip: such a norm removes
    the clip's gain, and the size of a motion is a gain.
    """

    tiling: ClassVar[TilingConfig] = TilingConfig(tile_size=384, tile_batch=1, shrink=True)
    """Nothing here was trained to one size, and larger tiles lose less of the motion that crosses a border."""

    peak_bytes_per_pixel: ClassVar[int] = 200

    config: AlignedConfig
    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: AlignedConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or AlignedConfig()
        self.encoder = AlignedEncoder(config)
        self.code = LinearCode(config.latent_channels)
        self.trunk = LatentTrunk(config)
        self.mend = Mend(config)
        self.decoders = nn.ModuleDict({name: _build(config, name) for name in config.decoders})
        self.register_buffer("latent_mean", torch.zeros(config.latent_channels))
        self.register_buffer("latent_std", torch.ones(config.latent_channels))

    @classmethod
    def describe(cls, config: AlignedConfig, name: str) -> Decoder:
        """See ``CodecModel``."""
        if name == "none":
            return Decoder(name=name, inside=Allowed(), last_layer="out_4", reach=416)
        second = EFFORTS[name].second
        return Decoder(
            name=name,
            inside=Allowed(least=0 if second else 1, most=None),
            beside=Allowed(most=1) if second else Allowed(),
            least=1,
            last_layer="out_4",
            reach=None if second else 416,  # the search for motion sees the whole tile
        )

    @classmethod
    def training_of(cls, config: AlignedConfig) -> Training:
        """See ``CodecModel``."""
        return Training(block="ResBlock", random_keyframe=True)

    def encode(self, video: Tensor, *, references: Sequence[Reference] | None = None) -> Posterior:
        """Motion latent of a clip, relative to the references that the decoder will have.

        Args:
            video: (B, 3, 16, H, W) in [-1, 1]; H and W multiples of 32.
            references: those inside the clip, any number, as the decoder will see them; frame 7 itself unless given. A clip
                that has none of its own is told from those beside it.

        Returns:
            Posterior with ``mean`` (B, 16, 4, H/32, W/32). Its variance is a constant, 1/100 of each channel's own.
        """
        if references is None or not all(item.beside for item in references):
            references = self.own_references(video, references)
        if not references:
            raise InputError("0 references are given; the encoder needs one or more")
        beside = [item.beside for item in references]
        places = [item.place for item in references]
        shown = [place for place, other in zip(places, beside, strict=True) if not other]
        wrong = [place for place in shown if not 0 <= place < CLIP_LENGTH]
        if wrong:
            raise InputError(f"a reference inside the clip is at {wrong[0]}; allowed: 0 to {CLIP_LENGTH - 1}")
        self.check_pictures(references, (video.shape[0], 3, *video.shape[3:]))
        near = [nearest(places, frame, beside=beside) or 0 for frame in range(CLIP_LENGTH)]
        std = self._per_channel(self.latent_std)
        pictures = torch.stack([item.picture for item in references], 1)
        motion, learned = self.encoder(video, pictures, near=near, shown=shown)
        mean = motion + std * learned
        return Posterior(mean, torch.log(0.01 * std.square()).expand_as(mean))

    def latent(self, mean: Tensor) -> Tensor:
        """(B, 16, 4, h, w) -> the same with about zero mean and unit variance in each channel."""
        return (mean - self._per_channel(self.latent_mean)) / self._per_channel(self.latent_std)

    def decode(self, latent: Tensor, references: Sequence[Reference], *, decoder: str | None = None) -> Tensor:
        """Clip from a normalised latent (B, 16, 4, h, w) and references (B, 3, 32h, 32w) in [-1, 1].

        Returns:
            (B, 3, 16, 32h, 32w) float32, not clipped; references inside the clip are shown at their places, mended.
        """
        name = self.check_decode(latent, references, decoder=decoder).name
        return self.decode_by((name,), latent, references)[name]

    def decode_by(self, decoders: Sequence[str], latent: Tensor, references: Sequence[Reference]) -> dict[str, Tensor]:
        """``decode`` by several decoders, which share what they can: for training."""
        found: dict[str, Tensor] = {}
        if "none" in decoders:
            found["none"] = _as_video(self.decoders["none"](latent))
        aligned = [name for name in decoders if name != "none"]
        if not aligned:
            return found
        batch = latent.shape[0]
        plan = plan_references(
            [item.place for item in references],
            beside=[item.beside for item in references],
            present=[
                [item.present is None or bool(item.present[clip]) for item in references] for clip in range(batch)
            ],
            device=latent.device,
        )
        raw = latent * self._per_channel(self.latent_std) + self._per_channel(self.latent_mean)
        clue, features = self.code(raw), self.trunk(latent)
        mended = self.mend(torch.stack([item.picture for item in references], 1).flatten(0, 1))  # (B*R, 3, H, W)
        second = any(EFFORTS[name].second for name in aligned)
        between = motion_between(mended.detach(), plan) if second and plan.between.numel() else None
        for name in aligned:
            frames = self.decoders[name](features, clue, mended, plan=plan, between=between)
            found[name] = _as_video(frames.index_copy_(0, plan.shown[0], mended[plan.shown[1]]))
        return found

    @torch.no_grad()
    def set_unit_variance(self, latents: Tensor) -> Tensor:
        """See ``CodecModel``: statistics, encoder and trunks change together."""
        ratio = latents.square().mean((0, 2, 3, 4)).sqrt()
        ratio = torch.where(ratio < _IDLE, torch.ones_like(ratio), ratio)
        self.latent_std *= ratio
        by_slot = ratio.repeat(SLOTS)  # channels of a slot lie side by side
        self.encoder.out_conv.weight /= by_slot[:, None, None, None]
        assert self.encoder.out_conv.bias is not None
        self.encoder.out_conv.bias /= by_slot
        own = [part.trunk for part in self.decoders.values() if isinstance(part, LatentOnlyDecoder)]
        for trunk in (self.trunk, *own):
            trunk.in_conv.weight *= by_slot[None, :, None, None]
        return ratio

    @staticmethod
    def _per_channel(x: Tensor) -> Tensor:
        return x.float()[:, None, None, None]


def _as_video(frames: Tensor) -> Tensor:
    return rearrange(frames, "(b t) c h w -> b c t h w", t=CLIP_LENGTH)


def _build(config: AlignedConfig, name: str) -> nn.Module:
    return LatentOnlyDecoder(config) if name == "none" else AlignedDecoder(config, EFFORTS[name])


def from_version_1(state: Mapping[str, Tensor], model: AlignedLite) -> dict[str, Tensor]:
    """Version 1's tensors where version 2 has the same part; what is new keeps the start that it has in ``model``.

    ``warp`` becomes what is done with one reference, and ``bidirectional`` what the second one adds.
    """
    result = dict(model.state_dict())
    for key, fresh in result.items():
        value = _ancestor(key, state)
        if value is not None:
            result[key] = _fitted(value, fresh)
        elif ".blocks_" in key and ".conv2." in key:  # a block more than version 1 had: it starts as the identity
            result[key] = torch.zeros_like(fresh)
    return result


def _ancestor(key: str, state: Mapping[str, Tensor]) -> Tensor | None:
    part, _, rest = key.partition(".")
    if part in ("encoder", "latent_mean", "latent_std"):
        return state[key]
    if part in ("code", "trunk"):
        return state[f"decoders.warp.{'trunk.' if part == 'trunk' else ''}{rest}"]
    if part != "decoders":
        return None
    name, _, rest = rest.partition(".")
    if name == "none":
        return state[key]
    if not rest.startswith("second."):
        return state.get(f"decoders.warp.{rest}")
    return state.get(f"decoders.bidirectional.{rest.removeprefix('second.')}")


def _fitted(old: Tensor, new: Tensor) -> Tensor:
    """A decoder, and no output, for what it would have found: guess 1 of 0, 1, 2."""
    if old.shape == new.shape:
        return old.to(new.dtype)
    if old.shape[0] != new.shape[0]:  # flow_8: a share for each guess, then the correction
        keep = [0, 2, *range(3, old.shape[0])]
        return old[keep].to(new.dtype)
    first = old.shape[1] - 13  # in_8: features, 3 flows, own flow, 3 errors, mismatch, time
    keep = [*range(first + 2), *range(first + 4, first + 9), first + 10, *range(first + 11, old.shape[1])]
    return old[:, keep].to(new.dtype)
