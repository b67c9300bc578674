"""An open ``.rdc`` file with its model: any clip by its number."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, BinaryIO, cast

import numpy as np
import torch
from numpy.typing import NDArray

from reducio_codec.clips.references import Reference
from reducio_codec.clips.spans import Cut, clip_span, own_keyframe
from reducio_codec.clips.streams import EncodedClip, decode_clip
from reducio_codec.coding.engine import Engine
from reducio_codec.config import CLIP_LENGTH
from reducio_codec.errors import FormatError, InputError, WeightsError
from reducio_codec.io.audio import AudioTrack
from reducio_codec.io.files import check_input
from reducio_codec.models.contract import choose_decoder
from reducio_codec.rdc.container import ClipRecord, KeyframeRecord, RdcReader
from reducio_codec.rdc.keyframe import decode_keyframe
from reducio_codec.rdc.tables import UNIT
from reducio_codec.rdc.timing import clock_of_header, mean_rate

_AUDIO_IN_MEMORY = 16 << 20

_LEAST_CLIP_BYTES = 8
"""The head of a clip's latent record alone is longer."""


class RdcVideo:
    """What is in a file, and what its clips decode to. Get one from ``ReducioCodec.open_file``.

    Raises:
        FormatError: not an ``.rdc`` file, or its header is damaged. WeightsError: it needs another model.
    """

    def __init__(self, file: BinaryIO, *, engine: Engine) -> None:
        self._engine = engine
        self._reader = RdcReader(file)
        self.header = self._reader.header
        _check_model(self._reader, engine)
        self.clips = self._reader.clips
        size = sum(self.bytes_by_part().values())
        if not self.clips:
            raise FormatError("the file holds no clip")
        if self.clips * _LEAST_CLIP_BYTES > size:  # concealing them all would take forever
            raise FormatError(f"the file claims {self.clips} clips; its {size} bytes can't hold them")
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
        self._references: dict[int, Reference] = {}  # of the clips around the last one decoded

    @property
    def damage(self) -> tuple[str, ...]:
        """What is wrong with the file as a whole; damage to single clips shows when they are read."""
        return tuple(self._reader.damage)

    def bytes_by_part(self) -> dict[str, int]:
        """Where the file's bytes go."""
        return self._reader.byte_report()

    def record(self, index: int) -> ClipRecord:
        """A clip as it lies in the file, damage included."""
        return self._reader.read_clip(index)

    def times(self, record: ClipRecord) -> list[int]:
        """Time of each of a clip's frames, in ticks of ``header.time_base``."""
        if record.timestamps is not None:
            return list(record.timestamps)
        return self._clock.times(CLIP_LENGTH * record.index, record.frames)

    def end(self, record: ClipRecord) -> int:
        """When a clip's last frame stops being shown, in ticks of ``header.time_base``."""
        last = self.times(record)[-1]
        if record.index + 1 < self.clips:
            end = self.times(self.record(record.index + 1))[0]
        else:
            number = CLIP_LENGTH * record.index + record.frames - 1
            end = self._clock.end(number, time=last) if self._reader.end is None else self._reader.end
        return max(end, last + 1)  # a time that was lost is guessed, and a guess may fall behind

    def keyframe(self, record: KeyframeRecord) -> NDArray[np.uint8]:
        """A clip's key frame ``(H, W, 3)``; FormatError if it is damaged."""
        if record.keyframe is None:
            raise FormatError(f"clip {record.index}: its keyframe record is damaged or missing")
        header = self.header
        try:
            return decode_keyframe(
                record.keyframe,
                codec=header.keyframe_codec,
                width=header.width,
                height=header.height,
                place=record.keyframe_place,
            )
        except FormatError as error:
            raise FormatError(f"clip {record.index}: {error}") from error

    def clip(self, record: ClipRecord) -> EncodedClip:
        """A clip ready to decode; FormatError if any of it is damaged."""
        if record.damage:
            raise FormatError(record.damage[0])
        keyframe = self.keyframe(record)
        assert record.latent is not None
        coder, step = self._engine.coder, record.step / UNIT
        shape = (*self.header.latent, *self._engine.runner.grid(self.header.height, self.header.width))
        try:
            symbols = coder.decode(record.latent, shape, step=step)
        except FormatError as error:
            raise FormatError(f"clip {record.index}: {error}") from error
        own = own_keyframe(record.frames, keyframe_index=record.keyframe_index)
        start = CLIP_LENGTH * record.index
        return EncodedClip(
            index=record.index,
            latent=torch.from_numpy(coder.dequantize(symbols, step=step)),
            references=(Reference(frame=start + own, picture=keyframe),),
            span=clip_span(start=start, frames=record.frames, keyframe_index=record.keyframe_index),
            size=(self.header.height, self.header.width),
            cut=self._reader.cut(record.index),
        )

    def choose_decoder(self, decoder: str | None = None, references: int | None = None) -> str:
        """The decoder that is meant, see ``models.contract.choose_decoder``. By default a file that doesn't say where its
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
        """Frames of clip ``index``: ``(n, H, W, 3)`` uint8. Reads this clip's records and, for a decoder of two references,
        the key-frame records of the clips beside it.

        Args:
            decoder, references: see :meth:`choose_decoder`.
            lost: told of each neighbour's key frame that is damaged; the clip is then decoded without it.

        Raises:
            FormatError: the clip is damaged, or, without ``lost``, a key frame beside it that it would use.
        """
        name = self.choose_decoder(decoder, references)
        clip = self.clip(self.record(index))
        beside: list[Reference] = []
        if self._engine.runner.model.decoder(name).uses_neighbours:
            kept = {number: found for number, found in self._references.items() if abs(number - index) <= 1}
            self._references = {**kept, index: clip.references[0]}
            cuts = (self._reader.cut(index) & Cut.BACKWARD, self._reader.cut(index + 1) & Cut.FORWARD)
            for other, cut in zip((index - 1, index + 1), cuts, strict=True):
                if cut or not 0 <= other < self.clips:
                    continue
                try:
                    beside.append(self._reference(other))
                except FormatError as error:
                    if lost is None:
                        raise FormatError(
                            f"{error}; clip {index} uses that key frame, with references=1 not"
                        ) from error
                    lost(f"{error}; clip {index} is decoded without it")
        return decode_clip(self._engine.runner, clip, decoder=name, beside=beside)

    def _reference(self, index: int) -> Reference:
        """A clip's key frame for its neighbours; the three last used are kept, as each serves three clips."""
        if index not in self._references:
            record = self._reader.read_keyframe(index)
            own = own_keyframe(record.frames, keyframe_index=record.keyframe_index)
            self._references[index] = Reference(picture=self.keyframe(record), frame=CLIP_LENGTH * index + own)
        return self._references[index]

    def conceal_clip(self, index: int) -> tuple[NDArray[np.uint8], str]:
        """Stand-in frames ``(n, H, W, 3)`` for a damaged clip, and what they are: the nearest key frame, repeated.

        Raises:
            FormatError: no key frame in the file is intact.
        """
        frames = self.record(index).frames
        for other in sorted(range(self.clips), key=lambda number: abs(number - index)):
            try:
                picture = self.keyframe(self._reader.read_keyframe(other))
            except FormatError:
                continue
            shown = "its own key frame" if other == index else f"the key frame of clip {other}"
            return np.broadcast_to(picture, (frames, *picture.shape)), shown
        raise FormatError("no key frame in the file is intact, so nothing can be shown")

    def audio(self) -> AudioTrack | None:
        """The sound, or None; VideoError if it is damaged."""
        file = cast(IO[bytes], tempfile.SpooledTemporaryFile(max_size=_AUDIO_IN_MEMORY))  # noqa: SIM115  # track keeps it
        for chunk in self._reader.audio():
            file.write(chunk)
        return AudioTrack.from_file(file) if file.tell() else None


