"""What a latent says about motion without being decoded: ``reducio-lite``'s latent is linear in the flow (``LinearCode``)."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from reducio_codec.config import CLIP_LENGTH
from reducio_codec.errors import InputError
from reducio_codec.generate.continuation import FRAME_RATE
from reducio_codec.models.contract import CodecModel
from reducio_codec.models.lite.blocks import fold_slots
from reducio_codec.models.lite.model import ReducioLite
from reducio_codec.models.precision import exact, in_float32

_CELL = 16
"""Pixels of a position of the flow, along a side."""
_MOVED_LEVELS = 12.5
"""Grey levels (root mean square) by which pictures of val differ from themselves when they are moved by a pixel; moved by 2, 4,
8 and 16 pixels they differ by about the square root of that times more."""


class LatentMotion:
    """Motion, camera and channels' weights of the latents of one codec.

    Args:
        codec: InputError unless its latent is linear in the flow.
        unit: pixels of mean flow that count as motion 1.
        side: pixels that count as 1 of a camera's pan.
    """

    def __init__(self, codec: CodecModel, *, unit: float, side: int) -> None:
        if not isinstance(codec, ReducioLite):
            raise InputError(
                f"the codec's architecture is {codec.config.architecture!r}; motion can be read from latents of 'lite' only"
            )
        self._codec, self._unit, self._side = codec, unit, side
        self._key = codec.default_keyframe_index

    @torch.no_grad()
    def flow(self, latent: Tensor) -> Tensor:
        """(B, z, 4, h, w), normalised, to (B, 16, 2, 2h, 2w) float32: from each frame to the key frame, in pixels."""
        codec = self._codec
        raw = latent.to(codec.latent_std.device) * codec.latent_scale(latent) + codec.latent_mean[:, None, None, None]
        with exact(raw.device):
            flow = in_float32(codec.code.flow_out, fold_slots(raw.float()))
        return rearrange(flow, "b (t c) h w -> b t c h w", t=CLIP_LENGTH)

    def measure(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Of latents (B, z, 4, h, w): motion (B,), the flow's mean length over the unit, and camera (B, 4), as ``Camera`` has
        its numbers: the steady movement that explains the flow best, by least squares."""
        flow = self.flow(latent)  # (B, 16, 2, h, w)
        times = [frame for frame in range(CLIP_LENGTH) if frame != self._key]
        flow = flow[:, times]  # (B, 15, 2, h, w)
        motion = flow.square().sum(2).sqrt().mean((1, 2, 3)) / self._unit
        seconds = torch.tensor([(frame - self._key) / FRAME_RATE for frame in times], device=flow.device)
        rate = torch.einsum("btchw,t->bchw", flow, seconds) / seconds.square().sum()  # (B, 2, h, w): a second
        y, x = (_centred(count, device=flow.device) for count in rate.shape[-2:])
        down, right = torch.meshgrid(y, x, indexing="ij")  # (h, w), pixels
        reach = (down.square() + right.square()).mean()
        along = (rate[:, 0] * right + rate[:, 1] * down).mean((1, 2)) / reach  # of things that shrink
        around = (rate[:, 1] * right - rate[:, 0] * down).mean((1, 2)) / reach  # radians; where things come from
        pan = rate.mean((2, 3)) / self._side  # (B, 2)
        camera = torch.stack([pan[:, 0], pan[:, 1], -along, torch.rad2deg(around)], dim=1)
        return motion, camera

    @torch.no_grad()
    def channel_weights(self) -> Tensor:
        """(z,), mean 1: how much of the picture changes, in grey levels, when a channel changes by its own spread."""
        codec = self._codec
        std = codec.latent_std.detach().float().cpu()
        code = codec.code
        moved = code.flow_out.weight.detach().float().cpu().square().sum(1).mean((1, 2)) / 4  # (4z,): a frame
        added = code.residual_out.weight.detach().float().cpu().square().mean((1, 2, 3))
        by_slot = (x.sqrt().reshape(-1, len(std)).mean(0) * std for x in (moved, added))  # (z,) each
        pixels, levels = by_slot
        effect = (_MOVED_LEVELS**2 * pixels + (127.5 * levels).square()).sqrt()
        return effect / effect.mean()


def _centred(count: int, *, device: torch.device) -> Tensor:
    """Pixels from the middle to each of so many positions."""
    return (torch.arange(count, device=device) + 0.5 - count / 2) * _CELL
