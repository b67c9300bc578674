"""A video of any length as clips of 16 frames, each with one key frame."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from reducio_codec.config import CLIP_LENGTH

Item = TypeVar("Item")
_MIDDLE = (CLIP_LENGTH - 1) // 2


def own_keyframe(frames: int, *, keyframe_index: int) -> int:
    """Which of a clip's ``frames`` real frames is its key frame, if it is frame ``keyframe_index`` of a full clip.

    The same relative place, rounded: index 7 of 16 (the reference's middle, Sec. 3.1) gives ``(frames - 1) // 2``,
    0 stays the first and 15 the last.
    """
    last = CLIP_LENGTH - 1
    return (2 * keyframe_index * (frames - 1) + last) // (2 * last)


@dataclass(frozen=True, kw_only=True)
class ClipSpan:
    """Where a clip's real frames lie, in the video and among the 16 frames that the model sees."""

    start: int
    """The clip's first frame in the video."""
    frames: int
    """Real frames, 1 to 16."""
    lead: int
    """Copies of the first real frame in front of it; copies of the last one fill up to 16."""

    @property
    def keep(self) -> slice:
        """The real frames among the model's 16."""
        return slice(self.lead, self.lead + self.frames)

    def place(self, frame: int) -> int:
        """Where a frame of the video, by its number, lies in terms of the model's 16: below 0 and above 15 outside."""
        return frame - self.start + self.lead

    def indices(self) -> Tensor:
        """Index of the real frame, from 0 to ``frames - 1``, at each of the model's 16 places: ``(16,)`` int64."""
        return (torch.arange(CLIP_LENGTH) - self.lead).clamp_(0, self.frames - 1)


def spread(span: ClipSpan, count: int) -> tuple[int, ...]:
    """Which of a clip's real frames are its key frames: every 16 / ``count``-th of the model's 16, with 7 among them.

    The latent's linear code was made for clips with a key frame there, and has no motion for that frame.

    Args:
        count: 0, 1, 2, 4, 8 or 16; a short clip gets fewer, but 1 at least.
    """
    if count == 0:
        return ()
    step = CLIP_LENGTH // count
    places = range(_MIDDLE % step, CLIP_LENGTH, step)
    return tuple(place - span.lead for place in places if 0 <= place - span.lead < span.frames)


def clip_span(*, start: int, frames: int, keyframe_index: int) -> ClipSpan:
    """Place ``frames`` real frames so that their own key frame lands on the model's ``keyframe_index``.

    A short clip is padded at both ends: padding at the end alone would move the key frame away from the middle of
    what there is, or even onto a copy.
    """
    own = own_keyframe(frames, keyframe_index=keyframe_index)
    return ClipSpan(start=start, frames=frames, lead=keyframe_index - own)


def plan_clips(num_frames: int, *, keyframe_index: int) -> list[ClipSpan]:
    """Cut ``num_frames`` frames into clips; only the last may be shorter than 16."""
    return [
        clip_span(start=start, frames=min(CLIP_LENGTH, num_frames - start), keyframe_index=keyframe_index)
        for start in range(0, num_frames, CLIP_LENGTH)
    ]


def count_clips(num_frames: int) -> int:
    """Clips that ``num_frames`` frames make."""
    return -(-num_frames // CLIP_LENGTH)


def take_clip(video: Tensor, span: ClipSpan, *, dim: int) -> Tensor:
    """The 16 frames of ``span`` along the time axis ``dim`` of the whole video; a view if the clip is full."""
    real = video.narrow(dim, span.start, span.frames)
    if span.frames == CLIP_LENGTH:
        return real
    return real.index_select(dim, span.indices().to(video.device))


def group_frames(frames: Iterable[Item]) -> Iterator[list[Item]]:
    """Collect frames that arrive one by one into lists of 16, the last one shorter; holds one list at a time."""
    group: list[Item] = []
    for frame in frames:
        group.append(frame)
        if len(group) == CLIP_LENGTH:
            yield group
            group = []
    if group:
        yield group


def batches_of_alike(clips: Iterable[Item], *, looks: Callable[[Item], Hashable], together: int) -> list[list[Item]]:
    """Clips in batches of at most ``together`` for which ``looks`` says the same."""
    groups: dict[Hashable, list[Item]] = {}
    for clip in clips:
        groups.setdefault(looks(clip), []).append(clip)
    return [alike[first : first + together] for alike in groups.values() for first in range(0, len(alike), together)]
