"""How many key frames each clip gets, by what moves in it: the count of the least predicted error + lambda * bits.

Nothing is coded to find out. How well frames can be foretold is seen in a search for motion, at half the size, from the
middle frame to four others; what that means for errors and bytes was fitted on coded clips (``python -m
bench.keyframe_costs``; the numbers here had one scene more): a frame's squared error is that of the key frames plus a power of
what motion leaves unexplained, and so are a key frame's bits. The slope, lambda, is that at which a better quality of key frames
would pay as much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from reducio_codec.clips.streams import FrameClip
from reducio_codec.models.motion import FLOW_STRIDE, estimate_flow, warp

COUNTS = (1, 2, 4, 8, 16)
BEST_QUALITY = 95
"""The highest quality that is worth trying: above it key frames grow and hardly anything is seen of it."""
_ERROR_FALL, _BITS_GROWTH = 0.045, 0.0375
"""By what the logarithms of a key frame's error and bits change with a step of quality."""

_DISTANCES = (1, 2, 4, 8)
"""Frames between the middle one and those that are foretold from it."""
_RECORD_BITS = 8 * 17
"""What the container, and a picture like the one before, take for a key frame."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Of key frames of one quality, in squared grey levels and bits per pixel of a picture; fitted, see above."""

    error: float
    """Mean squared error of a key frame."""
    bits: float
    """Of a key frame, for an unexplained squared error of 1."""
    slope: float
    """Squared error that a bit per pixel of the video must be worth."""

    @classmethod
    def of(cls, quality: int) -> Costs:
        """``quality`` from 0 to 100."""
        return cls(
            error=float(np.exp(4.75 - _ERROR_FALL * quality)),
            bits=float(np.exp(-5.3 + _BITS_GROWTH * quality)),
            slope=float(np.exp(8.35 - 0.085 * quality)),
        )


_STILL = 0.05
"""Change, in errors of a key frame, below which nothing is asked any more."""
_LOCAL = 8.0
"""Change of a block of pixels, in errors of a key frame, that is seen: a pointer, a letter."""
_BLOCK = 8
_SHORT_SIDE = 128
"""Pixels of the shorter side that the search looks at, about."""
_MISSED = (1.34, 0.85)
"""Factor and power: from what motion leaves unexplained to the error that is left after the latent."""
_BITS_POWER = 0.36
_LATENT_BITS = (0.002, 0.25)
"""Factor and power: bits per pixel of the video of a latent, of what motion leaves unexplained over 8 frames."""
_LATENT_SAVED = 0.16
"""Part of a latent's bits that each doubling of the key frames saves."""
_FURTHER = 1.6
"""What is unexplained over 16 frames, by what is over 8."""
_NEW = 300.0
"""A picture that nothing foretells takes as many bits as one of which so much is unexplained."""
_USUAL = 3.0
"""Bits of all pictures, by ``Costs.bits``, for each frame of clips whose slope is that of ``Costs``."""
_MOST_BETTER = 40


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """How the key frames of a group of clips are coded."""

    clips: Sequence[FrameClip]
    """With their key frames."""
    quality: int
    """Of those."""

    @property
    def keyframes(self) -> tuple[tuple[int, ...], ...]:
        """Of each clip."""
        return tuple(clip.keyframes for clip in self.clips)


@dataclass(frozen=True, kw_only=True)
class Foretold:
    """Of a group of clips, before anything is coded."""

    error: float
    """Mean squared, in grey levels."""
    bits: float
    """Per pixel of the video."""


