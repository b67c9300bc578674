"""Files of a wanted rate or quality: what clips are coded with, found by trying (``target_kbps``, ``target_psnr``).

The clips of a group, whose key frames are coded together, get one key-frame quality, and ``latent_step`` follows from it, so
one number is searched for. For a rate the clips' latents are computed once, since the motion hardly depends on how well the
key frame is coded, and only key frames are coded again; where much may be spent, one clip is decoded twice to see whether
that helps. For a quality every trial is what would be written, decoded, so that what it promises holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import islice
from math import log2

import numpy as np
from numpy.typing import NDArray

from reducio_codec.clips.references import Reference
from reducio_codec.clips.streams import FrameClip
from reducio_codec.coding.engine import Engine
from reducio_codec.coding.keyframes import BEST_QUALITY, Plan
from reducio_codec.coding.trial import coded_error, encode_alone, motion
from reducio_codec.rdc.keyframe import code_keyframes

_FIRST = 45
"""Quality that the first group's search starts from; the others start where the group before ended."""
_DOUBLING = 16
"""With so many steps of quality a key frame's bits double and its error halves, about. Only guesses rest on it."""
_PLENTY = 70
"""Quality above which bits are only spent where that is worth it."""
_WORTH = 0.01
"""Part of its error that a clip has to lose for the bits of a higher quality to be spent: 0.04 dB."""
_NEAR = 0.02
"""A search ends so near what is wanted; one step of quality changes bits by about twice as much."""
_PATIENCE = 5
"""Trials after which a search halves what is left instead of guessing."""
_CLIP_BITS = 8 * 12
"""What the container adds to a clip, about."""
_PICTURE_BITS = 8 * 12
"""Likewise to a key frame."""
_TOLERANCE = 0.05
"""A rate this close to ``target_kbps`` is a hit."""
_LARGEST_DEBT = 4
"""A group may cost so many times its share, or that much less: what earlier ones saved or overspent."""


def step_for(quality: int) -> float:
    """The ``latent_step`` that goes with a key-frame quality.

    With it a bit more lowers the error about as much in the key frame as in the latent, and that depends little on what is
    shown: against a search for the best pair it loses 0.02 dB at 45 kbit/s in the mean of 9 real clips, 0.3 dB on one of them.
    """
    return float(2 ** np.interp(quality, (0, 10, 65), (2.0, 0.7, -2.0)))


Planned = Callable[[int], Plan]
"""The clips of a group with the key frames that they have at a quality."""


