"""Building blocks of the small model: 2-D convolutions over frames folded into the batch, and latent unfolding."""

from __future__ import annotations

import platform
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch._C import _is_tracing
from torch.nn.modules import module as modules
from torch.utils._python_dispatch import _get_current_dispatch_mode
from torch.utils.checkpoint import checkpoint

from reducio_codec.config import CLIP_LENGTH, LiteConfig

SLOTS = CLIP_LENGTH // LiteConfig.temporal_compression_ratio
"""Time positions of a latent; each stands for four frames."""


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)


def zero_conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv2d:
    """A last layer that starts at zero: what it adds to is untouched until training says otherwise."""
    layer = conv(inputs, outputs, kernel)
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def idle(last: nn.Conv2d) -> bool:
    """Whether a last layer is zero, as it started: then nothing that leads to it need be computed.

    It is never asked where it would be trained, on accelerators, which take longer to answer than to compute, and of graphs.
    """
    weight, bias = last.weight, last.bias
    if not runs_now(weight) or not _plain(last) or bool(weight[0].any()):  # of most layers a part tells, and quickly
        return False
    return not bool(weight.any()) and (bias is None or not bool(bias.any()))


def runs_now(x: Tensor) -> bool:
    """Whether a CPU computes with ``x`` at once, and nothing is learned or recorded: then values may decide what is computed."""
    recorded = torch.compiler.is_compiling() or _is_tracing() or type(x) not in (Tensor, nn.Parameter)
    return x.device.type == "cpu" and not torch.is_grad_enabled() and not recorded


def channels_last(x: Tensor) -> Tensor:
    """The same values, a position's channels side by side in memory: convolutions on CPUs take half the time then."""
    return x.contiguous(memory_format=torch.channels_last)


def of_each(x: Tensor, which: Tensor) -> Tensor:
    """``x[which]``, to be read only: of the only one there is no copy is made."""
    return x.expand(len(which), *x.shape[1:]) if runs_now(x) and len(x) == 1 else x[which]


def joined(*parts: Tensor) -> Tensor:
    """(N, C1, h, w), (N, C2, h, w), ... as one of all their channels, in the first one's dtype, channels last."""
    return torch.cat([channels_last(part.to(parts[0].dtype)) for part in parts], 1)


def blocks_to_pixels(x: Tensor) -> Tensor:
    """``pixel_shuffle(x, 4)``: (N, 16*C, h, w), channels last, to (N, C, 4h, 4w) as planes, in half of its time."""
    pixels: Tensor = x.contiguous().unflatten(1, (-1, 4, 4)).permute(0, 1, 4, 2, 5, 3)  # (N, C, h, 4, w, 4)
    return pixels.flatten(4).flatten(2, 3)


def pixels_to_blocks(x: Tensor) -> Tensor:
    """``pixel_unshuffle(x, 4)``: planes (N, C, 4h, 4w) to (N, 16*C, h, w), channels last, likewise."""
    blocks: Tensor = x.unflatten(3, (-1, 4)).unflatten(2, (-1, 4)).permute(0, 2, 4, 1, 3, 5)  # (N, h, w, C, 4, 4)
    return blocks.flatten(3).permute(0, 3, 1, 2)


_SLOPE = 0.1


def act(x: Tensor) -> Tensor:
    return F.leaky_relu(x, _SLOPE, inplace=True)


