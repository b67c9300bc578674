"""An open ``.rdc`` file as a video: any frame by its number, as it is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from reducio_codec.clips.joins import SHARES, changed, drawn
from reducio_codec.coding.engine import Engine
from reducio_codec.coding.frame_batch import FrameBatch, batch_of, listed, numbers_at
from reducio_codec.coding.rdc_clips import RdcClips, as_whole
from reducio_codec.errors import FormatError, FrameIndexError, InputError
from reducio_codec.io.stages import stage
from reducio_codec.models.contract import Chosen


class RdcVideo(RdcClips):
    """What is in a file, and what its clips decode to. Get one from ``ReducioCodec.open_file``; ``with``, or ``close``,
    closes the file.

    It is a sequence of frames: ``len(video)``, ``video[i]`` is a frame ``(H, W, 3)`` uint8, negative ``i`` counts from the
    end, a slice ``(n, H, W, 3)``, and a loop gives frame after frame; all with the default decoder, and as ``shown_clip`` has
    them. The clips that were decoded last are kept, so frames in order cost a clip's decoding once in 16.

    Raises:
        FormatError: not an ``.rdc`` file, or its header is damaged. WeightsError: it needs another model.
    """

    def __init__(self, file: BinaryIO, *, engine: Engine, opened: ExitStack | None = None) -> None:
        super().__init__(file, engine=engine, opened=opened)
        self._shown: tuple[int, Chosen, NDArray[np.uint8]] | None = None  # the clip shown last
        self._ahead: dict[tuple[int, Chosen], NDArray[np.uint8]] = {}  # decoded by themselves, not shown yet
        self._ends: dict[tuple[int, Chosen], NDArray[np.uint8]] = {}  # first and last frames of the last few
        self._order: tuple[int, Chosen | None, int] = (0, None, 0)  # which comes next, and how many came in order

    def __len__(self) -> int:
        """Frames, as ``frames``."""
        return self.frames

    def __getitem__(self, index: int | slice) -> NDArray[np.uint8]:
        """A frame ``(H, W, 3)``, or those of a slice ``(n, H, W, 3)``. FrameIndexError beyond the end, InputError for what
        is no number, FormatError for a damaged clip."""
        if isinstance(index, slice):
            return self._gather(range(self.frames)[_whole_slice(index)])
        return self._frame(self._number(index)).copy()

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """All frames ``(H, W, 3)``, one by one."""
        for number in range(self.frames):
            yield self._frame(number).copy()

    def get_frames_at(self, indices: Iterable[int], *, decoder: str | None = None) -> FrameBatch:
        """Frames by their numbers, in any order; each clip is decoded once. Errors as for ``video[i]``."""
        return self._batch([self._number(index) for index in listed(indices, name="indices")], decoder)

    def get_frames_played_at(self, seconds: Iterable[float], *, decoder: str | None = None) -> FrameBatch:
        """The frames that are shown at these times, from 0 at the first frame to just below ``duration``: of each the last
        one that has begun. FrameIndexError beyond that, other errors as for ``video[i]``."""
        return self._batch(numbers_at(listed(seconds, name="seconds"), self.frame_times), decoder)

    def _batch(self, numbers: Sequence[int], decoder: str | None) -> FrameBatch:
        return batch_of(self._gather(numbers, decoder), numbers, self.frame_times)

    def _gather(self, numbers: Sequence[int], decoder: str | None = None) -> NDArray[np.uint8]:
        frames = np.empty((len(numbers), self.header.height, self.header.width, 3), np.uint8)
        for place in sorted(range(len(numbers)), key=numbers.__getitem__):  # each clip's frames after one another
            frames[place] = self._frame(numbers[place], decoder)
        return frames

    def _number(self, index: Any) -> int:
        number = as_whole(index, name="frame")
        if not -self.frames <= number < self.frames:
            raise FrameIndexError(f"frame {number} was asked for; the video has frames 0 to {self.frames - 1}")
        return number % self.frames

    def _frame(self, number: int, decoder: str | None = None) -> NDArray[np.uint8]:
        clip, chosen = self.clip_at(number), self.choose_decoder(decoder)
        record = self.record(clip)
        place, end = number - record.start, changed(record.frames)
        if end <= place < record.frames - end and (self._shown is None or self._shown[:2] != (clip, chosen)):
            frames = self._take(clip, chosen, None)  # what lies between a clip's ends needs no clip beside it
            self._set_aside(clip, chosen, frames)
        else:
            frames = self.shown_clip(clip, decoder=decoder)
        frame: NDArray[np.uint8] = frames[place]
        return frame

    def shown_clip(
        self,
        index: int,
        *,
        decoder: str | None = None,
        references: int | None = None,
        lost: Callable[[str], object] | None = None,
    ) -> NDArray[np.uint8]:
        """Frames of clip ``index`` as the video shows them: ``(n, H, W, 3)`` uint8, read-only. Its first and last two are drawn
        towards the clips before and behind, see ``clips.joins``, where the file says that these are of the same scene; key
        frames never change. It decodes those clips, too: in order that is each clip once. Arguments and errors as for
        ``decode_clip``; a damaged clip beside it draws nothing.
        """
        self._check_open()
        chosen = self.choose_decoder(decoder, references)
        if self._shown is not None and self._shown[:2] == (index, chosen):
            return self._shown[2]
        frames, record = self._take(index, chosen, lost), self.record(index)
        still = {number - record.start for number in record.references}
        for other, end in ((index - 1, 0), (index + 1, -1)):
            beside = [distance if end == 0 else len(frames) - 1 - distance for distance in range(changed(len(frames)))]
            moving = [(place, share) for place, share in zip(beside, SHARES, strict=False) if place not in still]
            if not moving:
                continue
            across = self._across(other, max(index, other), chosen, end=-1 - end)
            if across is not None:
                places, shares = map(list, zip(*moving, strict=True))
                with stage("blending"):
                    frames[places] = drawn(frames[places], across, shares=shares)
        frames.flags.writeable = False
        self._shown = index, chosen, frames
        return frames

    def _take(self, index: int, chosen: Chosen, lost: Callable[[str], object] | None) -> NDArray[np.uint8]:
        """A clip by itself, to be changed by who takes it; its ends are then among those that are kept."""
        frames = self._ahead.pop((index, chosen), None)
        if frames is None:
            frames = self._decode_on(index, chosen, lost)
        self._ends.pop((index, chosen), None)  # to be the newest: others go first
        self._ends[index, chosen] = frames[[0, -1]]
        for old in list(self._ends)[:-3]:
            del self._ends[old]
        return frames

    def _decode_on(self, index: int, chosen: Chosen, lost: Callable[[str], object] | None) -> NDArray[np.uint8]:
        """A clip by itself. From the third in order on, where each is one tile, those behind it are decoded at the same time."""
        runner = self._engine.runner
        expected, last, before = self._order
        in_order = before + 1 if (index, chosen) == (expected, last) else 0
        size = self.header.height, self.header.width
        together = runner.most_clips_at_once(*size) if in_order >= 2 else 1
        items = [self._to_decode(index, chosen, lost)]
        for number in range(index + 1, min(index + together, self.clips)):
            try:
                items.append(self._to_decode(number, chosen, None))
            except FormatError:
                break  # it is raised, or reported, when it is that one's turn
        frames, *others = runner.clips_at_once(partial(self._decode, chosen.decoder), items, sizes=[size])
        for number, other in enumerate(others, index + 1):
            self._set_aside(number, chosen, other)
        self._order = index + len(items), chosen, in_order
        return frames

    def _set_aside(self, index: int, chosen: Chosen, frames: NDArray[np.uint8]) -> None:
        """A clip by itself is kept until it is shown; of those that never are, a few."""
        self._ahead[index, chosen] = frames
        for old in list(self._ahead)[: -self._engine.runner.most_clips_at_once(self.header.height, self.header.width)]:
            del self._ahead[old]

    def _across(self, index: int, later: int, chosen: Chosen, *, end: int) -> NDArray[np.uint8] | None:
        """The first (0) or last (-1) frame of a clip by itself; None of one that doesn't go on with the scene."""
        if not 0 < later < self.clips or self.header.references == 1 or self._reader.cut(later):
            return None
        if (index, chosen) not in self._ends:
            try:
                self._set_aside(index, chosen, self._take(index, chosen, None))
            except FormatError:
                return None
        frame: NDArray[np.uint8] = self._ends[index, chosen][end]
        return frame


def _whole_slice(given: slice) -> slice:
    parts = [None if part is None else as_whole(part, name="frame") for part in (given.start, given.stop, given.step)]
    if parts[2] == 0:
        raise InputError("a slice's step is 0; allowed: any other whole number")
    return slice(*parts)
