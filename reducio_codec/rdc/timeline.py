"""Which clip shows which frames: what records say, brought together, and what must have been where they are lost."""

from __future__ import annotations

from collections.abc import Mapping

from reducio_codec.config import CLIP_LENGTH
from reducio_codec.rdc.layers.latent import LatentRecord
from reducio_codec.rdc.layers.layer import Clip


def lay_out(
    found: Mapping[int, LatentRecord], *, count: tuple[int, int] | None, pictured: int
) -> tuple[list[Clip], list[str]]:
    """All clips of a file in order, and what contradicts what, in words.

    Args:
        found: the clips whose records are there, by number.
        count: clips and frames that the index claims, if there is one.
        pictured: frames that pictures show there are: one more than the last picture's number.
    """
    clips: list[Clip] = []
    problems: list[str] = []
    for number in sorted(found):
        record = found[number]
        if not _fits(clips, number, record.start):
            problems.append(
                f"clip {number} claims to begin at frame {record.start}, which the clips before don't allow"
            )
            continue
        _fill(clips, number, record.start)
        clips.append(Clip(index=number, start=record.start, frames=record.frames, known=True))
    if count is not None and _fits(clips, *count):
        _fill(clips, *count)
    elif count is not None:
        problems.append(
            f"the index claims {count[0]} clips of {count[1]} frames; "
            f"the file has {len(clips)} clips of {_end(clips)} frames at least"
        )
    if count is None or not _fits(clips, *count):
        while _end(clips) < pictured:  # clips that were cut off behind their pictures
            clips.append(Clip(index=len(clips), start=_end(clips), frames=CLIP_LENGTH, known=False))
    return clips, problems


def _end(clips: list[Clip]) -> int:
    return clips[-1].start + clips[-1].frames if clips else 0


def _fits(clips: list[Clip], number: int, start: int) -> bool:
    """Whether clip ``number`` can begin at frame ``start`` behind ``clips``, with clips of 1 to 16 frames between."""
    between, gap = number - len(clips), start - _end(clips)
    return between >= 0 and between <= gap <= CLIP_LENGTH * between


def _fill(clips: list[Clip], number: int, start: int) -> None:
    """Clips up to ``number``, which begins at ``start``, in place of those that are lost: as long as can be."""
    while len(clips) < number:
        left = number - len(clips) - 1
        frames = min(CLIP_LENGTH, start - _end(clips) - left)
        clips.append(Clip(index=len(clips), start=_end(clips), frames=frames, known=False))
