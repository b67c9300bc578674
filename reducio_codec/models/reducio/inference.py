"""``ReducioVAE.optimize_for_inference``: the same model, faster and in less memory, at the price of training and saving.

What changes (the function is the published one; ``reducio_codec.models.reducio.windows`` has the convolutions):

- Residual blocks normalise and activate a few frames at a time and add into their input: two maps of a block's size
  are held instead of seven.
- A doubling by nearest neighbour followed by a 3x3x3 convolution becomes one small convolution for each phase of the
  output, with the taps that meet the same input value added up.
- On a CPU, convolutions of three frames run as Winograd F(2, 3) over time: two thirds of the multiplications.
- With ``dtype`` bfloat16 or float16, convolutions and attention run in it, in channels-last order. Float32 stays where it
  decides the result and costs little: norm statistics and norm weights, the content encoder (its maps enter attention
  without a norm, so errors in them grow there), everything on maps of H / 16 and smaller, the first and last
  convolution, the moments, the latent.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from reducio_codec.models.reducio.decoder import MotionDecoder
from reducio_codec.models.reducio.encoder import MotionEncoder
from reducio_codec.models.reducio.layers import GroupNorm, ResidualBlock, Upsample
from reducio_codec.models.reducio.windows import TimeConv, clip_frames, convolve, empty_clip

FLOAT_FROM_LEVEL = 4
"""Levels i from here on (maps of H / 2**i) compute in float32: 3% of the multiplications, half of the error."""

CPU_MOMENT_ELEMENTS = 1 << 19
"""Values that are added up at a time for the norm's statistics: one after another, so few enough to keep the digits."""

ACCELERATOR_MOMENT_ELEMENTS = 1 << 26
"""There they are added up in a tree, but as float32: 256 MB."""


