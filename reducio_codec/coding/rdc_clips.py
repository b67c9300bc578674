"""An open ``.rdc`` file with its model, clip by clip."""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reducio_codec.clips.latent import Latent
from reducio_codec.clips.references import Reference
from reducio_codec.clips.spans import ClipSpan, plan_clips
from reducio_codec.clips.streams import EncodedClip, decode_clip, join_clips
from reducio_codec.coding.engine import Engine
from reducio_codec.coding.frame_batch import seconds_of
from reducio_codec.coding.gallery import Gallery
from reducio_codec.errors import FormatError, InputError
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


class RdcClips:
    """What is in a file, and what each of its clips decodes to by itself. ``close``, or the end of a ``with`` block, closes the
    file.

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

    @cached_property
    def frame_times(self) -> NDArray[np.float64]:
        """When each frame begins to be shown, and when the last one ends: ``(frames + 1,)`` seconds from 0 on, ascending."""
        ticks = [time for index in range(self.clips) for time in self.times(self.record(index))]
        ticks.append(self.end(self.record(self.clips - 1)))
        return seconds_of(ticks, time_base=self.header.time_base)

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
