"""The file that is made: its header from the first clip, then clip after clip, counted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from fractions import Fraction
from typing import BinaryIO

from reducio_codec.clips.sources import FrameSource, TimedClip
from reducio_codec.coding.engine import Engine
from reducio_codec.coding.pictures import CodedPictures
from reducio_codec.coding.report import CompressReport
from reducio_codec.errors import FormatError, InputError
from reducio_codec.io.audio import AudioTrack
from reducio_codec.rdc.header import RdcHeader
from reducio_codec.rdc.ranges import KeyframeCodec, step_units
from reducio_codec.rdc.timing import Clock, clock_of_header, fit_clock, near_rate
from reducio_codec.rdc.writer import RdcWriter

_AUDIO_BLOCK = 1 << 20


class Output:
    """Writes clips and sound, and counts them. Nothing is written before the first clip is known.

    Args:
        engine: whose model the file names.
        source: where the clips come from.
        first: the first one, of which the file's clock is guessed.
        step: quantiser step in units; clips may have another.
        references: key frames for each clip that the file is made for.
    """

    def __init__(
        self,
        file: BinaryIO,
        *,
        engine: Engine,
        source: FrameSource,
        first: TimedClip,
        step: int,
        codec: KeyframeCodec,
        references: int,
    ) -> None:
        self._clock = fit_clock(first.times, time_base=source.time_base, rate=source.rate)
        self.header = _header(engine, source, first, clock=self._clock, step=step, codec=codec, references=references)
        self._writer = RdcWriter(file, self.header)
        self.frames = self.clips = self.keyframes = self.keyframe_bytes = self.latent_bytes = self.audio_bytes = 0
        self.end = self.header.start
        """When the last picture so far stops being shown, in ticks."""
        self._last_time = self.end

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._writer.size

    @property
    def duration(self) -> Fraction:
        """Seconds of video so far."""
        return (self.end - self.header.start) * self.header.time_base

    def write(self, clip: TimedClip, number: int, *, pictures: CodedPictures, latent: bytes, step: float) -> None:
        """The next clip, ``number`` of the group that ``pictures`` are of."""
        seen, inside = pictures.seen, pictures.inside(number)
        for place in inside:
            after = seen[place - 1].frame if place and pictures.together else None
            self._writer.write_picture(pictures.coded[place], frame=seen[place].frame, after=after)
        self._writer.write_clip(
            frames=len(clip.times),
            latent_bytes=latent,
            references=len(inside),
            lead=clip.clip.span.lead,
            timestamps=self._unexpected(clip.times),
            step=step_units(step),
            cut=pictures.cuts[number],
        )
        self.frames += len(clip.times)
        self.clips += 1
        self.keyframes += len(inside)
        self.keyframe_bytes += sum(len(pictures.coded[place]) for place in inside)
        self.latent_bytes += len(latent)
        self._last_time, self.end = clip.times[-1], clip.end

    def write_audio(self, track: AudioTrack) -> None:
        """All of it."""
        track.file.seek(0)
        while block := track.file.read(_AUDIO_BLOCK):
            self._writer.write_audio(block)
            self.audio_bytes += len(block)

    def close(self) -> None:
        """Write the end of the file, which stays open."""
        expected = clock_of_header(self.header).end(self.frames - 1, time=self._last_time)
        self._writer.close(end=None if self.end == expected else self.end)

    def report(self, *, began: float, audio_codec: str | None = None) -> CompressReport:
        """What is written; ``began`` is when the work did, by ``time.perf_counter``."""
        return CompressReport(
            width=self.header.width,
            height=self.header.height,
            frames=self.frames,
            clips=self.clips,
            duration=self.duration,
            bytes=self.size,
            keyframe_bytes=self.keyframe_bytes,
            latent_bytes=self.latent_bytes,
            audio_bytes=self.audio_bytes,
            audio_codec=audio_codec,
            elapsed_s=time.perf_counter() - began,
        )

    def _unexpected(self, times: Sequence[int]) -> Sequence[int] | None:
        """Times that the clock doesn't foretell."""
        guess = None if self._clock is None else self._clock.times(self.frames, len(times))
        return None if guess == list(times) else times


def _header(
    engine: Engine,
    source: FrameSource,
    first: TimedClip,
    *,
    clock: Clock | None,
    step: int,
    codec: KeyframeCodec,
    references: int,
) -> RdcHeader:
    _, height, width, _ = first.clip.frames.shape
    rate = (len(first.times) / first.seconds(source.time_base)).limit_denominator(1000) or source.rate
    duration, rate = 0, near_rate(rate)
    if clock is not None:
        duration = max(1, round(clock.step))
        # a whole number of ticks says all; else the rate says what the ticks round
        rate = Fraction(0) if clock.step == duration else 1 / (clock.step * source.time_base)
    try:
        return RdcHeader(
            model=engine.model_id,
            version=engine.version,
            latent_space=engine.latent_hash,
            width=width,
            height=height,
            time_base=source.time_base,
            frame_duration=duration,
            start=first.times[0],
            step=step,
            keyframe_codec=codec,
            latent=(engine.runner.latent_channels, engine.runner.latent_frames),
            sample_aspect_ratio=source.sample_aspect_ratio,
            rate=rate,
            references=references,
        )
    except FormatError as error:  # what a file can't say isn't allowed as input
        raise InputError(str(error)) from error
