"""The latent's hand-made part, where every decoder starts: a flow, a residual, and how they become pixels."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from reducio_codec.config import CLIP_LENGTH
from reducio_codec.models.lite.blocks import SLOTS, channels_last, fold_slots, runs_now, upsample
from reducio_codec.models.motion import doubled, move, warp
from reducio_codec.models.precision import exact, in_float32


class Clue(NamedTuple):
    """What the latent says without learning."""

    flow: Tensor
    """(B*16, 2, H/8, W/8) float32: from each frame to its near reference, in pixels."""
    residual: Tensor
    """(B*16, 3, H/4, W/4) float32, what to add to the moved reference."""


class LinearCode(nn.Module):
    """The latent's hand-made part, shared by all decoders: a linear map for each of its time positions."""

    def __init__(self, latent_channels: int) -> None:
        super().__init__()
        inputs = SLOTS * latent_channels
        self.flow_out = nn.ConvTranspose2d(inputs, 2 * CLIP_LENGTH, 2, 2, groups=SLOTS, bias=False)
        self.residual_out = nn.ConvTranspose2d(inputs, 3 * CLIP_LENGTH, 8, 8, groups=SLOTS, bias=False)
        nn.init.zeros_(self.residual_out.weight)

    def forward(self, raw: Tensor) -> Clue:
        """raw: (B, z, 4, h, w), the latent before its statistics are normalised."""
        with exact(raw.device):  # a flow of 30 px in bfloat16 is wrong by 0.1 px
            folded = fold_slots(raw.float())
            flow, residual = in_float32(self.flow_out, folded), in_float32(self.residual_out, folded)
        flow = rearrange(flow, "b (t c) h w -> (b t) c h w", t=CLIP_LENGTH)  # (B*16, 2, H/16, W/16)
        residual = rearrange(residual, "b (t c) h w -> (b t) c h w", t=CLIP_LENGTH)  # (B*16, 3, H/4, W/4)
        return Clue(upsample(flow, 2), residual)


def warp_features(features: Tensor, flow: Tensor) -> Tensor:
    """(N, C, h, w) moved by flow (N, 2, h, w) in positions of these maps."""
    return warp(features.float(), flow).to(features.dtype)


def doubled_pictures(pictures: Tensor) -> Tensor:
    """``doubled``, one picture after the other where it ``runs_now``: its steps take three times the memory of the result."""
    if not runs_now(pictures) or len(pictures) == 1:
        return doubled(pictures)
    height, width = pictures.shape[-2:]
    whole = pictures.new_empty((len(pictures), 3, 2 * height, 2 * width))
    for place, picture in zip(whole, pictures.split(1), strict=True):
        place.copy_(doubled(picture)[0])
    return whole


def moved_pictures(large: Tensor, which: Tensor, flow: Tensor) -> Tensor:
    """``which`` (N,) of the pictures (B*R, 3, 2H, 2W), ``doubled``, moved by flow (N, 2, H/8, W/8): (N, 3, H, W) float32."""
    if not runs_now(large):
        return move(large[which], flow)
    numbers, counts = which.unique_consecutive(return_counts=True)
    moved = [  # one picture after the other: so none is copied
        move(large[number].expand(len(own), -1, -1, -1), own)
        for number, own in zip(numbers.tolist(), flow.split(counts.tolist()), strict=True)
    ]
    return moved[0] if len(moved) == 1 else torch.cat(moved)


def spread(x: Tensor) -> Tensor:
    """(N, 3, h, w) four times as large, bilinearly, as (N, 48, h, w): what ``pixel_unshuffle(upsample(x, 4), 4)`` is.

    Each of the 16 pixels of a block is a weighted mean of 3x3 positions, so a convolution does it without whole pictures. It
    goes over all three colours, two of them times nothing: on CPUs that takes less time than one by one.
    """
    line = x.new_tensor([[0.375, 0.625, 0.0], [0.125, 0.875, 0.0], [0.0, 0.875, 0.125], [0.0, 0.625, 0.375]])
    kernel = torch.einsum("ai,bj,cd->cabdij", line, line, torch.eye(3, dtype=x.dtype, device=x.device)).flatten(0, 2)
    with exact(x.device):  # else autocast makes float32 of it, only to be undone by the convolution
        padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    return F.conv2d(channels_last(padded), channels_last(kernel))  # kernel: (48, 3, 3, 3)
