"""The blocks that encoder, content encoder and decoder are made of. Published names, so that checkpoints map one to one."""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from reducio_codec.errors import InputError

ConvKind = Literal["3d", "2d", "image"]
"""``3d``: over (T, H, W). ``2d``: over (H, W) of every frame, on the same 5-D tensors (Tab. 10). ``image``: 4-D tensors."""

NORM_GROUPS = 32
"""Groups of every group norm, as published. ``ReducioConfig.norm_groups`` is another number for narrow models."""
NORM_EPS = 1e-6


def convolution(in_channels: int, out_channels: int, *, kind: ConvKind, kernel: Literal[1, 3] = 3) -> nn.Module:
    """A convolution that keeps the size: zero padding on both sides, in time as well (it is not causal)."""
    pad = kernel // 2
    if kind == "image":
        return nn.Conv2d(in_channels, out_channels, kernel, padding=pad)
    if kind == "2d":
        return nn.Conv3d(in_channels, out_channels, (1, kernel, kernel), padding=(0, pad, pad))
    return _Conv3d(in_channels, out_channels, kernel, padding=pad)


class _Conv3d(nn.Conv3d):
    """The same function. In torch's CPU kernels for bfloat16 (seen in 2.14, oneDNN) the weights' gradient is wrong, often not
    finite, where a kernel of three frames meets exactly two; with the zeros before and after them written out it is right.
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.shape[2] == 2 and self.kernel_size[0] == 3 and input.device.type == "cpu" and torch.is_grad_enabled():
            padded = functional.pad(input, (0, 0, 0, 0, 1, 1))  # (B, C, 4, H, W)
            return functional.conv3d(padded, self.weight, self.bias, padding=(0, *self.padding[1:]))
        return super().forward(input)


class GroupNorm(nn.GroupNorm):
    """Group norm with statistics over (C / groups, T, H, W), always computed in float32 whatever the input's type.

    Half precision sums of a million values overflow or lose their last digits, so this is a float32 island.
    """

    def __init__(self, channels: int, *, groups: int = NORM_GROUPS) -> None:
        if channels % groups:
            raise InputError(f"a level has {channels} channels; it must be a multiple of {groups} (group norm)")
        super().__init__(groups, channels, eps=NORM_EPS)

    def forward(self, input: Tensor) -> Tensor:
        if input.dtype == self.weight.dtype:
            return super().forward(input)
        return super().forward(input.to(self.weight.dtype)).to(input.dtype)


class ResidualBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), with a 1x1 convolution on x where the channels change.

    ``checkpointing`` recomputes the block in the backward pass instead of keeping its activations.
    """

    def __init__(self, in_channels: int, out_channels: int, *, kind: ConvKind, groups: int = NORM_GROUPS) -> None:
        super().__init__()
        self.kind: ConvKind = kind
        self.checkpointing = False
        self.norm1 = GroupNorm(in_channels, groups=groups)
        self.conv1 = convolution(in_channels, out_channels, kind=kind)
        self.norm2 = GroupNorm(out_channels, groups=groups)
        self.conv2 = convolution(out_channels, out_channels, kind=kind)
        self.nin_shortcut: nn.Module | None = None
        if in_channels != out_channels:
            self.nin_shortcut = convolution(in_channels, out_channels, kind=kind, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, ..., H, W) to (B, C_out, ..., H, W)."""
        if self.checkpointing and torch.is_grad_enabled():
            result: Tensor = checkpoint(self._forward, x, use_reentrant=False)
            return result
        return self._forward(x)

    def _forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.conv1(functional.silu(self.norm1(x)))  # (B, C_out, ..., H, W)
        h = self.conv2(functional.silu(self.norm2(h)))
        return h + (x if self.nin_shortcut is None else self.nin_shortcut(x))


class Downsample(nn.Module):
    """Halve height and width, and time where ``temporal``: zeros at the end of each halved axis, then a strided convolution."""

    def __init__(self, channels: int, *, kind: ConvKind, temporal: bool = False) -> None:
        super().__init__()
        self.temporal = temporal
        self.conv: nn.Module
        if kind == "image":
            self.conv = nn.Conv2d(channels, channels, 3, stride=2)
        elif temporal:
            self.conv = nn.Conv3d(channels, channels, 3, stride=2)
        else:
            self.conv = nn.Conv3d(channels, channels, (1, 3, 3), stride=(1, 2, 2))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ..., H, W) to (B, C, ..., H / 2, W / 2), T / 2 where temporal."""
        padding = (0, 1, 0, 1, 0, 1) if self.temporal else (0, 1, 0, 1)
        return cast(Tensor, self.conv(functional.pad(x, padding)))


class Upsample(nn.Module):
    """Double height and width, and time where ``temporal``: each value repeated, then a convolution."""

    def __init__(self, channels: int, *, kind: ConvKind, temporal: bool = False) -> None:
        super().__init__()
        self.temporal = temporal
        self.conv = convolution(channels, channels, kind=kind)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ..., H, W) to (B, C, ..., 2 H, 2 W), 2 T where temporal."""
        scale = (2.0, 2.0) if x.ndim == 4 else (2.0 if self.temporal else 1.0, 2.0, 2.0)
        return cast(Tensor, self.conv(functional.interpolate(x, scale_factor=scale, mode="nearest")))


def frames_as_batch(x: Tensor) -> Tensor:
    """(B, C, T, H, W) to (B * T, C, H, W)."""
    batch, channels, time, height, width = x.shape
    return x.transpose(1, 2).reshape(batch * time, channels, height, width)


def batch_as_frames(x: Tensor, *, frames: int) -> Tensor:
    """(B * T, C, H, W) to (B, C, T, H, W)."""
    return cast(Tensor, x.unflatten(0, (-1, frames))).transpose(1, 2)
