"""Motion search: where in the key frame each block of each frame comes from. No weights; it belongs to the encoder.

Every video codec searches for motion when it encodes, and a trained decoder that has to discover motion through a
bottleneck doesn't get far. The search has three steps: a full search over a coarse correlation volume whose minimum is
made smooth, then damped Gauss-Newton steps (Lucas-Kanade) on control grids of 16 and 8 pixels.
All of it runs in float32: a flow is a position, and bfloat16 has 8 bits.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

FLOW_STRIDE = 8
"""Pixels between neighbouring positions of an estimated flow field."""

_RADIUS = 6  # full search reaches 6 positions of the 1/8 picture: 48 pixels each way
_FAR_RADIUS = 12  # the far search 12 positions of the 1/16 picture: 192 pixels
_PAN_SIDE = 256
"""Pixels of a side: larger pictures, and the tiles of such, may pan by more than the near search reaches (5% of 1280 are 64). In
them one motion of the whole is tried for what is too plain to show by itself that it moves so far."""
_LUMA = (0.299, 0.587, 0.114)


def estimate_flow(video: Tensor, keyframe: Tensor, *, far: bool = False) -> Tensor:
    """Backward flow from every frame to the key frame.

    Args:
        video: (B, 3, T, H, W) in [-1, 1]; H and W are multiples of 32.
        keyframe: (B, 3, H, W) in [-1, 1].
        far: also look for motion of 48 to 192 pixels each way, by a coarser search; a frame takes it where it matches better,
            and any other frame is as without. For encoders: what runs depends on what is found.

    Returns:
        (B, T, 2, H/8, W/8): x and y displacement in pixels; frame[y, x] looks like keyframe[y + dy, x + dx].
    """
    batch, _, frames = video.shape[:3]
    weights = video.new_tensor(_LUMA, dtype=torch.float32) * 127.5
    current = torch.einsum("bcthw,c->bthw", video.float(), weights).flatten(0, 1)[:, None]  # (B*T, 1, H, W)
    key = torch.einsum("bchw,c->bhw", keyframe.float(), weights)[:, None]  # (B, 1, H, W)
    frame, picture = _levels(current), _levels(key)
    cost = _costs(frame.eighth, picture.eighth, frames, radius=_RADIUS)
    flow = _follow(frame, picture, cost)
    if far:
        flow = _further(frame, picture, flow, cost)
    found: Tensor = 2 * flow.unflatten(0, (batch, frames))
    return found


def warp(picture: Tensor, flow: Tensor) -> Tensor:
    """Samples a picture at displaced positions, bilinearly; positions outside take the border's value.

    Args:
        picture: (N, C, H, W).
        flow: (N, 2, H, W), displacement (x, y) in pixels of the picture.

    Returns:
        (N, C, H, W), in the picture's dtype.
    """
    height, width = picture.shape[-2:]
    x = torch.arange(width, device=flow.device, dtype=torch.float32)
    y = torch.arange(height, device=flow.device, dtype=torch.float32)[:, None]
    # align_corners=False: pixel i sits at (2i + 1) / size - 1
    grid_x = (flow[:, 0].float() + x) * (2 / width) + (1 / width - 1)
    grid_y = (flow[:, 1].float() + y) * (2 / height) + (1 / height - 1)
    # x and y stay planes of their own, one after the other: to weave them takes longer than to sample by them
    grid = torch.stack((grid_x, grid_y), 1).permute(0, 2, 3, 1)  # (N, H, W, 2)
    return F.grid_sample(picture, grid.to(picture.dtype), mode="bilinear", padding_mode="border", align_corners=False)


def doubled(pictures: Tensor) -> Tensor:
    """(N, 3, H, W) float32 to (N, 3, 2H, 2W): each pixel as it is at the even places, and what lies between two of them at the
    odd ones, by the filter of eight taps that HEVC has for it (ITU-T H.265, Table 8-11)."""
    return _twice(_twice(pictures, -1), -2)


def _twice(x: Tensor, dim: int) -> Tensor:
    before, after = len(_HALF) // 2 - 1, len(_HALF) // 2
    padded = F.pad(x, (before, after, 0, 0) if dim == -1 else (0, 0, before, after), mode="replicate")
    between = torch.zeros_like(x)
    for place, tap in enumerate(_HALF):
        between.add_(padded.narrow(dim, place, x.shape[dim]), alpha=tap)
    return torch.stack((x, between), dim).flatten(dim - 1, dim)


_HALF = tuple(tap / 64 for tap in (-1, 4, -11, 40, 40, -11, 4, -1))


def move(pictures: Tensor, flow: Tensor) -> Tensor:
    """Pictures moved, sharp between pixels: bilinear weights alone are a blur, and the eye sees it in all that moves by half a
    pixel (LPIPS of decoded clips: a tenth).

    Args:
        pictures: (N, 3, 2H, 2W) float32, ``doubled``.
        flow: (N, 2, H/8, W/8) in pixels, enlarged bilinearly; as for ``warp``.

    Returns:
        (N, 3, H, W) float32.
    """
    height, width = pictures.shape[-2] // 2, pictures.shape[-1] // 2
    # pixel i lies at the doubled picture's place 2i, whose middle is at (4i + 1) / (2 * size) - 1
    x = torch.arange(width, device=flow.device, dtype=torch.float32) * (2 / width) + (0.5 / width - 1)
    y = torch.arange(height, device=flow.device, dtype=torch.float32)[:, None] * (2 / height) + (0.5 / height - 1)
    places = torch.stack((x.expand(height, width), y.expand(height, width)))
    small = torch.stack(
        (flow[:, 0] * (2 / width), flow[:, 1] * (2 / height)), 1
    )  # (N, 2, H/8, W/8), in the grid's unit
    grid = _resize(small, height, width).add_(places).permute(0, 2, 3, 1)
    return F.grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=False)


class _Levels(NamedTuple):
    """Grey pictures (N, 1, H/s, W/s) at a half, a quarter and an eighth of the size."""

    half: Tensor
    quarter: Tensor
    eighth: Tensor


def halved(x: Tensor) -> Tensor:
    """``avg_pool2d(x, 2)`` to the last bit, in a third of its time on a CPU; an odd side's last place is left out."""
    x = x[..., : x.shape[-2] // 2 * 2, : x.shape[-1] // 2 * 2]
    above, below = x[..., 0::2, :], x[..., 1::2, :]
    return (above[..., 0::2] + above[..., 1::2]).add_(below[..., 0::2]).add_(below[..., 1::2]).mul_(0.25)


def _levels(grey: Tensor) -> _Levels:
    half = halved(grey)
    quarter = halved(half)
    return _Levels(half, quarter, halved(quarter))


def _follow(
    frame: _Levels, picture: _Levels, cost: Tensor, *, start: Tensor | None = None, pans: bool = False
) -> Tensor:
    """From coarse to fine: (B*T, 2, H/8, W/8), pixels of the halved picture.

    Args:
        picture: one for every B*T / N of ``frame``.
        cost: (B*T, H/16, W/16, side^2), of shifts of the 1/8 picture around ``start``.
    """
    height, width = frame.half.shape[-2:]
    flow = _full_search(cost, start=start, pans=pans)  # (B*T, 2, H/16, W/16), of the 1/8 picture
    flow = _refine(frame.quarter, picture.quarter, 2 * flow, node=4, steps=4, smooth=16.0)
    flow = _refine(frame.half, picture.half, 2 * flow, node=8, steps=2, smooth=24.0)
    flow = _resize(flow, 2 * height // FLOW_STRIDE, 2 * width // FLOW_STRIDE)
    return _refine(frame.half, picture.half, flow, node=4, steps=2, smooth=24.0)


def _resize(x: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(x, (height, width), mode="bilinear", align_corners=False)


def _full_search(cost: Tensor, *, start: Tensor | None = None, pans: bool = False) -> Tensor:
    """Displacement with the least absolute difference, every second position, outliers pulled to the median.

    It is whole positions around ``start`` (B*T, 2, H/2, W/2), or around none. ``cost`` (B*T, H/2, W/2, side^2) is that of
    each shift around there. Where the picture ``pans`` the shortest way is one from there, too.
    """
    shift = _shifts(_RADIUS, cost.device)  # (2, 1, 1, 1, side^2)
    total = shift if start is None else start.transpose(0, 1)[..., None] + shift  # (2, B*T, H/2, W/2, side^2)
    cost = cost + 0.5 * (shift if pans else total).square().sum(0).sqrt()  # of equal matches, the shortest
    flow = _chosen(total, cost)
    for _ in range(4):
        flow = _chosen(total, _away(total, flow).mul_(2.0).add_(cost))
    return flow


def _further(frame: _Levels, picture: _Levels, flow: Tensor, cost: Tensor) -> Tensor:
    """The flow, or for whole frames one that starts from a far search, where the picture moved by it is more like them."""
    frames = len(frame.eighth) // len(picture.eighth)
    pans = 2 * max(frame.half.shape[-2:]) > _PAN_SIDE
    start = _far_search(frame.eighth, picture.eighth, frames, here=cost.amin(3), pans=pans)
    moves = start.abs().amax((1, 2, 3)) > 0  # (B*T,)
    if start.device.type == "cpu" and not torch.compiler.is_compiling():
        moving = torch.nonzero(moves)[:, 0]
        if not len(moving):
            return flow
    else:  # to ask an accelerator which frames these are takes longer than to search for all; a graph can't ask
        moving = torch.arange(len(moves), device=start.device)
    frame = _Levels(*(level[moving] for level in frame))
    picture = _Levels(*(level.repeat_interleave(frames, 0)[moving] for level in picture))
    start = start[moving]
    around = _costs(frame.eighth, _moved(picture.eighth, start, 1), 1, radius=_RADIUS)
    other = _follow(frame, picture, around, start=start, pans=pans)
    near, far = (
        (warp(picture.half, _resize(x, *frame.half.shape[-2:])) - frame.half).abs().clamp_max(40).mean((1, 2, 3))
        for x in (flow[moving], other)
    )
    better = (far < 0.95 * near) & moves[moving]
    best = torch.where(better[:, None, None, None], other, flow[moving])
    return flow.index_copy(0, moving, best)


def _far_search(current: Tensor, key: Tensor, frames: int, *, here: Tensor, pans: bool) -> Tensor:
    """Where a full search has to start to find motion beyond its reach: (B*T, 2, H/2, W/2), zero nearly everywhere, or the
    motion of the whole where that ``pans``.

    A full search over half the picture proposes one far shift for each of its positions. It counts where the picture
    matches much better around that shift than around none, whose least cost is ``here`` (B*T, H/2, W/2), and most of its
    neighbours agree: a single one is chance.
    """
    height, width = current.shape[-2:]
    shift = _shifts(_FAR_RADIUS, current.device)
    cost = _costs(halved(current), halved(key), frames, radius=_FAR_RADIUS, window=4)
    elsewhere = _pan(shift, cost) if pans else current.new_zeros(1)
    cost.masked_fill_((shift.abs() < _RADIUS // 2).all(0), torch.inf)  # the near search finds those
    far = _chosen(shift, cost)
    for _ in range(2):
        far = _chosen(shift, _away(shift, far).add_(cost))
    far = F.interpolate(2 * far, (height // 2, width // 2))  # positions of the 1/8 picture
    there = _costs(current, _moved(key, far, frames), 1, radius=_RADIUS // 2).amin(3)  # (B*T, H/2, W/2)
    better = (there + 1.0 < 0.6 * here).float()[:, None]
    agreed = F.avg_pool2d(better, 3, 1, 1, count_include_pad=False) > 0.6
    return torch.where(agreed, far, elsewhere)


def _pan(shift: Tensor, cost: Tensor) -> Tensor:
    """(B*T, 2, 1, 1): the one shift, in positions of the 1/8 picture, that matches most of a frame best; zero where that is one
    that the near search finds."""
    best = cost.mean((1, 2)).argmin(1)  # (B*T,)
    moved = 2 * shift[:, 0, 0, 0, best].T  # (B*T, 2)
    far = moved.abs().amax(1, keepdim=True) >= _RADIUS
    return (moved * far)[:, :, None, None]


def _moved(key: Tensor, flow: Tensor, frames: int) -> Tensor:
    """Pictures (N, 1, H, W), each moved for ``frames`` of them by a flow (N * frames, 2, H/2, W/2) in their positions."""
    return warp(key.repeat_interleave(frames, 0), F.interpolate(flow, key.shape[-2:]))


def _costs(current: Tensor, key: Tensor, frames: int, *, radius: int, window: int = 6) -> Tensor:
    """Mean absolute difference around every second position for each shift: (B*T, H/2, W/2, side^2).

    ``key`` is one picture for every ``frames`` of ``current``. A position's shifts lie side by side in memory: pooling and
    the search for the least take a third of the time then.
    """
    height, width = current.shape[-2:]
    side, rim = 2 * radius + 1, window // 2 - 1
    padded = F.pad(key, (radius,) * 4, mode="replicate")[:, 0]  # (N, H + 2 * radius, W + 2 * radius)
    rows = torch.stack([padded[:, i : i + height] for i in range(side)], -1)  # (N, H, W + 2 * radius, side)
    shifted = torch.stack([rows[:, :, i : i + width] for i in range(side)], -1)  # (N, H, W, side, side)
    shifted = shifted.flatten(3)[:, None]  # (N, 1, H, W, side^2), y slowest
    cost = (shifted - current.unflatten(0, (-1, frames)).movedim(2, -1)).abs_().flatten(0, 1)  # (B*T, H, W, side^2)
    cost = F.pad(cost.permute(0, 3, 1, 2), (rim,) * 4, mode="replicate")
    return F.avg_pool2d(cost, window, 2).permute(0, 2, 3, 1)


def _shifts(radius: int, device: torch.device) -> Tensor:
    """(2, 1, 1, 1, side^2): x and y of every shift, y slowest."""
    side = 2 * radius + 1
    offset = torch.arange(-radius, radius + 1, device=device, dtype=torch.float32)
    return torch.stack((offset.repeat(side), offset.repeat_interleave(side)))[:, None, None, None]


def _away(shifts: Tensor, flow: Tensor) -> Tensor:
    """How far each shift (2, 1 or B*T, 1 or h, 1 or w, side^2) is from the median of a flow (B*T, 2, h, w) around its place."""
    x, y = _median(flow).unbind(1)
    return (shifts[0] - x[..., None]).abs_().add_((shifts[1] - y[..., None]).abs_())


def _chosen(shifts: Tensor, cost: Tensor) -> Tensor:
    """The shift of least cost: (2, 1 or B*T, 1 or h, 1 or w, side^2) and (B*T, h, w, side^2) to (B*T, 2, h, w)."""
    index = cost.argmin(3)[None, ..., None].expand(2, -1, -1, -1, -1)
    every = shifts.expand(-1, *cost.shape)
    return every.gather(4, index)[..., 0].transpose(0, 1)


def _median(flow: Tensor) -> Tensor:
    height, width = flow.shape[-2:]
    padded = F.pad(flow, (1, 1, 1, 1), mode="replicate")
    around = [padded[..., i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return torch.stack(around).topk(5, 0).values[4]


def _refine(current: Tensor, key: Tensor, flow: Tensor, *, node: int, steps: int, smooth: float) -> Tensor:
    """Gauss-Newton steps on a control grid with ``node`` pixels between positions; ``smooth`` pulls to the neighbours.

    A node's step solves its own 2x2 normal equations over the pixels around it; 1.5 times that step makes up for what
    its neighbours' share of those pixels would have added.
    """
    count, (height, width) = current.shape[0], current.shape[-2:]
    key = key.repeat_interleave(count // key.shape[0], 0)
    for _ in range(steps):
        warped = warp(key, _resize(flow, height, width))
        padded = F.pad(warped, (1, 1, 1, 1), mode="replicate")
        gx = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
        gy = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
        error = (current - warped).clamp_(-25, 25)  # grey levels: an occlusion must not drag the field along
        products = torch.cat((gx * gx, gx * gy, gy * gy, gx * error, gy * error), 1)
        products = F.avg_pool2d(products, 2 * node, node, node // 2, count_include_pad=False)
        xx, xy, yy, xe, ye = products.unbind(1)
        pull = smooth * (F.avg_pool2d(flow, 3, 1, 1, count_include_pad=False) - flow)
        xx, yy = xx + 4 + smooth, yy + 4 + smooth
        xe, ye = xe + pull[:, 0], ye + pull[:, 1]
        determinant = xx * yy - xy * xy
        step = torch.stack((yy * xe - xy * ye, xx * ye - xy * xe), 1) / determinant[:, None]
        flow = flow + (1.5 * step).clamp_(-1.5, 1.5)
    return flow
