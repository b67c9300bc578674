"""Key frames of clips, coded group by group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reducio_codec.clips.references import Reference
from reducio_codec.clips.scenes import CutFinder
from reducio_codec.clips.streams import FrameClip
from reducio_codec.rdc.keyframe import code_keyframes
from reducio_codec.rdc.layers.cuts import Cut
from reducio_codec.rdc.ranges import KeyframeCodec


@dataclass(frozen=True, kw_only=True, eq=False)
class CodedPictures:
    """The key frames of the clips of one group, in order."""

    coded: Sequence[bytes]
    """What is written."""
    seen: Sequence[Reference]
    """What a reader gets of it."""
    cuts: Sequence[Cut]
    """Between each clip and the one before it."""
    before: Reference | None
    """The last one of the group before."""

    def beside(self, number: int) -> list[Reference]:
        """The key frames beside clip ``number`` of the group, for refinement. That behind the group isn't coded yet: the last
        clip does without it here, and still gains from it when it is decoded."""
        before = self.before if number == 0 else self.seen[number - 1]
        last = number + 1 == len(self.seen)
        behind = None if last or self.cuts[number + 1] & Cut.FORWARD else self.seen[number + 1]
        return [item for item in (None if self.cuts[number] & Cut.BACKWARD else before, behind) if item is not None]


class PictureCoder:
    """Codes one group after another.

    Args:
        codec: format of the pictures.
        find_cuts: look for scene changes between clips.
    """

    def __init__(self, *, codec: KeyframeCodec, find_cuts: bool) -> None:
        self._codec = codec
        self._finder = CutFinder() if find_cuts else None
        self._last: Reference | None = None

    def code(self, clips: Sequence[FrameClip], *, quality: int) -> CodedPictures:
        """The key frames of clips that follow those of the last call."""
        coded, pictures = code_keyframes([clip.keyframe for clip in clips], codec=self._codec, quality=quality)
        seen = [clip.reference(picture) for clip, picture in zip(clips, pictures, strict=True)]
        before, self._last = self._last, seen[-1]
        return CodedPictures(coded=coded, seen=seen, cuts=[self._cut(clip) for clip in clips], before=before)

    def _cut(self, clip: FrameClip) -> Cut:
        return Cut.NONE if self._finder is None else self._finder(clip.frames, key=clip.own_keyframe)