@contextmanager
def open_rdc(src: str | os.PathLike[str] | BinaryIO, *, engine: Engine) -> Iterator[RdcVideo]:
    """A path or a binary file object as an :class:`RdcVideo`."""
    if isinstance(src, str | os.PathLike):
        path = check_input(src)
        if path.is_dir():
            raise InputError(f"{path} is a folder; allowed: an .rdc file")
        with path.open("rb") as file:
            yield _named(file, str(path), engine=engine)
    elif callable(getattr(src, "read", None)):
        yield _named(src, str(getattr(src, "name", "the input")), engine=engine)
    else:
        raise InputError(f"source is a {type(src).__name__}; allowed: a path or a binary file object")


def _named(file: BinaryIO, name: str, *, engine: Engine) -> RdcVideo:
    try:
        return RdcVideo(file, engine=engine)
    except (FormatError, WeightsError) as error:
        raise type(error)(f"{name}: {error}") from error


def _check_model(reader: RdcReader, engine: Engine) -> None:
    header = reader.header
    if header.model_hash != engine.latent_hash:
        other = "another version of it" if header.model == engine.model_id else f"{engine.model_id!r}"
        raise WeightsError(
            f"the file needs model {header.model!r} (hash {header.model_hash}); "
            f"loaded is {other} (hash {engine.latent_hash})"
        )
    found = (engine.runner.latent_channels, engine.runner.latent_frames)
    if header.latent != found:
        raise FormatError(f"the file's latent has {header.latent} channels and times; its model has {found}")
