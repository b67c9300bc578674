"""Which clip comes when. A plan is a function of the seed, the step and the place in the batch, and of nothing else.

So a resumed run sees what an uninterrupted one would have seen, any number of workers gives the same clips, and two
processes with half the batch see the clips of one with all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reducio_codec.config import CLIP_LENGTH
from reducio_codec.errors import InputError
from reducio_codec.train.options import DataOptions, KeyframeOptions
from reducio_codec.training.loading import motion_weights
from reducio_codec.training.scan import Video


@dataclass(frozen=True, kw_only=True)
class ClipPlan:
    """One clip: which frames, which part of them, and what is done to them."""

    video: int
    frames: tuple[int, ...]
    """Ascending."""
    side: int
    top: int
    left: int
    height: int
    width: int
    flip: bool
    reverse: bool
    keyframe_index: int
    """Place of the key frame in the clip as it is trained on, after reversal."""
    quality: int | None
    """Of the picture codec its key frame goes through; None: it stays as it is."""
    drop_keyframe: bool
    neighbours: tuple[int | None, int | None] = (None, None)
    """Frames that are the key frames of the clips before and after, as the clip is trained on; None: there is none."""


class ClipSampler:
    """Draws plans.

    Args:
        videos: each with at least one scene of 16 frames.
        random_keyframe: any frame may be the key frame (Tab. 11); otherwise it is the one at ``keyframe_index``.
    """

    def __init__(
        self,
        videos: Sequence[Video],
        *,
        data: DataOptions,
        keyframe: KeyframeOptions,
        seed: int,
        keyframe_index: int,
        random_keyframe: bool = False,
    ) -> None:
        self.videos = videos
        self._data, self._keyframe, self._seed = data, keyframe, seed
        self._keyframe_index, self._random_keyframe = keyframe_index, random_keyframe
        starts, weights = [], []
        for number, video in enumerate(videos):
            for first, last in video.scenes:
                for start in range(first, last - CLIP_LENGTH + 1):
                    if keyframe.neighbours and not any(self._neighbours(start, 1, scene=(first, last), reverse=False)):
                        continue
                    starts.append((number, start, first, last))
                    weights.append(float(video.motion[start]))
        if not starts:
            raise InputError(
                "keyframe.neighbours is true, and no scene is long enough for a clip and another's key frame"
            )
        self._starts = np.array(starts, np.int64)  # (N, 4): video, first frame, begin and end of the scene
        weight = motion_weights(np.array(weights), power=data.motion_power)
        self._cumulative = np.cumsum(weight / weight.sum())
        odds = np.array(data.frame_step_weights or [1.0] * len(data.frame_steps))
        self._step_odds = np.cumsum(odds / odds.sum())

    @property
    def neighbours(self) -> bool:
        """Whether plans name key frames of the clips before and after."""
        return self._keyframe.neighbours

    @property
    def count(self) -> int:
        """How many different starts of clips there are."""
        return len(self._starts)

    def plan(self, step: int, index: int, *, side: int, attempt: int = 0) -> ClipPlan:
        """The clip at place ``index`` of the whole batch of ``step``; another one for each ``attempt``."""
        rng = np.random.default_rng((self._seed, 0, step, index, attempt))
        place = min(int(np.searchsorted(self._cumulative, rng.random(), side="right")), self.count - 1)
        number, start, begin, end = (int(value) for value in self._starts[place])
        stride = self._data.frame_steps[min(int(np.searchsorted(self._step_odds, rng.random(), side="right")),
                                            len(self._data.frame_steps) - 1)]  # fmt: skip
        fitting = [s for s in self._data.frame_steps if s <= stride and start + s * (CLIP_LENGTH - 1) < end]
        stride = max(fitting, default=1)
        height, width = self._crop(rng, side=side, size=self.videos[number].shape[1:3])
        top = int(rng.integers(self.videos[number].shape[1] - height + 1))
        left = int(rng.integers(self.videos[number].shape[2] - width + 1))
        flip, reverse, coded, dropped = rng.random(4) < (
            self._data.flip, self._data.reverse, self._keyframe.coded, self._keyframe.dropout,
        )  # fmt: skip
        quality = int(rng.integers(self._keyframe.quality[0], self._keyframe.quality[1] + 1))
        drawn = int(rng.integers(CLIP_LENGTH))
        neighbours: tuple[int | None, int | None] = (None, None)
        if self._keyframe.neighbours:
            found = self._neighbours(start, stride, scene=(begin, end), reverse=bool(reverse))
            kept = rng.random(2) >= self._keyframe.neighbour_dropout
            neighbours = (found[0] if kept[0] else None, found[1] if kept[1] else None)
        return ClipPlan(
            video=number,
            frames=tuple(range(start, start + stride * CLIP_LENGTH, stride)),
            side=side,
            top=top,
            left=left,
            height=height,
            width=width,
            flip=bool(flip),
            reverse=bool(reverse),
            keyframe_index=drawn if self._random_keyframe else self._keyframe_index,
            quality=quality if coded else None,
            drop_keyframe=bool(dropped),
            neighbours=neighbours,
        )

    def _neighbours(
        self, start: int, stride: int, *, scene: tuple[int, int], reverse: bool
    ) -> tuple[int | None, int | None]:
        """The frames one clip before and after the key frame, where the scene has them; played backwards they change places."""
        place = CLIP_LENGTH - 1 - self._keyframe_index if reverse else self._keyframe_index
        key = start + stride * place
        before, after = key - stride * CLIP_LENGTH, key + stride * CLIP_LENGTH
        found = (before if before >= scene[0] else None, after if after < scene[1] else None)
        return found[::-1] if reverse else found

    def _crop(self, rng: np.random.Generator, *, side: int, size: tuple[int, ...]) -> tuple[int, int]:
        """Height and width of the crop, at most the picture's."""
        height, width = size
        amount = rng.uniform(self._data.crop_range[0], self._data.crop_range[1])
        area = amount * height * width if self._data.crop == "area" else (amount * side) ** 2
        aspect = float(np.exp(rng.uniform(*np.log(self._data.crop_aspect))))
        wide, high = (area * aspect) ** 0.5, (area / aspect) ** 0.5
        shrink = min(1.0, width / wide, height / high)  # a crop that doesn't fit keeps its aspect
        return max(1, min(height, round(high * shrink))), max(1, min(width, round(wide * shrink)))