class RateControl:
    """Chooses for one group of clips after another. Give exactly one target.

    Args:
        target_kbps: thousands of bits a second, key frames, latent and container; no sound.
        target_psnr: dB, pooled over the frames of each clip.
        decoder: whose error counts. It gets no neighbours' key frames here: the next key frame isn't
            coded yet.
    """

    def __init__(self, *, target_kbps: float | None, target_psnr: float | None, decoder: str) -> None:
        assert (target_kbps is None) != (target_psnr is None)
        self._kbps, self._psnr, self._decoder = target_kbps, target_psnr, decoder
        self._quality = _FIRST  # of the last group
        self._saved = 0.0  # bits that earlier clips left over; below 0 what they overspent
        self._clips = self._short = 0  # in all, and those whose best setting doesn't reach target_psnr
        self._full = 0  # clips that no setting shows better, however many bits it takes

    def choose(self, engine: Engine, plan: Planned, *, codec: str, seconds: float) -> int:
        """Quality for a group of clips that lasts ``seconds``."""
        plan = cache(plan)
        if self._kbps is None:
            self._quality = self._find_psnr(engine, plan, codec=codec)
        else:
            share = 1000 * self._kbps * seconds
            allowed = min(max(share + self._saved, share / _LARGEST_DEBT), share * _LARGEST_DEBT)
            self._quality = self._find_rate(engine, plan, codec=codec, allowed=allowed)
        self._clips += len(plan(self._quality).clips)
        return self._quality

    def _find_rate(self, engine: Engine, plan: Planned, *, codec: str, allowed: float) -> int:
        """The quality whose bits come nearest to ``allowed``, unless a lower one shows as much."""
        latents: dict[tuple[int, tuple[int, ...]], NDArray[np.float32]] = {}

        def latent(number: int, clip: FrameClip, own: Sequence[Reference]) -> NDArray[np.float32]:
            key = number, clip.keyframes
            if key not in latents:
                latents[key] = encode_alone(engine, clip, own)
            return latents[key]

        def bits(quality: int) -> float:
            planned = plan(quality)
            clips = planned.clips
            coded, seen = _code(planned, codec=codec)
            latent_bytes = sum(
                len(engine.coder.code(latent(number, clip, own), step=step_for(planned.quality))[0])
                for number, (clip, own) in enumerate(zip(clips, seen, strict=True))
                if clip.needs_latent
            )
            return 8 * (sum(map(len, coded)) + latent_bytes) + len(clips) * _CLIP_BITS + len(coded) * _PICTURE_BITS

        tried = search_quality(bits, allowed, start=self._quality, rising=True)
        quality = min(tried, key=lambda quality: abs(tried[quality] - allowed))
        clips = plan(quality).clips
        # of one key frame each the clip of least motion gains most, of as many as pay that of most
        many = any(len(clip.keyframes) != 1 for clip in clips)
        judged = (max if many else min)(range(len(clips)), key=lambda number: motion(clips[number]))

        def error(quality: int) -> float:
            planned = plan(quality)
            clip, seen = planned.clips[judged], _code(planned, codec=codec)[1][judged]
            if not seen:
                return 0.0
            read = latent(judged, clip, seen)
            return coded_error(engine, clip, seen, read, step=step_for(planned.quality), decoder=self._decoder)

        wasted = quality > _PLENTY and error(quality) > (1 - _WORTH) * error(_PLENTY)
        self._full += len(clips) if wasted or tried.get(BEST_QUALITY, allowed) < allowed else 0
        return _PLENTY if wasted else quality

    def _find_psnr(self, engine: Engine, plan: Planned, *, codec: str) -> int:
        """The lowest quality found with which every clip reaches the target, or is about as good as it gets."""
        assert self._psnr is not None
        limit = 255**2 / 10 ** (self._psnr / 10)
        seen = cache(lambda quality: _code(plan(quality), codec=codec)[1])
        quality, lowest = self._quality, 0
        clips = plan(quality).clips
        # the hardest clip comes first: the others mostly show at once that its quality will do
        for number in sorted(range(len(clips)), key=lambda number: motion(clips[number]), reverse=True):

            def error(tried: int, number: int = number) -> float:
                clip, own = plan(tried).clips[number], seen(tried)[number]
                if not own:  # it shows the last key frame before it, which is another clip's concern
                    return 0.0
                latent = encode_alone(engine, clip, own)
                return coded_error(engine, clip, own, latent, step=step_for(plan(tried).quality), decoder=self._decoder)

            errors = search_quality(error, limit * (1 - _NEAR), start=quality, lowest=lowest, rising=False)
            least = min(errors.values())
            if least > limit and lowest < _PLENTY:  # out of reach: then this is mostly as good
                errors[_PLENTY] = error(_PLENTY)
            self._short += least > limit
            enough = limit if least <= limit else least / (1 - _WORTH)
            quality = lowest = min(tried for tried, value in errors.items() if value <= enough)
        return quality

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


def _code(plan: Plan, *, codec: str) -> tuple[Sequence[bytes], Sequence[Sequence[Reference]]]:
    """The bytes of the clips' key frames, and for each clip what a reader has of its own."""
    given = [item.picture for clip in plan.clips for item in clip.pictures]
    coded, seen = code_keyframes(given, codec=codec, quality=plan.quality)
    pictures = iter(seen)
    return coded, [clip.seen(list(islice(pictures, len(clip.keyframes)))) for clip in plan.clips]


def search_quality(
    measure: Callable[[int], float], wanted: float, *, start: int, rising: bool, lowest: int = 0
) -> dict[int, float]:
    """What ``measure`` says of the qualities tried: the last is within 2% of ``wanted``, or the value lies between those of
    two neighbours among them, or beyond that of the last quality there is.

    Args:
        measure: of a quality from ``lowest`` to 95; ``rising`` with it, or falling.
        wanted: above 0.
        start: the first quality to try.
    """
    doubling = _DOUBLING if rising else -_DOUBLING
    tried: dict[int, float] = {}
    low, high = lowest - 1, BEST_QUALITY + 1
    quality = start
    while True:
        value = tried[quality] = measure(quality)
        if (value >= wanted) == rising:
            high = quality
        else:
            low = quality
        if high - low == 1 or abs(value / wanted - 1) <= _NEAR:
            return tried
        guess = (low + high) // 2 if len(tried) >= _PATIENCE else _guess(tried, wanted, doubling=doubling)
        quality = min(max(guess, low + 1), high - 1)


def _guess(tried: dict[int, float], wanted: float, *, doubling: int) -> int:
    """Where the line through the two nearest values reaches ``wanted``; it is straight over 2 ** (quality / doubling)."""
    points = sorted(
        ((2 ** (quality / doubling), value) for quality, value in tried.items()), key=lambda p: abs(p[1] - wanted)
    )
    (x, y), (other_x, other_y) = [*points, (0.0, 0.0)][:2]
    found = x + (wanted - y) * (other_x - x) / ((other_y - y) or 1e-9)
    return round(doubling * log2(max(found, 1e-9)))
