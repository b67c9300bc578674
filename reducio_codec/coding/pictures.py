"""Key frames of clips, coded group by group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reducio_codec.clips.references import Reference
from reducio_codec.clips.streams import FrameClip
from reducio_codec.rdc.keyframe import code_keyframes
from reducio_codec.rdc.layers.cuts import Cut
from reducio_codec.rdc.ranges import KeyframeCodec


@dataclass(frozen=True, kw_only=True, eq=False)
class CodedPictures:
    """The key frames of the clips of one group, in order: none, one or many a clip."""

    coded: Sequence[bytes]
    """What is written."""
    together: bool
    """Whether they are a sequence, each predicted from those before it."""
    seen: Sequence[Reference]
    """What a reader gets of it."""
    counts: Sequence[int]
    """How many of them each clip has."""
    cuts: Sequence[Cut]
    """Between each clip and the one before it."""
    before: Reference | None
    """The last one of the groups before that the first clip may use."""

    def inside(self, number: int) -> range:
        """Which of the pictures are clip ``number``'s."""
        end = sum(self.counts[: number + 1])
        return range(end - self.counts[number], end)

    def beside(self, number: int) -> list[Reference]:
        """The key frames on both sides of clip ``number`` of the group, as a reader finds them. What is behind the group isn't
        coded yet: the last clip does without it here, and still gains from it when it is decoded."""
        return [item for item in (self._earlier(number), self._later(number)) if item is not None]

    def _earlier(self, number: int) -> Reference | None:
        borders = (*self.cuts, Cut.NONE)
        for other in reversed(range(number)):
            if borders[other + 1] & Cut.BACKWARD:
                return None
            if self.counts[other]:
                return self.seen[self.inside(other)[-1]]
        return None if borders[0] & Cut.BACKWARD else self.before

    def _later(self, number: int) -> Reference | None:
        for other in range(number + 1, len(self.counts)):
            if self.cuts[other] & Cut.FORWARD:
                return None
            if self.counts[other]:
                return self.seen[self.inside(other)[0]]
        return None

    @property
    def last(self) -> Reference | None:
        """What the next group's first clip may use, if no scene begins with it."""
        return self._earlier(len(self.counts))

    @property
    def ends_open(self) -> bool:
        """Whether the last clip has no picture, and so was coded without those that follow."""
        return not self.counts[-1]


class PictureCoder:
    """Codes one group after another; trials of the next one change nothing until one of them is followed."""

    def __init__(self, *, codec: KeyframeCodec) -> None:
        self._codec = codec
        self._before: CodedPictures | None = None

    def code(self, clips: Sequence[FrameClip], *, quality: int) -> CodedPictures:
        """The key frames of clips that follow those of the last group."""
        pictures = [picture for clip in clips for picture in clip.pictures]
        coded, seen = code_keyframes([item.picture for item in pictures], codec=self._codec, quality=quality)
        before = self._before
        return CodedPictures(
            coded=coded,
            together=self._codec == "avif",
            seen=[Reference(frame=item.frame, picture=shown) for item, shown in zip(pictures, seen, strict=True)],
            counts=[len(clip.keyframes) for clip in clips],
            cuts=self._cuts(clips),
            before=None if before is None else before.last,
        )

    def follow(self, pictures: CodedPictures) -> None:
        """These are written, and the next group comes."""
        self._before = pictures

    def _cuts(self, clips: Sequence[FrameClip]) -> list[Cut]:
        cuts = [Cut.BACKWARD | Cut.FORWARD if clip.begins_scene else Cut.NONE for clip in clips]
        first = next((number for number, clip in enumerate(clips) if clip.keyframes), None)
        if self._before is not None and self._before.ends_open and first is not None:
            cuts[first] |= Cut.FORWARD
        return cuts
