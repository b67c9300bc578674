"""The sound of a video, carried unchanged: the first audio stream's packets in a small Matroska file.

Nothing is decoded. Matroska rounds times to milliseconds, so two things are kept beside the packets: the exact
offset against the picture (a tag), and, for codecs with a fixed number of samples a packet (AAC, MP3, Opus, ...),
the exact times, which follow from counting samples.
"""

from __future__ import annotations

import io
import logging
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, cast

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer

from reducio_codec.errors import VideoError
from reducio_codec.io.decode import first_line, moving_picture, open_container
from reducio_codec.io.files import check_input
from reducio_codec.io.images import PICTURE_SUFFIXES

logger = logging.getLogger(__name__)

SPOOL_BYTES = 16 * 2**20
"""A track larger than this waits in a temporary file instead of in memory."""

_OFFSET_TAG = "REDUCIO_OFFSET"


@dataclass(frozen=True, kw_only=True, eq=False)
class AudioTrack:
    """One audio stream, still compressed."""

    codec: str
    sample_rate: int
    channels: int
    offset: Fraction
    """Seconds from the video's first frame to the first audio packet; negative when the sound begins earlier."""
    file: IO[bytes]
    """A Matroska file with nothing but this stream."""

    def to_bytes(self) -> bytes:
        """The Matroska file's bytes; ``from_bytes`` reads them back."""
        self.file.seek(0)
        return self.file.read()

    @classmethod
    def from_bytes(cls, data: bytes) -> AudioTrack:
        return cls.from_file(io.BytesIO(data))

    @classmethod
    def from_file(cls, file: IO[bytes]) -> AudioTrack:
        """From a seekable file that holds what ``to_bytes`` gave; the track keeps and reads the file."""
        file.seek(0)
        try:
            with av.open(file, mode="r", format="matroska") as container:
                if not container.streams.audio:
                    raise VideoError("the audio data has no audio stream")
                stream = container.streams.audio[0]
                tags = {**container.metadata, **stream.metadata}
                return cls(
                    codec=stream.codec_context.name,
                    sample_rate=stream.codec_context.sample_rate,
                    channels=stream.codec_context.layout.nb_channels,
                    offset=_parse_offset(tags.get(_OFFSET_TAG, "0")),
                    file=file,
                )
        except (av.FFmpegError, ValueError) as error:
            raise VideoError(f"the audio data is damaged: {first_line(error)}") from error


def _parse_offset(text: str) -> Fraction:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise VideoError(f"the audio data's offset is {text!r}; it must be a fraction of seconds") from None


def read_audio(path: str | os.PathLike[str]) -> AudioTrack | None:
    """The first audio stream of a video file; None when there is none (pictures, GIF, silent video)."""
    source = check_input(path)
    if source.is_dir() or source.suffix.lower() in PICTURE_SUFFIXES:
        return None
    try:
        with open_container(source) as container:
            if not container.streams.audio:
                return None
            if len(container.streams.audio) > 1:
                logger.warning("%s has %d audio streams; the first is kept", source, len(container.streams.audio))
            return _copy(container, container.streams.audio[0], picture_start=_picture_start(container))
    except av.FFmpegError as error:
        raise VideoError(f"the sound of {source} can't be read: {first_line(error)}") from error


def _picture_start(container: InputContainer) -> Fraction:
    """Seconds of the first frame, or 0 for a sound file."""
    stream = moving_picture(container)
    if stream is None:
        return Fraction(0)
    return (stream.start_time or 0) * Fraction(stream.time_base or 1)


def _copy(container: InputContainer, source: AudioStream, *, picture_start: Fraction) -> AudioTrack | None:
    packets = (packet for packet in container.demux(source) if packet.size and not packet.is_corrupt)
    first = next(packets, None)
    if first is None:
        return None
    begin = first.pts if first.pts is not None else first.dts or 0
    offset = begin * Fraction(first.time_base) - picture_start
    file = cast(IO[bytes], tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES))  # noqa: SIM115  # the track keeps it
    # Bit-exact: no random identifiers, the same sound gives the same bytes.
    with av.open(file, mode="w", format="matroska", options={"fflags": "+bitexact"}) as target:
        target.metadata[_OFFSET_TAG] = str(offset)
        stream = target.add_stream_from_template(source)
        damaged = None
        packet: av.Packet[AudioStream] | None = first
        while packet is not None:
            # From 0 on: Matroska has no negative times. The offset above undoes the shift.
            packet.pts = None if packet.pts is None else packet.pts - begin
            packet.dts = None if packet.dts is None else packet.dts - begin
            packet.stream = stream
            target.mux(packet)
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                damaged, packet = error, None
    if damaged is not None:
        logger.warning("%s: the sound is damaged and ends early: %s", _name(container), first_line(damaged))
    return AudioTrack.from_file(file)


def _name(container: InputContainer) -> Path:
    return Path(container.name.removeprefix("file:"))


class AudioCopier:
    """Writes a track's packets into an output container, interleaved with the video by time."""

    def __init__(self, track: AudioTrack, *, target: OutputContainer) -> None:
        track.file.seek(0)
        self._track = track
        self._source = av.open(track.file, mode="r", format="matroska")
        self._stream = target.add_stream_from_template(self._source.streams.audio[0])
        self._target = target
        self._packets = self._timed(self._source.streams.audio[0])
        self._waiting: tuple[Fraction, av.Packet[AudioStream]] | None = None
        self._begin = Fraction(0)

    def start(self, picture_start: Fraction) -> None:
        """``picture_start``: seconds of the output's first frame."""
        self._begin = picture_start + self._track.offset
        self._waiting = next(self._packets, None)

    def copy_until(self, seconds: Fraction | None) -> None:
        """Writes the packets that begin no later than ``seconds``; all that are left for None."""
        while self._waiting is not None and (seconds is None or self._waiting[0] <= seconds):
            self._target.mux(self._waiting[1])
            self._waiting = next(self._packets, None)

    def close(self) -> None:
        self._source.close()

    def _timed(self, source: AudioStream) -> Iterator[tuple[Fraction, av.Packet[AudioStream]]]:
        rate = source.codec_context.sample_rate
        samples = source.codec_context.frame_size
        tick = Fraction(1, rate) if rate > 0 else Fraction(source.time_base or 1)
        expected: Fraction | None = None
        for packet in self._source.demux(source):
            if not packet.size:
                continue
            # Times in the track are whole milliseconds; within one of those the count of samples is the truth.
            time = (packet.pts if packet.pts is not None else packet.dts or 0) * Fraction(packet.time_base)
            if samples > 0 and expected is not None and abs(expected - time) <= Fraction(1, 1000):
                time = expected
            expected = time + samples * tick
            length = samples or round((packet.duration or 0) * Fraction(packet.time_base) / tick)
            packet.time_base = tick
            packet.pts = packet.dts = round((self._begin + time) / tick)
            packet.duration = length
            packet.stream = self._stream
            yield self._begin + time, packet


def can_hold(track: AudioTrack, *, container_format: str) -> bool:
    """Whether a container format takes this codec, found out by writing a header into memory."""
    track.file.seek(0)
    try:
        with av.open(track.file, mode="r", format="matroska") as source:
            scratch = av.open(io.BytesIO(), mode="w", format=container_format)
            try:
                scratch.add_stream_from_template(source.streams.audio[0])
                scratch.start_encoding()
            finally:
                scratch.close()
    except (av.FFmpegError, ValueError):
        return False
    return True
