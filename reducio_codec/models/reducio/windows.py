"""3-D convolutions for inference, evaluated a few frames and rows at a time (no gradients).

The same function as ``nn.Conv3d`` with zero padding, at less work and memory:

- **Windows.** A convolution's input is made (normalised, activated) for a few frames at a time, never as a whole clip.
- **Two frames from four products.** A kernel of three taps g0, g1, g2 over time needs six 2-D convolutions for two output
  frames; Winograd's F(2, 3) needs four. With input frames d0 to d3::

      m0 = (d0 - d2) * g0             m1 = (d1 + d2) * (g0 + g1 + g2) / 2
      m3 = (d1 - d3) * g2             m2 = (d2 - d1) * (g0 - g1 + g2) / 2
      y0 = m0 + m1 + m2               y1 = m1 - m2 - m3

Tensors of frames are (n, C, H, W) in channels-last order here; a clip (B, C, T, H, W) in ``channels_last_3d`` order is
the same memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

CPU_BAND_BYTES = 4 << 20
"""Size of one working tensor on a CPU: small enough for its cache, and for the allocator to reuse instead of mapping."""

ACCELERATOR_BAND_BYTES = 256 << 20

Fill = Callable[[Tensor, int, int], None]
"""``fill(out, start, stop)`` writes input frames start to stop into ``out`` (stop - start, C, H, W)."""


@dataclass(frozen=True)
class Plan:
    """How a clip is cut: ``step`` frames at a time (even), ``rows`` rows at a time."""

    step: int
    rows: int


def plan_windows(*, frames: int, frame_elements: int, height: int, like: Tensor) -> Plan:
    """Choose steps and rows so that one working tensor has about the band size."""
    limit = CPU_BAND_BYTES if like.device.type == "cpu" else ACCELERATOR_BAND_BYTES
    frame_bytes = frame_elements * like.element_size()
    pairs = max(1, min((frames + 1) // 2, limit // frame_bytes))
    bands = max(1, round(frame_bytes / limit)) if pairs == 1 else 1
    return Plan(step=2 * pairs, rows=max(1, -(-height // bands)))


def clip_frames(clip: Tensor) -> Tensor:
    """One clip (C, T, H, W) as frames (T, C, H, W); a view."""
    return clip.transpose(0, 1)


def empty_clip(*, batch: int, channels: int, frames: int, height: int, width: int, like: Tensor) -> Tensor:
    """(B, C, T, H, W), not initialised, in channels-last order, of the type and place of ``like``."""
    return like.new_empty(batch, frames, height, width, channels).permute(0, 4, 1, 2, 3)


def sliding_windows(
    fill: Fill, *, frames: int, step: int, shape: tuple[int, int, int], like: Tensor
) -> Iterator[tuple[int, Tensor]]:
    """Yield (start, window): frames start - 1 to start + step, zeros outside the clip and one row of them above and below.

    ``window`` is (step + 2, C, H + 2, W), the same memory each time: every input frame is made once.
    """
    channels, height, width = shape
    window = like.new_zeros(step + 2, height + 2, width, channels).permute(0, 3, 1, 2)
    inner = window[:, :, 1:-1]
    for start in range(0, frames, step):
        if start:
            window[:2].copy_(window[step:])  # the last two frames are the next window's first
        slot, first = (2, start + 1) if start else (1, 0)
        stop = min(start + step + 1, frames)
        count = max(0, stop - first)
        if count:
            fill(inner[slot : slot + count], first, stop)
        window[slot + count :].zero_()
        yield start, window


class TimeConv(nn.Module):
    """A stride-1 convolution that runs on windows.

    Args:
        weight: (O, I, kt, kh, kw): kt and kh 1, 2 or 3.
        bias: (O,).
        dtype: type of weights and products.
        time_offset, row_offset: where an even kernel starts: 0 looks back (up), 1 looks ahead (down).
        winograd: use F(2, 3) over time where kt is 3. Off on accelerators, where the extra passes cost more than they save.
    """

    taps: Tensor
    bias: Tensor

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        *,
        dtype: torch.dtype,
        time_offset: int = 0,
        row_offset: int = 0,
        winograd: bool,
    ) -> None:
        super().__init__()
        weight = weight.detach().float()
        self.kernel = (weight.shape[2], weight.shape[3], weight.shape[4])
        self.time_offset, self.row_offset = time_offset, row_offset
        self.winograd = winograd and self.kernel[0] == 3
        if self.winograd:
            g0, g1, g2 = weight.unbind(2)  # (O, I, kh, kw) each
            weight = torch.stack([g0, (g0 + g1 + g2) / 2, (g0 - g1 + g2) / 2, g2])  # (4, O, I, kh, kw)
            stored = weight.to(dtype).permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
        else:
            stored = weight.to(dtype).contiguous(memory_format=torch.channels_last_3d)
        self.register_buffer("taps", stored, persistent=False)
        self.register_buffer("bias", bias.detach().to(dtype), persistent=False)

    @property
    def out_channels(self) -> int:
        return self.bias.shape[0]

    def parts(self, band: Tensor) -> tuple[Tensor, ...]:
        """What ``forward`` takes, from (step + 2, I, rows + 2, W): convolutions with one input share it."""
        if not self.winograd:
            return (band,)
        step = band.shape[0] - 2
        d0, d1, d2, d3 = (band[index : index + step : 2] for index in range(4))  # (step / 2, I, rows + 2, W)
        return d0 - d2, d1 + d2, d2 - d1, d1 - d3

    def forward(self, parts: tuple[Tensor, ...]) -> list[tuple[slice, Tensor]]:
        """Frames that each tensor holds, and the tensor: (n, O, rows, W), W + 1 for kernels two wide."""
        kernel_t, kernel_h, kernel_w = self.kernel
        rows = parts[0].shape[2] - 2
        top = self.row_offset if kernel_h == 2 else (3 - kernel_h) // 2
        pad = kernel_w // 2
        cut = [part[:, :, top : top + rows + kernel_h - 1] for part in parts]
        if self.winograd:
            m0, m1, m2, m3 = (
                # The bias goes into m1, which both frames take once.
                functional.conv2d(part, tap, self.bias if index == 1 else None, padding=(0, pad))
                for index, (part, tap) in enumerate(zip(cut, self.taps, strict=True))
            )
            even = m0.add_(m1).add_(m2)
            odd = m1.sub_(m2).sub_(m3)
            return [(slice(0, None, 2), even), (slice(1, None, 2), odd)]
        step = parts[0].shape[0] - 2
        first = self.time_offset if kernel_t == 2 else (3 - kernel_t) // 2
        clip = cut[0][first : first + step + kernel_t - 1].transpose(0, 1)[None]  # (1, I, step + kt - 1, rows, W)
        out = functional.conv3d(clip, self.taps, self.bias, padding=(0, 0, pad))
        return [(slice(0, None, 1), clip_frames(out[0]))]


def convolve(
    fill: Fill,
    convs: list[TimeConv],
    emit: Callable[[int, slice, slice, Tensor], None],
    *,
    frames: int,
    shape: tuple[int, int, int],
    like: Tensor,
) -> None:
    """Run convolutions that share one input over a clip.

    Args:
        fill: makes input frames.
        convs: which convolutions.
        emit: takes (index of the convolution, which frames, which rows, values (n, O, rows, W')).
        frames: of the clip.
        shape: (C, H, W) of an input frame.
        like: a tensor of the type and place in which inputs are made.
    """
    channels, height, width = shape
    widest = max(channels, *(conv.out_channels for conv in convs))
    plan = plan_windows(frames=frames, frame_elements=widest * height * width, height=height, like=like)
    for start, window in sliding_windows(fill, frames=frames, step=plan.step, shape=shape, like=like):
        for top in range(0, height, plan.rows):
            rows = slice(top, min(top + plan.rows, height))
            parts = convs[0].parts(window[:, :, rows.start : rows.stop + 2])
            for index, conv in enumerate(convs):
                for offset, values in conv(parts):
                    which = slice(start + offset.start, frames, offset.step)
                    count = min(values.shape[0], len(range(frames)[which]))
                    if count:
                        last = which.start + (count - 1) * offset.step + 1
                        emit(index, slice(which.start, last, offset.step), rows, values[:count])
