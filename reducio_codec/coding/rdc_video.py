"""An open ``.rdc`` file with its model: any clip and any frame by its number."""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import cached_property, partial
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reducio_codec.clips.joins import SHARES, changed, drawn
from reducio_codec.clips.latent import Latent
from reducio_codec.clips.references import Reference
from reducio_codec.clips.spans import ClipSpan, plan_clips
from reducio_codec.clips.streams import EncodedClip, decode_clip, join_clips
from reducio_codec.coding.engine import Engine
from reducio_codec.coding.frame_batch import FrameBatch, batch_of, listed, numbers_at, seconds_of
from reducio_codec.coding.gallery import Gallery
from reducio_codec.errors import FormatError, FrameIndexError, InputError
from reducio_codec.io.audio import AudioTrack
from reducio_codec.io.files import temporary_file
from reducio_codec.io.stages import stage
from reducio_codec.models.contract import Chosen, choose_decoder
from reducio_codec.rdc.ranges import UNIT
from reducio_codec.rdc.reader import ClipRecord, RdcReader
from reducio_codec.rdc.timing import clock_of_header, mean_rate

logger = logging.getLogger(__name__)

_ToDecode = tuple[EncodedClip, list[Reference]]
"""A clip, and the pictures beside it."""

_GREY = np.uint8(128)
_MOST_GREY = 1 << 25
"""Pixels of a grey picture that stands for none: a few more than 8K has. An encoder takes about 50 bytes for each."""


