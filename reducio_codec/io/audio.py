"""The sound of a video, carried unchanged: the first audio stream's packets in a small Matroska file.

Matroska rounds times to milliseconds, so three things are kept beside the packets: the exact offset against the picture and
how much of the beginning isn't heard (tags), and, for codecs with a fixed number of samples a packet (AAC, MP3, Opus, ...),
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
from itertools import islice
from pathlib import Path
from typing import IO, cast

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer

from reducio_codec.errors import VideoError
from reducio_codec.io.containers import first_line, has_decoder, moving_picture, open_container
from reducio_codec.io.decode import VideoInfo, probe
from reducio_codec.io.files import check_input
from reducio_codec.io.images import PICTURE_SUFFIXES
from reducio_codec.io.sound_times import SoundTimes

logger = logging.getLogger(__name__)

SPOOL_BYTES = 16 * 2**20
"""A track larger than this waits in a temporary file instead of in memory."""

_OFFSET_TAG, _LEAD_TAG = "REDUCIO_OFFSET", "REDUCIO_LEAD"

_LARGEST_LEAD = Fraction(1, 10)
"""Seconds of packets before the first that is heard that a decoder may need; what an edit list hides before is left out."""

_PATIENCE = 100
"""Packets in which the first sound is looked for."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AudioTrack:
    """One audio stream, still compressed."""

    codec: str
    sample_rate: int
    channels: int
    offset: Fraction
    """Seconds from the video's first frame to the first audio packet; negative when the sound begins earlier."""
    lead: Fraction = Fraction(0)
    """Seconds of the first packets that aren't heard: the run-in of the encoder, which decoders leave out."""
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
                    offset=_parse_seconds(tags.get(_OFFSET_TAG, "0")),
                    lead=_parse_seconds(tags.get(_LEAD_TAG, "0")),
                    file=file,
                )
        except (av.FFmpegError, ValueError) as error:
            raise VideoError(f"the audio data is damaged: {first_line(error)}") from error


def _parse_seconds(text: str) -> Fraction:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise VideoError(f"the audio data's offset is {text!r}; it must be a fraction of seconds") from None


def read_audio(path: str | os.PathLike[str]) -> AudioTrack | None:
    """The first audio stream of a video file; None when there is none (pictures, GIF, silent video), and, with a logged
    warning, when it is of a codec that FFmpeg or Matroska doesn't know."""
    source = check_input(path)
    if source.is_dir() or source.suffix.lower() in PICTURE_SUFFIXES:
        return None
    try:
        with open_container(source) as container:
            streams = container.streams.audio
            known = [stream for stream in streams if has_decoder(stream)]
            if streams and not known:
                logger.warning("%s: its sound is of a codec that FFmpeg doesn't know; it is left out", source)
            if not known:
                return None
            if len(streams) > 1:
                which = "the first is kept" if known[0] is streams[0] else "the first of a known codec is kept"
                logger.warning("%s has %d audio streams; %s", source, len(streams), which)
            # without a picture it is a sound file
            picture = None if moving_picture(container) is None else probe(source)[0]
            return _copy(container, known[0], path=source, picture=picture)
    except av.FFmpegError as error:
        raise VideoError(f"the sound of {source} can't be read: {first_line(error)}") from error


def _first_heard(path: Path, *, number: int) -> Fraction | None:
    """When a decoder gives the first sound of audio stream ``number``, in seconds of the file; None where it gives none
    soon."""
    with open_container(path) as container:
        source = container.streams.audio[number]
        for packet in islice(container.demux(source), _PATIENCE):
            try:
                frames = source.codec_context.decode(packet)
            except av.FFmpegError:
                continue
            for frame in frames:
                if frame.pts is not None and frame.time_base is not None:
                    return frame.pts * Fraction(frame.time_base)
    return None


def _copy(
    container: InputContainer, source: AudioStream, *, path: Path, picture: VideoInfo | None
) -> AudioTrack | None:
    heard = _first_heard(path, number=container.streams.audio.index(source))
    packets = (
        packet
        for packet in container.demux(source)
        if packet.size
        and not packet.is_corrupt
        and not (packet.is_discard and heard is not None and _seconds(packet) < heard - _LARGEST_LEAD)
    )
    first = next(packets, None)
    if first is None:
        return None
    # of the first frame that can be decoded: a capture that begins between key frames has packets before it
    picture_start = Fraction(0) if picture is None else picture.start * picture.time_base
    begin = first.pts if first.pts is not None else first.dts or 0
    file = cast(IO[bytes], tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES))  # noqa: SIM115  # the track keeps it
    # Bit-exact: no random identifiers, the same sound gives the same bytes.
    with av.open(file, mode="w", format="matroska", options={"fflags": "+bitexact"}) as target:
        target.metadata[_OFFSET_TAG] = str(_seconds(first) - picture_start)
        if heard is not None and heard > _seconds(first):
            target.metadata[_LEAD_TAG] = str(heard - _seconds(first))
        try:
            stream = target.add_stream_from_template(source)
            target.start_encoding()
        except (av.FFmpegError, ValueError):
            name = source.codec_context.name
            logger.warning("%s: its sound, %s, is of a kind that can't be carried; it is left out", path, name)
            return None
        damaged = None
        times = SoundTimes(path, has_picture=picture is not None)
        packet: av.Packet[AudioStream] | None = first
        while packet is not None:
            time = times(packet)
            try:
                if time is not None:
                    # From 0 on: Matroska has no negative times. The offset above undoes the shift.
                    packet.pts = packet.dts = time - begin
                    packet.stream = stream
                    target.mux(packet)
                packet = next(packets, None)
            except (av.error.InvalidDataError, av.error.ArgumentError, av.error.EOFError) as error:
                damaged, packet = error, None
    if damaged is not None:
        logger.warning("%s: the sound is damaged and ends early: %s", path, first_line(damaged))
    return AudioTrack.from_file(file)


def _seconds(packet: av.Packet[AudioStream]) -> Fraction:
    return (packet.pts if packet.pts is not None else packet.dts or 0) * Fraction(packet.time_base)


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

    def heard_from(self, picture_start: Fraction) -> Fraction:
        """When the first sound is heard, in seconds, if the output's first frame is at ``picture_start``."""
        return picture_start + self._track.offset + self._track.lead

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
        last: int | None = None
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
            place = round((self._begin + time) / tick)
            last = place if last is None else max(place, last + 1)  # no format takes one that repeats or falls
            packet.pts = packet.dts = last
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