class ClipNorm(nn.Module):
    """Group norm of a clip in two steps: statistics of the whole clip first, then any of its frames (float32 inside)."""

    def __init__(self, norm: GroupNorm) -> None:
        super().__init__()
        self.norm = norm.float()

    def statistics(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance for each channel (those of its group), from (C, T, H, W): (C,) float32 each."""
        values = clip.permute(1, 2, 3, 0).reshape(-1, clip.shape[0])  # (T H W, C), a view in channels-last order
        elements = CPU_MOMENT_ELEMENTS if clip.device.type == "cpu" else ACCELERATOR_MOMENT_ELEMENTS
        pieces = values.split(max(1, elements // clip.shape[0]))
        moments = [_moments(piece) for piece in pieces]
        # Pieces and the channels of a group are combined by how far each mean is from the group's (Chan's formula).
        groups = self.norm.num_groups
        mean, variance = (torch.stack(item).unflatten(1, (groups, -1)) for item in zip(*moments, strict=True))
        count = mean.new_tensor([len(piece) for piece in pieces])[:, None, None]  # (pieces, 1, 1)
        centre = (count * mean).sum(dim=(0, 2), keepdim=True) / (len(values) * mean.shape[2])  # (1, G, 1)
        spread = (count * (variance + (mean - centre).square())).sum(dim=(0, 2), keepdim=True)
        variance = spread / (len(values) * mean.shape[2])
        return tuple(item.expand(1, groups, mean.shape[2]).flatten() for item in (centre, variance))

    def activate(self, frames: Tensor, statistics: tuple[Tensor, Tensor], *, out: Tensor) -> None:
        """silu(norm(frames)), (n, C, H, W), written into ``out``."""
        mean, variance = statistics
        if frames.dtype != out.dtype:
            frames = frames.to(out.dtype)
        normed = functional.batch_norm(
            frames, mean, variance, self.norm.weight, self.norm.bias, training=False, eps=self.norm.eps
        )
        torch.ops.aten.silu.out(normed, out=out)


def _moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel, (C,) float32, from (n, C)."""
    if values.device.type != "cpu":
        variance, mean = torch.var_mean(values.float(), dim=0, correction=0)
        return mean, variance
    # batch norm has the one kernel that reads any type without a copy and adds up in float32
    zero, one = (values.new_full(values.shape[1:], value, dtype=torch.float32) for value in (0.0, 1.0))
    mean, variance = torch.ops.aten.batch_norm_update_stats(values, zero, one, 0.0)
    return mean, variance


class FastResidualBlock(nn.Module):
    """``ResidualBlock`` on clips. Writes its result into its input where the channels stay the same."""

    def __init__(self, block: ResidualBlock, *, dtype: torch.dtype, winograd: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = ClipNorm(block.norm1), ClipNorm(block.norm2)
        self.conv1 = time_conv(block.conv1, dtype=dtype, winograd=winograd)
        self.conv2 = time_conv(block.conv2, dtype=dtype, winograd=winograd)
        self.nin_shortcut = block.nin_shortcut
        if self.nin_shortcut is not None:
            self.nin_shortcut.to(dtype).to(memory_format=torch.channels_last_3d)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, T, H, W) to (B, C_out, T, H, W)."""
        batch, _, frames, height, width = x.shape
        x = x.to(self.conv1.bias.dtype).contiguous(memory_format=torch.channels_last_3d)
        channels = self.conv1.out_channels
        h = empty_clip(batch=batch, channels=channels, frames=frames, height=height, width=width, like=x)
        for source, target in zip(x, h, strict=True):
            _norm_conv(self.norm1, self.conv1, source, target, add=False)
        out = x if self.nin_shortcut is None else cast(Tensor, self.nin_shortcut(x))
        for source, target in zip(h, out, strict=True):
            _norm_conv(self.norm2, self.conv2, source, target, add=True)
        return out


def _norm_conv(norm: ClipNorm, conv: TimeConv, source: Tensor, target: Tensor, *, add: bool) -> None:
    """conv(silu(norm(source))) of one clip (C, T, H, W), written into or added to ``target`` (O, T, H, W)."""
    frames, out = clip_frames(source), clip_frames(target)
    statistics = norm.statistics(source)

    def fill(buffer: Tensor, start: int, stop: int) -> None:
        norm.activate(frames[start:stop], statistics, out=buffer)

    def emit(_: int, which: slice, rows: slice, values: Tensor) -> None:
        place = out[which, :, rows]
        if add:
            place.add_(values)
        else:
            place.copy_(values)

    channels, count, height, width = source.shape
    convolve(fill, [conv], emit, frames=count, shape=(channels, height, width), like=conv.bias)


class PhaseUpsample(nn.Module):
    """``Upsample`` as one convolution for each phase of the output: 12 taps instead of 27 (8 where time doubles too).

    An even output row 2 i sees input rows i - 1 (through tap 0) and i (through taps 1 and 2), an odd one rows i (taps 0 and 1)
    and i + 1 (tap 2). Columns, and time where it doubles, are alike; zeros outside the map stay zeros.
    """

    def __init__(self, upsample: Upsample, *, dtype: torch.dtype, winograd: bool) -> None:
        super().__init__()
        self.temporal = upsample.temporal
        conv = cast(nn.Conv3d, upsample.conv)
        assert conv.bias is not None
        self.phases = [(t, y, x) for t in ((0, 1) if self.temporal else (0,)) for y in (0, 1) for x in (0, 1)]
        self.convs = nn.ModuleList()
        for t, y, x in self.phases:
            weight = fold_phase(fold_phase(conv.weight.detach().float(), axis=3, phase=y), axis=4, phase=x)
            if self.temporal:
                weight = fold_phase(weight, axis=2, phase=t)
            self.convs.append(TimeConv(weight, conv.bias, dtype=dtype, time_offset=t, row_offset=y, winograd=winograd))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) to (B, C, T or 2 T, 2 H, 2 W)."""
        batch, channels, frames, height, width = x.shape
        stride = 2 if self.temporal else 1
        out = empty_clip(
            batch=batch, channels=channels, frames=stride * frames, height=2 * height, width=2 * width, like=x
        )
        for source, target in zip(x, out, strict=True):
            self._upsample(clip_frames(source), clip_frames(target), stride=stride)
        return out

    def _upsample(self, frames: Tensor, out: Tensor, *, stride: int) -> None:
        count, channels, height, width = frames.shape

        def fill(buffer: Tensor, start: int, stop: int) -> None:
            buffer.copy_(frames[start:stop])

        def emit(index: int, which: slice, rows: slice, values: Tensor) -> None:
            t, y, x = self.phases[index]
            frame_range = slice(stride * which.start + t, stride * (which.stop - 1) + t + 1, stride * which.step)
            place = out[frame_range, :, 2 * rows.start + y : 2 * rows.stop : 2, x::2]
            place.copy_(values[..., x : x + width])  # kernels two wide give one column more on each side together

        convs = [cast(TimeConv, conv) for conv in self.convs]
        convolve(fill, convs, emit, frames=count, shape=(channels, height, width), like=convs[0].bias)


def fold_phase(weight: Tensor, *, axis: int, phase: int) -> Tensor:
    """Three taps on a repeated signal as two taps on the signal itself, for even (0) or odd (1) outputs."""
    first, second, third = weight.unbind(axis)
    pair = (first, second + third) if phase == 0 else (first + second, third)
    return torch.stack(pair, dim=axis)


def time_conv(conv: nn.Module, *, dtype: torch.dtype, winograd: bool) -> TimeConv:
    """The same convolution for windows."""
    assert isinstance(conv, nn.Conv3d) and conv.bias is not None
    return TimeConv(conv.weight, conv.bias, dtype=dtype, winograd=winograd)


class FastConvIn(nn.Module):
    """The first convolution in float32, its output in ``dtype`` and channels-last order."""

    def __init__(self, conv: nn.Module, *, dtype: torch.dtype, winograd: bool) -> None:
        super().__init__()
        self.conv = time_conv(conv, dtype=torch.float32, winograd=winograd)
        self.dtype = dtype

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, T, H, W) to (B, C_out, T, H, W) in ``dtype``."""
        batch, channels, frames, height, width = x.shape
        out = empty_clip(
            batch=batch,
            channels=self.conv.out_channels,
            frames=frames,
            height=height,
            width=width,
            like=x.new_empty(0, dtype=self.dtype),
        )
        for source, target in zip(x, out, strict=True):
            inputs, outputs = clip_frames(source), clip_frames(target)

            def fill(buffer: Tensor, start: int, stop: int, inputs: Tensor = inputs) -> None:
                buffer.copy_(inputs[start:stop])

            def emit(_: int, which: slice, rows: slice, values: Tensor, outputs: Tensor = outputs) -> None:
                outputs[which, :, rows].copy_(values)

            convolve(fill, [self.conv], emit, frames=frames, shape=(channels, height, width), like=self.conv.bias)
        return out


class FastHead(nn.Module):
    """The decoder's last norm, activation and convolution, in float32: features to pixels."""

    def __init__(self, norm: GroupNorm, conv: nn.Module) -> None:
        super().__init__()
        self.norm = ClipNorm(norm)
        # Three output channels: Winograd's input passes would cost more than its products save.
        self.conv = time_conv(conv, dtype=torch.float32, winograd=False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) to (B, 3, T, H, W) float32."""
        batch, _, frames, height, width = x.shape
        out = x.new_empty(batch, 3, frames, height, width, dtype=torch.float32)
        for source, target in zip(x, out, strict=True):
            _norm_conv(self.norm, self.conv, source, target, add=False)
        return out


def optimize_encoder(encoder: MotionEncoder, *, dtype: torch.dtype, winograd: bool) -> None:
    """Change a motion encoder in place: see the module's text."""
    encoder.conv_in = FastConvIn(encoder.conv_in, dtype=dtype, winograd=winograd)
    _optimize_levels(encoder.down, dtype=dtype, winograd=winograd)
    _optimize(encoder.mid, dtype=torch.float32, winograd=winograd)