class RdcVideo:
    """What is in a file, and what its clips decode to. Get one from ``ReducioCodec.open_file``; ``with``, or ``close``,
    closes the file.

    It is a sequence of frames: ``len(video)``, ``video[i]`` is a frame ``(H, W, 3)`` uint8, negative ``i`` counts from the
    end, a slice ``(n, H, W, 3)``, and a loop gives frame after frame; all with the default decoder, and as ``shown_clip`` has
    them. The clips that were decoded last are kept, so frames in order cost a clip's decoding once in 16.

    Raises:
        FormatError: not an ``.rdc`` file, or its header is damaged. WeightsError: it needs another model.
    """

    def __init__(self, file: BinaryIO, *, engine: Engine, opened: ExitStack | None = None) -> None:
        self._opened = opened or ExitStack()
        try:
            self._read(file, engine)
        except BaseException:
            self._opened.close()
            raise

    def _read(self, file: BinaryIO, engine: Engine) -> None:
        self._engine = engine
        self._file = file
        self._closed = False
        self._shown: tuple[int, Chosen, NDArray[np.uint8]] | None = None  # the clip shown last
        self._ahead: dict[tuple[int, Chosen], NDArray[np.uint8]] = {}  # decoded by themselves, not shown yet
        self._ends: dict[tuple[int, Chosen], NDArray[np.uint8]] = {}  # first and last frames of the last few
        self._order: tuple[int, Chosen | None, int] = (0, None, 0)  # which comes next, and how many came in order
        self._reader = RdcReader(file)
        self.header = self._reader.header
        engine.check_reads(self.header)
        self.clips = self._reader.clips
        if not self.clips:
            raise FormatError("the file holds no clip")
        self.frames = self._reader.frames
        header = self.header
        self._clock = clock_of_header(header)
        first, last = self.record(0), self.record(self.clips - 1)
        ticks = self.end(last) - self.times(first)[0]
        self.duration = max(1, ticks) * header.time_base
        """Seconds from the first frame to the end of the last, by their own times."""
        nominal = 1 / (self._clock.step * header.time_base)
        self.rate = mean_rate(self.frames, seconds=self.duration, time_base=header.time_base, nominal=nominal)
        """Frames per second, the mean where times vary."""
        self._gallery = Gallery(self._reader)
        for note in self.notes:
            logger.warning(note)

    def close(self) -> None:
        """Close what was opened for this video: its file, unless it was given open, and temporary ones."""
        self._closed = True
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

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

    @cached_property
    def frame_times(self) -> NDArray[np.float64]:
        """When each frame begins to be shown, and when the last one ends: ``(frames + 1,)`` seconds from 0 on, ascending."""
        ticks = [time for index in range(self.clips) for time in self.times(self.record(index))]
        ticks.append(self.end(self.record(self.clips - 1)))
        return seconds_of(ticks, time_base=self.header.time_base)

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

    def _check_open(self) -> None:
        if self._closed or getattr(self._file, "closed", False):
            raise InputError("the video's file is closed; use the video inside its with block, or before close()")

    def _check_record(self, record: Any) -> None:
        if not isinstance(record, ClipRecord):
            raise InputError(f"record is a {type(record).__name__}; allowed: what record(number) gives")
        self._check_open()

    @property
    def damage(self) -> tuple[str, ...]:
        """What is wrong with the file as a whole; damage to single clips shows when they are read."""
        return tuple(self._reader.damage)

    @property
    def notes(self) -> tuple[str, ...]:
        """What else there is to know: the file was made with another version of the model, and is read all the same."""
        header, engine = self.header, self._engine
        if (header.model, header.version) == (engine.model_id, engine.version):
            return ()
        return (
            f"the file was made with model {header.model!r} version {header.version}; it is decoded with "
            f"{engine.model_id!r} version {engine.version}, so pictures can differ from what its maker saw",
        )

    def bytes_by_part(self) -> dict[str, int]:
        """Where the file's bytes go."""
        return self._reader.byte_report()

    def record(self, index: int) -> ClipRecord:
        """A clip as it lies in the file, damage included; InputError beyond the end."""
        self._check_open()
        return self._reader.read_clip(as_whole(index, name="clip"))

    def times(self, record: ClipRecord) -> list[int]:
        """Time of each of a clip's frames, in ticks of ``header.time_base``."""
        self._check_record(record)
        if record.timestamps is not None:
            return list(record.timestamps)
        return self._clock.times(record.start, record.frames)

    def end(self, record: ClipRecord) -> int:
        """When a clip's last frame stops being shown, in ticks of ``header.time_base``."""
        last = self.times(record)[-1]
        if record.index + 1 < self.clips:
            end = self.times(self.record(record.index + 1))[0]
        else:
            number = record.start + record.frames - 1
            end = self._clock.end(number, time=last) if self._reader.end is None else self._reader.end
        return max(end, last + 1)  # a time that was lost is guessed, and a guess may fall behind

    def clip_at(self, frame: int) -> int:
        """The clip that shows a frame of the video, by number."""
        return self._reader.clip_at(frame)

    def keyframe(self, record: ClipRecord) -> NDArray[np.uint8]:
        """A clip's key frame ``(H, W, 3)``; FormatError if it is damaged or there is none."""
        self._check_record(record)
        if not record.references:
            raise FormatError(f"clip {record.index}: its picture is damaged or missing")
        return self._picture(record.index, record.references[0])

    def _picture(self, index: int, frame: int) -> NDArray[np.uint8]:
        try:
            with stage("key frames"):
                return self._gallery.picture(frame)
        except FormatError as error:
            raise FormatError(f"clip {index}: {error}") from error

    def clip(self, record: ClipRecord) -> EncodedClip:
        """A clip ready to decode; FormatError if any of it is damaged."""
        self._check_record(record)
        if record.damage:
            raise FormatError(record.damage[0])
        # before the latent, which a few bytes make as large as the file claims its pictures to be
        if not record.references and not self._beside(record.index, lambda _: None):
            raise FormatError(f"clip {record.index} has no picture of its own, and none beside it is intact")
        pictures = tuple(
            Reference(frame=frame, picture=self._picture(record.index, frame)) for frame in record.references
        )
        assert record.latent is not None
        coder, step = self._engine.coder, record.step / UNIT
        shape = (*self.header.latent, *self._engine.runner.grid(self.header.height, self.header.width))
        try:
            symbols = coder.decode(record.latent, shape, step=step)
        except FormatError as error:
            raise FormatError(f"clip {record.index}: {error}") from error
        return EncodedClip(
            index=record.index,
            latent=torch.from_numpy(coder.dequantize(symbols, step=step)),
            references=pictures,
            span=ClipSpan(start=record.start, frames=record.frames, lead=record.lead),
            size=(self.header.height, self.header.width),
            cut=self._reader.cut(record.index),
        )

    def latents(self) -> tuple[Latent, Tensor]:
        """All of it as ``ReducioCodec.encode`` gives a video: (1, z, N*t, h, w) and the key frames (1, 3, N, H, W) float32.

        Raises:
            FormatError: a clip is damaged. InputError: clips have their key frames at different places.
        """
        clips = [self.clip(self.record(index)) for index in range(self.clips)]
        places = sorted({clip.keyframe_index for clip in clips})
        spans = plan_clips(self.frames, keyframe_index=places[0])
        if len(places) > 1 or [clip.span for clip in clips] != spans:
            raise InputError(
                f"the clips have key frames at the places {', '.join(map(str, places))}, or other lengths than 16, and one "
                "latent of them all can't say so; codec.open_file(...).clip(record) gives each by itself"
            )
        return join_clips(clips)

    def choose_decoder(self, decoder: str | None = None, references: int | None = None) -> Chosen:
        """What is meant, see ``models.contract.choose_decoder``. By default a file that doesn't say where its
        cuts are is decoded with one reference, as when it was written."""
        model = self._engine.runner.model
        return choose_decoder(model, decoder=decoder, references=references, default_references=self.header.references)

    def decode_clip(
        self,
        index: int,
        *,
        decoder: str | None = None,
        references: int | None = None,
        lost: Callable[[str], object] | None = None,
    ) -> NDArray[np.uint8]:
        """Frames of clip ``index`` by itself: ``(n, H, W, 3)`` uint8. Reads this clip's records and, for a decoder of two
        references, the key-frame records of the clips beside it.

        Args:
            decoder, references: see :meth:`choose_decoder`.
            lost: told of each neighbour's key frame that is damaged; the clip is then decoded without it.

        Raises:
            FormatError: the clip is damaged, or, without ``lost``, a key frame beside it that it would use.
        """
        chosen = self.choose_decoder(decoder, references)
        return self._decode(chosen.decoder, self._to_decode(index, chosen, lost))

    def _to_decode(self, index: int, chosen: Chosen, lost: Callable[[str], object] | None) -> _ToDecode:
        with stage("reading"):
            clip = self.clip(self.record(index))
        beside = self._beside(index, lost) if chosen.references == 2 or not clip.references else []
        return clip, beside

    def _decode(self, decoder: str, item: _ToDecode) -> NDArray[np.uint8]:
        clip, beside = item
        return decode_clip(self._engine.runner, clip, decoder=decoder, beside=beside)

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

    def _beside(self, index: int, lost: Callable[[str], object] | None) -> list[Reference]:
        """The pictures before and behind a clip, as far as they are intact."""
        found = self._reader.beside(index)
        problems: list[str] = list(found.lost)
        pictures: list[Reference] = []
        for frame in (found.before, found.after):
            if frame is None:
                continue
            try:
                pictures.append(Reference(frame=frame, picture=self._picture(self.clip_at(frame), frame)))
            except FormatError as error:
                problems.append(str(error))
        for problem in problems:
            if lost is None:
                raise FormatError(f"{problem}; clip {index} uses that key frame, with references=1 not")
            lost(f"{problem}; clip {index} is decoded without it")
        return pictures

    def conceal_clip(self, index: int) -> tuple[NDArray[np.uint8], str]:
        """Stand-in frames ``(n, H, W, 3)`` uint8, read-only, for a damaged clip, and what they are: the nearest key frame,
        repeated; mid-grey (128) where no key frame in the file is intact. FormatError if that were pictures larger than 8K,
        which a file can claim in a few bytes."""
        record = self.record(index)
        middle = record.references[0] if record.references else record.start + (record.frames - 1) // 2
        nearest = self._gallery.nearest(middle)
        size = (record.frames, self.header.height, self.header.width, 3)
        if nearest is None:
            if self.header.width * self.header.height > _MOST_GREY:
                claimed = f"{self.header.width}x{self.header.height}"
                raise FormatError(
                    f"no picture of the file is intact, and {claimed} is too large to show grey in its place"
                )
            return np.broadcast_to(_GREY, size), "mid-grey"
        frame, picture = nearest
        other = self.clip_at(frame)
        shown = "its own key frame" if other == index else f"the key frame of clip {other}"
        return np.broadcast_to(picture, size), shown

    def audio(self) -> AudioTrack | None:
        """The sound, or None, for as long as the video is open; VideoError if it is damaged."""
        self._check_open()
        file = self._opened.enter_context(temporary_file())
        for chunk in self._reader.audio():
            file.write(chunk)
        return AudioTrack.from_file(file) if file.tell() else None


def as_whole(value: Any, *, name: str) -> int:
    """A whole number of any type that is one."""
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise InputError(f"{name} {value!r} was asked for; allowed: a whole number" + (", or a slice" * (name == "frame")))


def _whole_slice(given: slice) -> slice:
    parts = [None if part is None else as_whole(part, name="frame") for part in (given.start, given.stop, given.step)]
    if parts[2] == 0:
        raise InputError("a slice's step is 0; allowed: any other whole number")
    return slice(*parts)