def conv_act(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """``act(layer(x))``, on x86 in one pass over memory: two take 1.4 times as long for 48 channels in bfloat16."""
    if (dtype := _fused_dtype(layer, x)) is None:
        return act(layer(x))
    result: Tensor = _fused()(*_operands(layer, x, dtype), "leaky_relu", [_SLOPE], "")
    return result


def add_conv(x: Tensor, layer: nn.Conv2d, y: Tensor) -> Tensor:
    """``x + layer(y)``, likewise."""
    dtype = _fused_dtype(layer, y)
    if dtype is None or dtype != x.dtype:
        result: Tensor = x + layer(y)
        return result
    input_, *rest = _operands(layer, y, dtype)
    result = _fused().binary(input_, channels_last(x), *rest, "add", None, None, [], None)
    return result


def _fused_dtype(layer: nn.Conv2d, x: Tensor) -> torch.dtype | None:
    """What a convolution of ``x`` computes in where it may be fused with what follows; None where it may not."""
    if not runs_now(x) or _fused() is None or not _plain(layer) or _hooked(layer):
        return None
    if x.dtype == torch.float64 or _get_current_dispatch_mode() is not None:
        return None  # autocast leaves float64 alone; who counts or records operations knows convolutions, not these
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    if dtype == torch.bfloat16:
        return dtype if torch.ops.mkldnn._is_mkldnn_bf16_supported() else None
    return dtype if dtype == torch.float32 else None


def _plain(layer: nn.Module) -> bool:
    """Whether to call ``layer`` is to convolve by its weights: nobody, an adapter for one, has put another in its place."""
    return type(layer) is nn.Conv2d and "forward" not in vars(layer)


def _hooked(layer: nn.Module) -> bool:
    """Whether somebody waits for ``layer`` to be called, and may change what goes in or comes out."""
    own = layer._forward_hooks or layer._forward_pre_hooks
    return bool(own or modules._global_forward_hooks or modules._global_forward_pre_hooks)


def _operands(layer: nn.Conv2d, x: Tensor, dtype: torch.dtype) -> tuple[Any, ...]:
    bias = None if layer.bias is None else layer.bias.to(dtype)
    return x.to(dtype), layer.weight.to(dtype), bias, layer.padding, layer.stride, layer.dilation, layer.groups


@cache
def _fused() -> Any:
    """oneDNN's convolution with what follows it, as torch's own compiler calls it, or None."""
    if platform.machine() not in ("x86_64", "AMD64") or not torch.backends.mkldnn.is_available():
        return None  # elsewhere it may be there, and slow
    return getattr(torch.ops.mkldnn, "_convolution_pointwise", None)


class ResBlock(nn.Module):
    """x + conv(act(conv(x))). No normalisation, so the result at a position can't depend on the tile around it.

    With ``temporal`` an eighth of the channels comes from the frame before and an eighth from the frame after
    (Temporal Shift Module, arXiv 1811.08383): time is mixed at no cost in multiplications.
    ``checkpointing`` recomputes the block in the backward pass instead of keeping its activations.
    """

    def __init__(self, channels: int, *, hidden: int | None = None, temporal: bool = False) -> None:
        super().__init__()
        self.conv1 = conv(channels, hidden or channels)
        self.conv2 = conv(hidden or channels, channels)
        self.shift = channels // 8 if temporal else 0
        self.checkpointing = False
        with torch.no_grad():
            self.conv2.weight *= 0.1  # a deep stack starts near the identity

    def forward(self, x: Tensor, some: slice | None = None) -> Tensor:
        """(N, C, h, w), N = batch * 16 when temporal, to the same, or of ``some`` frames alone (n, C, h, w)."""
        if idle(self.conv2):
            return x if some is None else x[some]
        if self.checkpointing and torch.is_grad_enabled():
            recomputed: Tensor = checkpoint(self._forward, x, some, use_reentrant=False)
            return recomputed
        return self._forward(x, some)

    def _forward(self, x: Tensor, some: slice | None) -> Tensor:
        own = x if some is None else x[some]
        y = _shift_in_time(x, self.shift, some) if self.shift else own
        return add_conv(own, self.conv2, conv_act(self.conv1, y))


def _shift_in_time(x: Tensor, shift: int, some: slice | None) -> Tensor:
    if some is not None and some != slice(None):
        numbers = range(len(x))[some]
        y = x[some].clone()
        for place, number in enumerate(numbers):
            y[place, :shift] = x[number - 1, :shift] if number % CLIP_LENGTH else 0
            y[place, shift : 2 * shift] = x[number + 1, shift : 2 * shift] if (number + 1) % CLIP_LENGTH else 0
        return y
    clips = x.unflatten(0, (-1, CLIP_LENGTH))  # (B, T, C, h, w)
    before = F.pad(clips[:, :-1, :shift], (0, 0, 0, 0, 0, 0, 1, 0))
    after = F.pad(clips[:, 1:, shift : 2 * shift], (0, 0, 0, 0, 0, 0, 0, 1))
    return channels_last(torch.cat((before, after, clips[:, :, 2 * shift :]), 2).flatten(0, 1))


class KeyframePyramid(nn.Module):
    """The key frame's features at a quarter and an eighth of its size; runs once a clip."""

    def __init__(self, config: LiteConfig) -> None:
        super().__init__()
        self.in_conv = conv(48, config.channels_4)
        self.block = ResBlock(config.channels_4)
        self.out_4 = conv(config.channels_4, config.channels_4 // 2)
        self.down = conv(config.channels_4, config.channels_8, stride=2)
        self.out_8 = conv(config.channels_8, config.channels_4)

    def forward(self, keyframe: Tensor) -> tuple[Tensor, Tensor]:  # (B, 3, H, W)
        x = self.block(conv_act(self.in_conv, F.pixel_unshuffle(keyframe, 4)))  # (B, C4, H/4, W/4)
        return self.out_4(x), self.out_8(conv_act(self.down, x))  # (B, C4/2, H/4, W/4), (B, C4, H/8, W/8)


class LatentTrunk(nn.Module):
    """Unfolds the latent to features of each frame at 1/16. All four time positions are mixed on the latent grid."""

    def __init__(self, config: LiteConfig) -> None:
        super().__init__()
        wide = config.channels_32
        self.in_conv = conv(SLOTS * config.latent_channels, wide)
        self.blocks = nn.Sequential(ResBlock(wide), ResBlock(wide))
        self.unfold = conv(wide, 4 * CLIP_LENGTH * config.channels_16, kernel=1)
        self.refine = ResBlock(config.channels_16, temporal=True)

    def forward(self, latent: Tensor) -> Tensor:  # (B, z, 4, h, w)
        x = self.blocks(conv_act(self.in_conv, fold_slots(latent)))  # (B, C32, h, w)
        x = F.pixel_shuffle(self.unfold(x), 2)  # (B, 16*C16, 2h, 2w)
        x = rearrange(x, "b (t c) h w -> (b t) c h w", t=CLIP_LENGTH)
        refined: Tensor = self.refine(act(x))
        return refined  # (B*16, C16, 2h, 2w)


def fold_slots(latent: Tensor) -> Tensor:
    """(B, z, 4, h, w) -> (B, 4*z, h, w), the channels of a slot side by side."""
    return rearrange(latent, "b z s h w -> b (s z) h w")


def unfold_slots(x: Tensor) -> Tensor:
    """(B, 4*z, h, w) -> (B, z, 4, h, w)."""
    return rearrange(x, "b (s z) h w -> b z s h w", s=SLOTS)


def upsample(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)
