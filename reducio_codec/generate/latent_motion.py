"""What a latent says about motion without being decoded: ``reducio-lite``'s latent is linear in the flow (``LinearCode``)."""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor

from reducio_codec.config import CLIP_LENGTH
from reducio_codec.errors import InputError
from reducio_codec.generate.continuation import FRAME_RATE
from reducio_codec.models.contract import CodecModel
from reducio_codec.models.lite.blocks import SLOTS, fold_slots
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
        others = [frame for frame in range(CLIP_LENGTH) if frame != self._key]
        motion = flow[:, others].square().sum(2).sqrt().mean((1, 2, 3)) / self._unit
        return motion, self._camera(flow)

    @torch.no_grad()
    def steered(self, latent: Tensor, camera: Tensor) -> Tensor:
        """Latents (B, z, 4, h, w) whose camera, as ``measure`` has it, is ``camera`` (B, 4): the steady movement that they lack
        is added to what moves in them already. Of the movement at each position the latent has what its few channels can say."""
        added = self._told(self._steady(*latent.shape[-2:], device=latent.device))  # (4, z, 4, h, w)
        still = torch.zeros_like(added[:1])
        effect = self.measure(added)[1] - self.measure(still)[1]  # (4, 4): of each unit, the camera it makes
        lacking = camera.to(effect) - self.measure(latent)[1]  # (B, 4)
        shares = torch.linalg.lstsq(effect.T, lacking.T).solution.T  # (B, 4)
        return latent + torch.einsum("bu,uzshw->bzshw", shares, added).to(latent)

    def _camera(self, flow: Tensor) -> Tensor:
        """(B, 16, 2, h, w) to (B, 4): the shares of the four steady movements in it, by least squares."""
        steady = self._steady(*(side // 2 for side in flow.shape[-2:]), device=flow.device)  # (4, 16, 2, h, w)
        return torch.einsum("btchw,utchw->bu", flow, steady) / steady.square().sum((1, 2, 3, 4))

    def _steady(self, height: int, width: int, *, device: torch.device) -> Tensor:
        """(4, 16, 2, 2h, 2w): for latents of h x w, the flow that 1 of each of a camera's numbers makes."""
        y, x = (_centred(2 * count, device=device) for count in (height, width))
        down, right = torch.meshgrid(y, x, indexing="ij")  # (2h, 2w), pixels
        none, side, turn = torch.zeros_like(down), torch.full_like(down, self._side), math.pi / 180
        rates = [[side, none], [none, side], [-right, -down], [-turn * down, turn * right]]  # pixels a second
        rate = torch.stack([torch.stack(each) for each in rates])  # (4, 2, 2h, 2w)
        seconds = (torch.arange(CLIP_LENGTH, device=device) - self._key) / FRAME_RATE
        return torch.einsum("uchw,t->utchw", rate, seconds)

    def _told(self, flow: Tensor) -> Tensor:
        """(U, 16, 2, 2h, 2w), changes of a flow, to changes (U, z, 4, h, w) of a normalised latent that come nearest to it in
        grey levels, and so change what is added to moved pixels hardly."""
        code = self._codec.code
        parts = ((code.flow_out, _MOVED_LEVELS), (code.residual_out, 127.5))
        moves, adds = (  # (4, z, 32) and (4, z, 768): of each slot's z channels, what they do to its 4 frames
            levels * layer.weight.detach().float().cpu().unflatten(0, (SLOTS, -1)).flatten(2) for layer, levels in parts
        )
        inverse = torch.linalg.pinv(torch.cat([moves, adds], 2))[:, : moves.shape[2]].to(flow)  # (4, 32, z)
        blocks = rearrange(flow, "u (s t) c (h a) (w b) -> u s (t c a b) h w", s=SLOTS, a=2, b=2)  # (U, 4, 32, h, w)
        raw = torch.einsum("snz,usnhw->uzshw", inverse, _MOVED_LEVELS * blocks)
        return raw / self._codec.latent_scale(raw)

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
