"""Video to ``.rdc`` file: clip by clip, so memory doesn't grow with length."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Protocol, get_args

from reducio_codec.clips.inputs import check_keyframe_index
from reducio_codec.clips.references import Reference, for_model
from reducio_codec.clips.refine import Refinement
from reducio_codec.clips.scenes import CutFinder
from reducio_codec.clips.sources import FrameSource, Rate, open_source
from reducio_codec.clips.streams import FrameClip, encode_clip
from reducio_codec.coding.engine import Engine
from reducio_codec.coding.rate_control import KeyframeChoice, RateControl, best_keyframe
from reducio_codec.coding.report import CompressReport
from reducio_codec.config import check_choice
from reducio_codec.errors import FormatError, InputError, VideoError
from reducio_codec.io.audio import AudioTrack
from reducio_codec.io.files import atomic_write, writing_errors
from reducio_codec.rdc.entropy import step_units
from reducio_codec.rdc.header import RdcHeader
from reducio_codec.rdc.keyframe import check_keyframe_codec, check_keyframe_group, code_keyframes
from reducio_codec.rdc.layers.cuts import Cut
from reducio_codec.rdc.ranges import UNIT
from reducio_codec.rdc.timing import Clock, clock_of_header, fit_clock
from reducio_codec.rdc.writer import RdcWriter

_AUDIO_BLOCK = 1 << 20

_GROUP = 4
"""Clips whose key frames are coded together, and so what a damaged record costs and a jump into the file has to decode."""

_GROUP_BYTES = 1 << 28
"""Frames that may wait for it: 4 clips up to 720p, 2 at 1080p, 1 at 4K."""


class Progress(Protocol):
    """Called with the frames done and, where that is known, the frames in all."""

    def __call__(self, done: int, total: int | None, /) -> object: ...


@contextmanager
def open_target(dst: str | os.PathLike[str] | BinaryIO, *, inputs: Iterable[Path]) -> Iterator[BinaryIO]:
    """A file object as it is, or a path through a temporary file that is renamed at the end."""
    if isinstance(dst, str | os.PathLike):
        with atomic_write(dst, inputs=inputs) as file:
            yield file
    elif callable(getattr(dst, "write", None)):
        with writing_errors(str(getattr(dst, "name", "the output"))):
            yield dst
    else:
        raise InputError(f"destination is a {type(dst).__name__}; allowed: a path or a binary file object")


def compress(
    engine: Engine,
    src: str | os.PathLike[str] | Iterable[Any],
    dst: str | os.PathLike[str] | BinaryIO,
    *,
    keyframe_quality: int = 50,
    keyframe_codec: str = "avif",
    latent_step: float = 0.5,
    keyframe_index: int | None = None,
    keyframe: KeyframeChoice = "middle",
    keyframe_group: int | None = None,
    decoder: str | None = None,
    references: int = 1,
    control: RateControl | None = None,
    refinement: Refinement | None = None,
    rate: Rate | None = None,
    audio: bool = True,
    progress: Progress | None = None,
) -> CompressReport:
    """See :meth:`reducio_codec.codec.ReducioCodec.compress`."""
    began = time.perf_counter()
    check_keyframe_codec(keyframe_codec)
    if isinstance(keyframe_quality, bool) or not isinstance(keyframe_quality, int) or not 0 <= keyframe_quality <= 100:
        raise InputError(f"keyframe_quality is {keyframe_quality!r}; allowed: 0 to 100")
    units = step_units(latent_step)
    check_choice(keyframe, name="keyframe", allowed=get_args(KeyframeChoice))
    if keyframe_group is not None:
        check_keyframe_group(keyframe_group, codec=keyframe_codec)
    if control is not None and keyframe_codec == "png":
        raise InputError("a target needs key frames whose quality can be chosen; png is lossless")
    if keyframe == "best" and keyframe_index is not None:
        raise InputError(f"keyframe_index is {keyframe_index}, which keyframe='best' would not keep to")
    index = check_keyframe_index(keyframe_index, default=engine.runner.model.default_keyframe_index)
    inputs = [Path(src)] if isinstance(src, str | os.PathLike) else []
    with open_source(src, rate=rate, audio=audio) as source, open_target(dst, inputs=inputs) as file:
        clips = source.clips(keyframe_index=index)
        first = next(clips, None)
        if first is None:
            raise VideoError(f"{src} has no frames")
        clock = fit_clock(first[1][:-1], time_base=source.time_base, rate=source.rate)
        header = _header(
            engine,
            source,
            first,
            clock=clock,
            step=units,
            codec=keyframe_codec,
            references=references,
        )
        job = _Job(
            engine=engine,
            writer=RdcWriter(file, header),
            header=header,
            clock=clock,
            quality=keyframe_quality,
            best_keyframe=keyframe == "best",
            group=keyframe_group or _group(first[0], codec=keyframe_codec),
            decoder=engine.runner.model.default_decoder if decoder is None else decoder,
            control=control,
            refinement=refinement,
            progress=progress,
            expected=source.expected_frames,
        )
        job.add(*first)
        del first
        for clip, times in clips:
            job.add(clip, times)
        job.flush()
        audio_bytes = 0 if source.audio is None else _copy_audio(job.writer, source.audio)
        expected = clock_of_header(header).end(job.frames - 1, time=job.last_time)
        job.writer.close(end=None if job.end == expected else job.end)
        file.flush()
    report = CompressReport(
        width=header.width,
        height=header.height,
        frames=job.frames,
        clips=job.clips,
        duration=(job.end - header.start) * source.time_base,
        bytes=job.writer.size,
        keyframe_bytes=job.keyframe_bytes,
        latent_bytes=job.latent_bytes,
        audio_bytes=audio_bytes,
        audio_codec=None if source.audio is None else source.audio.codec,
        elapsed_s=time.perf_counter() - began,
    )
    return report if control is None else replace(report, missed=control.missed(report.kbits_per_second))


def _header(
    engine: Engine,
    source: FrameSource,
    first: tuple[FrameClip, list[int]],
    *,
    clock: Clock | None,
    step: int,
    codec: str,
    references: int,
) -> RdcHeader:
    clip, times = first
    _, height, width, _ = clip.frames.shape
    span = (times[-1] - times[0]) * source.time_base
    duration, rate = 0, (len(clip.frames) / span).limit_denominator(1000) or source.rate
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
            start=times[0],
            step=step,
            keyframe_codec=codec,
            latent=(engine.runner.latent_channels, engine.runner.latent_frames),
            sample_aspect_ratio=source.sample_aspect_ratio,
            rate=rate,
            references=references,
        )
    except FormatError as error:  # what a file can't say isn't allowed as input
        raise InputError(str(error)) from error


def _group(clip: FrameClip, *, codec: str) -> int:
    """How many key frames are coded together where nobody said it."""
    if codec != "avif":
        return 1
    return min(_GROUP, max(1, _GROUP_BYTES // clip.frames.nbytes))


class _Job:
    """A file that is being written: takes clips, counts bytes."""

    def __init__(
        self,
        *,
        engine: Engine,
        writer: RdcWriter,
        header: RdcHeader,
        clock: Clock | None,
        quality: int,
        best_keyframe: bool,
        group: int,
        decoder: str,
        control: RateControl | None,
        refinement: Refinement | None,
        progress: Progress | None,
        expected: int | None,
    ) -> None:
        self.writer = writer
        self.frames = self.clips = self.keyframe_bytes = self.latent_bytes = self.last_time = self.end = 0
        self._engine = engine
        self._header = header
        self._clock = clock
        self._cuts = CutFinder() if header.references == 2 else None
        self._quality = quality
        self._best_keyframe = best_keyframe
        self._group = group
        self._last: Reference | None = None  # the key frame of the clip before the group
        self._waiting: list[tuple[FrameClip, list[int]]] = []  # clips whose key frames will be coded together
        self._decoder = decoder
        self._control = control
        self._refinement = refinement
        self._progress = progress
        self._expected = expected

    def add(self, clip: FrameClip, times: list[int]) -> None:
        self._waiting.append((clip, times))
        if len(self._waiting) == self._group:
            self.flush()

    def flush(self) -> None:
        """Write the clips that wait."""
        if not self._waiting:
            return
        engine, codec, waiting = self._engine, self._header.keyframe_codec, self._waiting
        self._waiting = []
        quality, step, before = self._quality, self._header.step / UNIT, self.writer.size
        seconds = float((waiting[-1][1][-1] - waiting[0][1][0]) * self._header.time_base)
        clips = [clip for clip, _ in waiting]
        if self._control is not None:
            quality, step = self._control.choose(engine, clips, codec=codec, seconds=seconds)
        if self._best_keyframe:
            clips = [
                best_keyframe(engine, clip, codec=codec, quality=quality, step=step, decoder=self._decoder)
                for clip in clips
            ]
        # closed loop: the encoder sees the key frame that the decoder will have, so the latent can mend it
        coded, seen = code_keyframes([clip.keyframe for clip in clips], codec=codec, quality=quality)
        self.keyframe_bytes += sum(map(len, coded))
        cuts = [Cut.NONE if self._cuts is None else self._cuts(clip.frames, key=clip.own_keyframe) for clip in clips]
        pictures = [clip.reference(picture) for clip, picture in zip(clips, seen, strict=True)]
        for number, (clip, (_, times)) in enumerate(zip(clips, waiting, strict=True)):
            after = pictures[number - 1].frame if number else None
            self.writer.write_picture(coded[number], frame=pictures[number].frame, after=after)
            self._write(
                clip,
                times[:-1],
                step=step,
                reference=pictures[number],
                cut=cuts[number],
                beside=self._beside(number, pictures=pictures, cuts=cuts),
            )
        self._last = pictures[-1]
        *_, self.last_time, self.end = waiting[-1][1]
        if self._control is not None:
            self._control.spend(self.writer.size - before, seconds=seconds)

    def _beside(self, number: int, *, pictures: Sequence[Reference], cuts: Sequence[Cut]) -> list[Reference]:
        """The key frames beside clip ``number`` of a group, for refinement. That behind the group isn't coded yet: the last
        clip does without it here, and still gains from it when it is decoded."""
        before = self._last if number == 0 else pictures[number - 1]
        behind = None if number + 1 == len(pictures) or cuts[number + 1] & Cut.FORWARD else pictures[number + 1]
        return [item for item in (None if cuts[number] & Cut.BACKWARD else before, behind) if item is not None]

    def _write(
        self,
        clip: FrameClip,
        times: list[int],
        *,
        step: float,
        reference: Reference,
        cut: Cut,
        beside: Sequence[Reference],
    ) -> None:
        """One clip's latent."""
        engine = self._engine
        latent = encode_clip(
            engine.runner,
            clip.padded(),
            references=for_model([reference], beside, span=clip.span),
            span=clip.span,
            refinement=None if self._refinement is None else self._refinement.at(engine.coder.steps(step)),
        )[0]
        motion = engine.coder.encode(engine.coder.quantize(latent.numpy(), step=step), step=step)
        guess = None if self._clock is None else self._clock.times(self.frames, len(times))
        self.writer.write_clip(
            frames=len(times),
            latent_bytes=motion,
            lead=clip.span.lead,
            timestamps=None if guess == times else times,
            step=step_units(step),
            cut=cut,
        )
        self.frames += len(times)
        self.clips += 1
        self.latent_bytes += len(motion)
        if self._progress is not None:
            self._progress(self.frames, self._expected)


def _copy_audio(writer: RdcWriter, track: AudioTrack) -> int:
    track.file.seek(0)
    count = 0
    while block := track.file.read(_AUDIO_BLOCK):
        writer.write_audio(block)
        count += len(block)
    return count
