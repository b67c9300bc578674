"""Files of a wanted rate or quality: what clips are coded with, found by trying (``target_kbps``, ``target_psnr``).

For the clips of a group, whose key frames are coded together, key frames of several qualities and latents of several steps
are coded and decoded. The error of a pair is taken as the sum of what each of the two changes alone, which saves trying all
pairs. The pairs on the convex hull of bits and error are what any Lagrange multiplier would choose (Shoham and Gersho 1988);
the group gets the one that fits the target.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from reducio_codec.bitstream.keyframe import code_keyframe, code_keyframes
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
"""A group may cost so many times its share, or that much less: what earlier ones saved or overspent."""

KeyframeChoice = Literal["middle", "best"]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One way to code the clips of a group."""

    quality: int
    step: float
    bits: float
    """Of all of them."""
    error: float
    """What is to become small: the mean of ``errors``, or the largest."""
    errors: tuple[float, ...] = ()
    """Mean squared error of the real frames of each clip, grey levels."""


class RateControl:
    """Chooses for one group of clips after another. Give exactly one target.

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

    def choose(self, engine: Engine, clips: Sequence[FrameClip], *, codec: str, seconds: float) -> tuple[int, float]:
        """Key-frame quality and latent step for a group of clips that lasts ``seconds``."""
        judge = fmean if self._psnr is None else max
        points = convex_hull(_points(engine, clips, codec=codec, decoder=self._decoder, judge=judge))
        if self._psnr is not None:
            limit = 255**2 / 10 ** (self._psnr / 10)
            chosen = next((point for point in points if point.error <= limit), points[-1])
            self._short += sum(error > limit for error in chosen.errors)
        else:
            assert self._kbps is not None
            share = 1000 * self._kbps * seconds
            allowed = min(max(share + self._saved, share / _LARGEST_DEBT), share * _LARGEST_DEBT)
            fitting = [point for point in points if point.bits <= allowed]
            chosen = fitting[-1] if fitting else points[0]
            if fitting and chosen is not points[-1]:
                quality = _nearest(clips, chosen.quality, codec=codec, spare=allowed - chosen.bits)
                chosen = replace(chosen, quality=quality)
            self._full += len(clips) if chosen is points[-1] else 0
        self._clips += len(clips)
        return chosen.quality, chosen.step

    def spend(self, size: int, *, seconds: float) -> None:
        """A group was written: its bytes, and how long it lasts."""
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


def _points(
    engine: Engine,
    clips: Sequence[FrameClip],
    *,
    codec: str,
    decoder: str,
    judge: Callable[[Sequence[float]], float],
) -> list[Point]:
    """Every pair of quality and step; errors of pairs that weren't decoded are sums of differences."""
    usual_quality, usual_step = _USUAL
    by_quality: dict[int, tuple[int, list[float]]] = {}  # bits of the key frames, error of each clip
    by_step: dict[float, tuple[int, list[float]]] = {}  # bits of the latents, error of each clip
    for quality in QUALITIES:
        data, seen = code_keyframes([clip.keyframe for clip in clips], codec=codec, quality=quality)
        found: dict[float, list[tuple[int, float]]] = {step: [] for step in STEPS if quality == usual_quality}
        found.setdefault(usual_step, [])
        for clip, picture in zip(clips, seen, strict=True):
            keyframe = torch.from_numpy(picture).permute(2, 0, 1)[None]  # (1, 3, H, W)
            latent = engine.runner.encode(clip.padded(), keyframe_index=clip.keyframe_index, keyframe=keyframe)
            for step, codings in found.items():
                coded, motion = engine.coder.code(latent[0].numpy(), step=step)
                error = clip_error(engine, clip, torch.from_numpy(motion)[None], keyframe, decoder=decoder)
                codings.append((8 * len(coded), error))
        by_quality[quality] = 8 * len(data), [error for _, error in found[usual_step]]
        if quality == usual_quality:
            by_step = {step: (sum(bits for bits, _ in c), [error for _, error in c]) for step, c in found.items()}
    base = by_step[usual_step][1]
    points = []
    for quality, (key_bits, key_errors) in by_quality.items():
        for step, (bits, step_errors) in by_step.items():
            errors = tuple(max(0.0, k + s - b) for k, s, b in zip(key_errors, step_errors, base, strict=True))
            total = key_bits + bits + len(clips) * _CONTAINER_BITS
            points.append(Point(quality=quality, step=step, bits=total, error=judge(errors), errors=errors))
    return points


def _nearest(clips: Sequence[FrameClip], quality: int, *, codec: str, spare: float) -> int:
    """The quality from ``quality`` on whose key frames come nearest to taking ``spare`` bits more."""
    pictures = [clip.keyframe for clip in clips]

    def bits(tried: int) -> int:
        return 8 * len(code_keyframes(pictures, codec=codec, quality=tried)[0])

    wanted = bits(quality) + spare
    low, high = quality, 101
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if bits(middle) <= wanted else (low, middle)
    return high if high <= 100 and bits(high) - wanted < wanted - bits(low) else low


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