def optimize_decoder(decoder: MotionDecoder, *, dtype: torch.dtype, winograd: bool) -> None:
    """Change a motion decoder in place: see the module's text."""
    _optimize(decoder.mid, dtype=torch.float32, winograd=winograd)
    _optimize_levels(decoder.up, dtype=dtype, winograd=winograd)
    decoder.fast_head = FastHead(cast(GroupNorm, decoder.norm_out), decoder.conv_out)
    decoder.norm_out, decoder.conv_out = nn.Identity(), nn.Identity()


def _optimize_levels(levels: nn.ModuleList, *, dtype: torch.dtype, winograd: bool) -> None:
    for index, level in enumerate(levels):
        _optimize(level, dtype=dtype if index < FLOAT_FROM_LEVEL else torch.float32, winograd=winograd)


def _optimize(module: nn.Module, *, dtype: torch.dtype, winograd: bool) -> None:
    """Replace residual blocks and doublings, and move the other weights, but those of norms, to ``dtype``."""
    for name, child in module.named_children():
        if isinstance(child, ResidualBlock):
            setattr(module, name, FastResidualBlock(child, dtype=dtype, winograd=winograd))
        elif isinstance(child, Upsample):
            setattr(module, name, PhaseUpsample(child, dtype=dtype, winograd=winograd))
        elif not isinstance(child, GroupNorm | nn.LayerNorm):
            _optimize(child, dtype=dtype, winograd=winograd)
    for name, parameter in module.named_parameters(recurse=False):
        data = _in_format(parameter.data, dtype=dtype)
        module.register_parameter(name, nn.Parameter(data, requires_grad=False))


def _in_format(weight: Tensor, *, dtype: torch.dtype) -> Tensor:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return weight.to(dtype).contiguous(memory_format=formats.get(weight.ndim, torch.contiguous_format))
