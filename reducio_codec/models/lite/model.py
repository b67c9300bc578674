"""ReducioLite: the paper's interface (16 channels on a 4 x H/32 x W/32 grid, references, several decoders) at a thousandth of
its cost. Every decoder starts from the latent's motion, and takes the references that there are. Pixels enter and leave by
unshuffling 4x4 blocks, and frames are folded into the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from reducio_codec.config import CLIP_LENGTH, LiteConfig, TilingConfig
from reducio_codec.errors import InputError
from reducio_codec.io.pixels import to_unit
from reducio_codec.models.contract import Allowed, CodecModel, Decoder, Reference, Training
from reducio_codec.models.lite.between import Between, motion_between
from reducio_codec.models.lite.blocks import SLOTS, LatentTrunk, runs_now
from reducio_codec.models.lite.decoders import EFFORTS, AlignedDecoder, LatentOnlyDecoder
from reducio_codec.models.lite.encoder import MotionEncoder
from reducio_codec.models.lite.fast import FastDecoder
from reducio_codec.models.lite.frames import (
    PICTURES,
    FrameDecoder,
    at_a_time,
    at_once,
    frames_made_at_once,
    runs,
    size_of,
)
from reducio_codec.models.lite.linear_code import Clue, LinearCode
from reducio_codec.models.lite.mend import Mend
from reducio_codec.models.lite.plan import Plan, nearest, plan_references
from reducio_codec.models.posterior import Posterior

_IDLE = 0.02
"""A channel with a standard deviation below this carries nothing; scaling it up would only code its noise."""

_HELD = 400
"""Bytes for each pixel of a clip that is decoded a few frames at a time: features of all of them, and three references."""


class ReducioLite(CodecModel):
    """Encoder, what the decoders share (the latent's linear part, its trunk, the mending of references), and decoders; see
    ``models.contract.CodecModel`` for what each call takes and returns.

    The latent is normalised by fixed statistics of each channel rather than by a norm over the clip: such a norm removes
    the clip's gain, and the size of a motion is a gain.
    """

    tiling: ClassVar[TilingConfig] = TilingConfig(
        tile_size=1952, tile_overlap=32, tile_batch=1, tile_threads=4, shrink=True
    )
    """Nothing here was trained to one size, and motion across a border between tiles is lost (``bench.tile_sizes``): so there are
    none up to 1080p, and four cover 4K. An overlap of 96 of tiles of 384 px took time for -1.1 to +0.2 dB (four videos)."""

    peak_bytes_per_pixel: ClassVar[int] = 200
    """Of a frame while it is made."""

    takes_bytes: ClassVar[bool] = True

    config: LiteConfig
    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: LiteConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or LiteConfig()
        self.encoder = MotionEncoder(config)
        self.code = LinearCode(config.latent_channels)
        self.trunk = LatentTrunk(config)
        self.mend = Mend(config)
        self.decoders = nn.ModuleDict({name: _build(config, name) for name in config.decoders})
        self.register_buffer("latent_mean", torch.zeros(config.latent_channels))
        self.register_buffer("latent_std", torch.ones(config.latent_channels))

    @classmethod
    def describe(cls, config: LiteConfig, name: str) -> Decoder:
        """See ``CodecModel``."""
        if name == "none":
            return Decoder(name=name, inside=Allowed(), last_layer="out_4", reach=416)
        second = name in EFFORTS
        return Decoder(
            name=name,
            inside=Allowed(most=None),
            beside=Allowed(most=1) if second else Allowed(),
            least=1,
            last_layer="out_4",
            reach=None if second else 416,  # the search for motion sees the whole tile
        )

    @classmethod
    def training_of(cls, config: LiteConfig) -> Training:
        """See ``CodecModel``."""
        return Training(block="ResBlock", starts=("flow",), shared=("code", "trunk", "mend"))

    def peak_bytes(self, tile_size: int, *, device: torch.device) -> int:
        """See ``CodecModel``. Measured on a CPU, ``attention`` in float32: 0.74 GB for 1280x720, 1.66 GB for 1920x1080."""
        pixels, size = tile_size * tile_size, (tile_size, tile_size)
        if device.type != "cpu":
            return CLIP_LENGTH * pixels * self.peak_bytes_per_pixel
        return _HELD * pixels + frames_made_at_once(size) * pixels * self.peak_bytes_per_pixel

    def encode(self, video: Tensor, *, references: Sequence[Reference] | None = None) -> Posterior:
        """Motion latent of a clip, relative to the references that the decoder will have.

        Args:
            video: (B, 3, 16, H, W) in [-1, 1], or uint8; H and W multiples of 32.
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
        pictures = torch.stack([to_unit(item.picture) for item in references], 1)
        motion, learned = self.encoder(video, pictures, near=near, shown=shown)
        mean = motion + std * learned
        return Posterior(mean, torch.log(0.01 * std.square()).expand_as(mean))

    def latent(self, mean: Tensor) -> Tensor:
        """(B, 16, 4, h, w) -> the same with about zero mean and unit variance in each channel."""
        return (mean - self._per_channel(self.latent_mean)) / self._per_channel(self.latent_std)

    def latent_scale(self, mean: Tensor) -> Tensor:
        """See ``CodecModel``: each channel's standard deviation, (16, 1, 1, 1)."""
        return self._per_channel(self.latent_std)

    def decode(self, latent: Tensor, references: Sequence[Reference], *, decoder: str | None = None) -> Tensor:
        """Clip from a normalised latent (B, 16, 4, h, w) and references (B, 3, 32h, 32w) in [-1, 1].

        Returns:
            (B, 3, 16, 32h, 32w) float32, not clipped; references inside the clip are shown at their places, mended.
        """
        name = self.check_decode(latent, references, decoder=decoder).name
        return self.decode_by((name,), latent, references)[name]

    def decode_each(
        self,
        latent: Tensor,
        references: Sequence[Reference],
        *,
        decoder: str | None = None,
        put: Callable[[slice, Tensor], object],
    ) -> None:
        """See ``CodecModel``: a few frames at a time, by several threads, where they are computed at once on a CPU."""
        name = self.check_decode(latent, references, decoder=decoder).name
        made = self.decoders[name]
        if not isinstance(made, FrameDecoder) or not runs_now(latent):
            super().decode_each(latent, references, decoder=decoder, put=put)
            return
        plan, pictures = _planned(latent, references)
        shared = self._shared([name], latent, pictures, plan)
        pixels = made.prepare(shared.features, shared.clue, shared.mended, plan=plan, between=shared.between)
        shown = plan.shown.T.tolist()
        for frame, which in shown:
            put(slice(frame, frame + 1), shared.mended[which, None])
        size = size_of(pictures)
        pieces = runs(len(plan.near), most=at_a_time(size, PICTURES), without=[frame for frame, _ in shown])
        for _ in at_once(lambda some: put(some, pixels(some)), pieces, size=size, like=latent):
            pass

    def decode_by(self, decoders: Sequence[str], latent: Tensor, references: Sequence[Reference]) -> dict[str, Tensor]:
        """``decode`` by several decoders, which share what they can: for training."""
        found: dict[str, Tensor] = {}
        if "none" in decoders:
            found["none"] = _as_video(self.decoders["none"](latent))
        aligned = [name for name in decoders if name != "none"]
        if not aligned:
            return found
        plan, pictures = _planned(latent, references)
        made, mended = self.decode_planned(aligned, latent, pictures, plan)
        for name, frames in made.items():
            found[name] = _as_video(frames.index_copy_(0, plan.shown[0], mended[plan.shown[1]]))
        return found

    def decode_planned(
        self, decoders: Sequence[str], latent: Tensor, pictures: Tensor, plan: Plan
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Frames (B*16, 3, H, W) by each decoder, but for ``plan.shown``, and the references as they are shown in those, mended.

        Tensors' operations alone, and none depends on where references lie: what is exported of it takes any.

        Args:
            decoders: any but ``none``.
            latent: (B, 16, 4, h, w), normalised.
            pictures: (B*R, 3, H, W) in [-1, 1], the references.
        """
        shared = self._shared(decoders, latent, pictures, plan)
        made = {
            name: self.decoders[name](shared.features, shared.clue, shared.mended, plan=plan, between=shared.between)
            for name in decoders
        }
        return made, shared.mended

    def _shared(self, decoders: Sequence[str], latent: Tensor, pictures: Tensor, plan: Plan) -> _Shared:
        raw = latent * self._per_channel(self.latent_std) + self._per_channel(self.latent_mean)
        mended = self.mend(pictures)  # (B*R, 3, H, W)
        second = any(name in EFFORTS for name in decoders)
        between = motion_between(mended.detach(), plan) if second and plan.between.numel() else None
        return _Shared(self.code(raw), self.trunk(latent), mended, between)

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


class _Shared(NamedTuple):
    """What decoders share, as ``FrameDecoder.prepare`` takes it."""

    clue: Clue
    features: Tensor
    mended: Tensor
    between: Between | None


def _planned(latent: Tensor, references: Sequence[Reference]) -> tuple[Plan, Tensor]:
    """Where each frame comes from, and the references as one tensor (B*R, 3, H, W)."""
    plan = plan_references(
        [item.place for item in references],
        beside=[item.beside for item in references],
        present=[[item.present is None or item.present[clip] for item in references] for clip in range(len(latent))],
        device=latent.device,
    )
    return plan, torch.stack([to_unit(item.picture) for item in references], 1).flatten(0, 1)


def _as_video(frames: Tensor) -> Tensor:
    return rearrange(frames, "(b t) c h w -> b c t h w", t=CLIP_LENGTH)


def _build(config: LiteConfig, name: str) -> nn.Module:
    plain = {"none": LatentOnlyDecoder, "linear": FastDecoder}
    return plain[name](config) if name in plain else AlignedDecoder(config, EFFORTS[name])