class KeyframePlanner:
    """Gives the clips of one group after another as many key frames as pay: none where a clip shows what the last key frame
    before it shows."""

    def __init__(self) -> None:
        self._before: NDArray[np.uint8] | None = None
        """The last key frame ``(H, W, 3)`` of the groups before, as it was before it was coded."""
        self._motion: dict[tuple[int, int], list[float]] = {}

    def plan(self, clips: Sequence[FrameClip], *, quality: int) -> Plan:
        """For clips that move a lot key frames of ``quality``, 0 to 100. Where few are needed each is shown for long, and gets
        more of it, at the same slope."""
        costs = Costs.of(quality)
        planned = self._plan(clips, costs)
        bits = sum(self._bits(clip, costs=costs) for clip in planned) + costs.bits * _NEW**_BITS_POWER
        usual = costs.bits * _USUAL * sum(clip.span.frames for clip in clips)
        better = quality + min(_MOST_BETTER, max(0, round(np.log(usual / bits) / (_BITS_GROWTH + _ERROR_FALL))))
        better = max(quality, min(better, BEST_QUALITY))
        if better > quality:
            planned = self._plan(clips, replace(Costs.of(better), slope=costs.slope))
        return Plan(clips=planned, quality=better)

    def foretell(self, plan: Plan) -> Foretold:
        """What a group's key frames and latents will cost and show, about."""
        costs = Costs.of(plan.quality)
        frames = sum(clip.span.frames for clip in plan.clips)
        error = sum(clip.span.frames * (costs.error + self._missed(clip)) for clip in plan.clips) / frames
        bits = sum(clip.span.frames * self._rate(clip, costs=costs) for clip in plan.clips) / frames
        return Foretold(error=error, bits=bits)

    def follow(self, clips: Sequence[FrameClip]) -> None:
        """The group is coded with these key frames, and the next one comes."""
        before = _last_picture(clips, self._before)
        self._before = None if before is None else before.copy()  # a view would keep its clip alive
        self._motion.clear()

    def _plan(self, clips: Sequence[FrameClip], costs: Costs) -> list[FrameClip]:
        planned: list[FrameClip] = []
        for clip in clips:
            before = _last_picture(planned, self._before)
            still = None if before is None or clip.begins_scene else _still_change(clip.frames, before, costs=costs)
            if still is not None and still <= _STILL * costs.error:
                planned.append(clip.with_keyframes(0))
                continue
            tried = [clip.with_keyframes(count) for count in COUNTS]
            found = [(self._cost(item, costs=costs), item) for item in tried]
            if still is not None:
                found.append((costs.error + still, clip.with_keyframes(0)))
            planned.append(min(found, key=lambda item: item[0])[1])
        return planned

    def _left(self, clip: FrameClip, distance: float) -> float:
        """What motion leaves unexplained over so many frames; between clips, further than was looked, an estimate."""
        whole = (clip.span.start, clip.span.frames)
        if whole not in self._motion:
            self._motion[whole] = unexplained(clip.frames)
        motion = self._motion[whole]
        distances = [0, *_DISTANCES[: len(motion)]]
        value = float(np.interp(min(distance, distances[-1]), distances, [0.0, *motion]))
        return float(value * (_FURTHER if distance > distances[-1] else 1.0))

    def _bits(self, clip: FrameClip, *, costs: Costs) -> float:
        """Of a clip's key frames, for each pixel of a picture."""
        if not clip.keyframes:
            return 0.0
        pixels = clip.frames.shape[1] * clip.frames.shape[2]
        apart = clip.span.frames / len(clip.keyframes)
        return len(clip.keyframes) * float(costs.bits * self._left(clip, apart) ** _BITS_POWER + _RECORD_BITS / pixels)

    def _missed(self, clip: FrameClip) -> float:
        """Foretold squared error that motion from its key frames leaves in a clip."""
        frames, keys = clip.span.frames, clip.keyframes
        factor, power = _MISSED
        apart = [min(abs(frame - key) for key in keys) for frame in range(frames)] if keys else []
        missed: float = sum(factor * self._left(clip, distance) ** power for distance in apart if distance)
        return missed / frames

    def _rate(self, clip: FrameClip, *, costs: Costs) -> float:
        """Foretold bits per pixel of a clip."""
        bits: float = self._bits(clip, costs=costs) / clip.span.frames
        if clip.needs_latent:
            factor, power = _LATENT_BITS
            share = 1 - _LATENT_SAVED * float(np.log2(len(clip.keyframes)))
            bits += share * factor * self._left(clip, _DISTANCES[-1]) ** power
        return bits

    def _cost(self, clip: FrameClip, *, costs: Costs) -> float:
        """Foretold mean squared error of a clip, and what its bits are worth."""
        return costs.error + self._missed(clip) + costs.slope * self._rate(clip, costs=costs)


def _last_picture(clips: Sequence[FrameClip], before: NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
    """The last of these clips' key frames, ``before`` if there is none."""
    for clip in reversed(clips):
        if clip.keyframes:
            picture: NDArray[np.uint8] = clip.frames[clip.keyframes[-1]]
            return picture
    return before


def _still_change(frames: NDArray[np.uint8], before: NDArray[np.uint8], *, costs: Costs) -> float | None:
    """Mean squared change of a clip from ``before``; None where some of it changes so that it is seen."""
    shown = before[::2, ::2].astype(np.int16)
    squares = np.empty((len(frames), *shown.shape[:2]))  # (n, H/2, W/2)
    for square, frame in zip(squares, frames, strict=True):  # one by one, as four arrays lie between
        np.square(frame[::2, ::2].astype(np.int16) - shown, dtype=np.int32).mean(2, out=square)
    rows, columns = (np.arange(0, length, _BLOCK) for length in squares.shape[1:])
    sums = np.add.reduceat(np.add.reduceat(squares, rows, axis=1), columns, axis=2)
    heights, widths = (
        np.diff(starts, append=end) for starts, end in zip((rows, columns), squares.shape[1:], strict=True)
    )
    if (sums / np.outer(heights, widths)).max() > _LOCAL * costs.error:
        return None
    return float(squares.mean())


@torch.inference_mode()
def unexplained(frames: NDArray[np.uint8]) -> list[float]:
    """Squared grey levels that motion doesn't explain of frames 1, 2, 4 and 8 behind the middle one of ``(n, H, W, 3)``; as
    many as there are."""
    middle = (len(frames) - 1) // 2
    numbers = [middle + distance for distance in _DISTANCES if middle + distance < len(frames)]
    if not numbers:
        return []
    factor = max(2, min(frames.shape[1:3]) // _SHORT_SIDE)
    taken = (torch.from_numpy(frames[number : number + 1]).permute(0, 3, 1, 2) for number in (middle, *numbers))
    # one by one, as floats take four times the memory
    small = torch.cat([F.avg_pool2d(x.float() / 127.5 - 1, min(factor, *x.shape[2:])) for x in taken])
    height, width = small.shape[2:]
    padding = (0, -width % 32, 0, -height % 32)
    small = F.pad(small, padding, mode="replicate")
    key, others = small[:1], small[1:]
    flow = estimate_flow(others.permute(1, 0, 2, 3)[None], key)[0]  # (n, 2, h/8, w/8)
    whole = F.interpolate(flow, scale_factor=FLOW_STRIDE, mode="bilinear", align_corners=False)
    moved = warp(key.expand(len(others), -1, -1, -1), whole)
    error = (moved - others)[..., :height, :width].square().mean((1, 2, 3)) * 127.5**2
    return [float(value) for value in error]
