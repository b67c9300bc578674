"""Files of a wanted rate or quality: what each clip is coded with, found by trying (``target_kbps``, ``target_psnr``).

For a clip, key frames of several qualities and latents of several steps are coded and decoded. The error of a pair is taken
as the sum of what each of the two changes alone, which saves trying all pairs. The pairs on the convex hull of bits and
error are what any Lagrange multiplier would choose (Shoham and Gersho 1988); the clip gets the one that fits the target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from reducio_codec.bitstream.keyframe import code_keyframe
from reducio_codec.engine import Engine
from reducio_codec.errors import InputError
from reducio_codec.geometry.clips import clip_span
from reducio_codec.streaming import FrameClip

QUALITIES = (5, 15, 25, 35, 45, 55, 65, 75, 85, 95)
"""Key-frame qualities that are tried."""
STEPS = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0)
"""``latent_step`` values that are tried."""
KEYFRAMES = (3, 7, 11)
"""Places of the key frame that ``keyframe="best"`` tries."""

_USUAL = (45, 0.5)
_CONTAINER_BITS = 8 * 24
"""What the container adds to a clip, about."""
_TOLERANCE = 0.05
"""A rate this close to ``target_kbps`` is a hit."""
_LARGEST_DEBT = 4
"""A clip may cost so many times its share, or that much less: what earlier clips saved or overspent."""

KeyframeChoice = Literal["middle", "best"]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One way to code a clip."""

    quality: int
    step: float
    bits: float
    error: float
    """Mean squared error of the real frames, grey levels."""


class RateControl:
    """Chooses for one clip after another. Give exactly one target.

    Args:
        target_kbps: thousands of bits a second, key frames, latent and container; no sound.
        target_psnr: dB, pooled over the frames of each clip.
        decoder: whose error counts. ``bidirectional`` gets no neighbours here, so its error is the warp decoder's: the next
            key frame isn't coded yet.
    """

    def __init__(self, *, target_kbps: float | None, target_psnr: float | None, decoder: str) -> None:
        for name, value, high in (("target_kbps", target_kbps, 1e6), ("target_psnr", target_psnr, 60.0)):
            if value is not None and not 0 < value <= high:
                raise InputError(f"{name} is {value}; it must be above 0, at most {high:g}")
        if (target_kbps is None) == (target_psnr is None):
            raise InputError("give one of target_kbps and target_psnr")
        self._kbps, self._psnr, self._decoder = target_kbps, target_psnr, decoder
        self._saved = 0.0  # bits that earlier clips left over; below 0 what they overspent
        self._clips = self._short = 0  # in all, and those whose best setting doesn't reach target_psnr
        self._full = 0  # clips that no setting shows better, however many bits it takes

    def choose(self, engine: Engine, clip: FrameClip, *, codec: str, seconds: float) -> tuple[int, float]:
        """Key-frame quality and latent step for a clip that lasts ``seconds``."""
        points = convex_hull(_points(engine, clip, codec=codec, decoder=self._decoder))
        if self._psnr is not None:
            limit = 255**2 / 10 ** (self._psnr / 10)
            chosen = next((point for point in points if point.error <= limit), points[-1])
            self._short += chosen.error > limit
        else:
            assert self._kbps is not None
            share = 1000 * self._kbps * seconds
            allowed = min(max(share + self._saved, share / _LARGEST_DEBT), share * _LARGEST_DEBT)
            fitting = [point for point in points if point.bits <= allowed]
            chosen = fitting[-1] if fitting else points[0]
            chosen = self._closer(points, chosen, allowed)
            self._full += chosen is points[-1]
        return chosen.quality, chosen.step

    @staticmethod
    def _closer(points: list[Point], below: Point, allowed: float) -> Point:
        """The point above is taken where it is nearer: what it overspends, the next clip saves."""
        place = points.index(below)
        above = points[min(place + 1, len(points) - 1)]
        return above if above.bits - allowed < allowed - below.bits else below

    def spend(self, size: int, *, seconds: float) -> None:
        """A clip was written: its bytes, and how long it lasts."""
        self._clips += 1
        if self._kbps is not None:
            self._saved += 1000 * self._kbps * seconds - 8 * size

    def missed(self, reached: float) -> str | None:
        """What to tell the user of a file of ``reached`` kbit/s that isn't what was asked for."""
        if self._psnr is not None and self._short:
            return f"target_psnr {self._psnr:g} is out of reach for {self._short} of {self._clips} clips"
        if self._kbps is not None and abs(reached / self._kbps - 1) > _TOLERANCE:
            full = f"; {self._full} of {self._clips} clips don't get better with more bits"
            more = full if reached < self._kbps and self._full else ""
            return f"target_kbps {self._kbps:g} was missed: the file has {reached:.1f} kbit/s{more}"
        return None


def convex_hull(points: list[Point]) -> list[Point]:
    """Points that no mixture of others beats, by rising bits and falling error."""
    hull: list[Point] = []
    for point in sorted(points, key=lambda point: (point.bits, point.error)):
        if hull and point.error >= hull[-1].error:
            continue
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-2], point):
            hull.pop()
        hull.append(point)
    return hull


def _slope(a: Point, b: Point) -> float:
    return (b.error - a.error) / max(b.bits - a.bits, 1e-9)


def _points(engine: Engine, clip: FrameClip, *, codec: str, decoder: str) -> list[Point]:
    """Every pair of quality and step; errors of pairs that weren't decoded are sums of differences."""
    usual_quality, usual_step = _USUAL
    by_quality, by_step = {}, {}
    for quality in QUALITIES:
        data, seen = code_keyframe(clip.keyframe, codec=codec, quality=quality)
        picture = torch.from_numpy(seen).permute(2, 0, 1)[None]  # (1, 3, H, W)
        latent = engine.runner.encode(clip.padded(), keyframe_index=clip.keyframe_index, keyframe=picture)
        for step in STEPS if quality == usual_quality else (usual_step,):
            coded, motion = engine.coder.code(latent[0].numpy(), step=step)
            error = clip_error(engine, clip, torch.from_numpy(motion)[None], picture, decoder=decoder)
            if quality == usual_quality:
                by_step[step] = (8 * len(coded), error)
            if step == usual_step:
                by_quality[quality] = (8 * len(data), error)
    base = by_step[usual_step][1]
    return [
        Point(
            quality=quality,
            step=step,
            bits=key_bits + bits + _CONTAINER_BITS,
            error=max(0.0, key_error + error - base),
        )
        for quality, (key_bits, key_error) in by_quality.items()
        for step, (bits, error) in by_step.items()
    ]


def clip_error(engine: Engine, clip: FrameClip, latent: Tensor, keyframe: Tensor, *, decoder: str) -> float:
    """Mean squared error, in grey levels, of a clip decoded from latent (1, z, t, h, w) and key frame (1, 3, H, W)."""
    frames = torch.empty(clip.frames.shape, dtype=torch.uint8)
    engine.runner.decode(
        latent,
        keyframe,
        decoder=decoder,
        keyframe_index=clip.keyframe_index,
        span=clip.span,
        out=frames.permute(3, 0, 1, 2)[None],
    )
    difference = frames.numpy().astype(np.int32) - clip.frames
    return float(np.square(difference).mean())


def best_keyframe(engine: Engine, clip: FrameClip, *, codec: str, quality: int, step: float, decoder: str) -> FrameClip:
    """The clip with its key frame at the place, of ``KEYFRAMES``, from which it decodes with the least error."""
    found: list[tuple[float, FrameClip]] = []
    for index in KEYFRAMES:
        span = clip_span(start=clip.span.start, frames=clip.span.frames, keyframe_index=index)
        tried = FrameClip(frames=clip.frames, span=span, keyframe_index=index)
        _, seen = code_keyframe(tried.keyframe, codec=codec, quality=quality)
        picture = torch.from_numpy(seen).permute(2, 0, 1)[None]
        latent = engine.runner.encode(tried.padded(), keyframe_index=index, keyframe=picture)
        _, motion = engine.coder.code(latent[0].numpy(), step=step)
        found.append((clip_error(engine, tried, torch.from_numpy(motion)[None], picture, decoder=decoder), tried))
    return min(found, key=lambda item: item[0])[1]
