"""Where frames come from when a file is made: a video, or anything that gives frames."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from reducio_codec.clips.forms import frames_of
from reducio_codec.clips.streams import FrameClip, cut_clips
from reducio_codec.errors import InputError
from reducio_codec.io.audio import AudioTrack, read_audio
from reducio_codec.io.colour import ColourInfo
from reducio_codec.io.decode import VideoFrame
from reducio_codec.io.pipe import stream_name
from reducio_codec.io.video import open_stream, open_video

logger = logging.getLogger(__name__)

Rate = Fraction | float | int


@dataclass(frozen=True, kw_only=True, eq=False)
class TimedClip:
    """A clip, and when its frames are shown, in ticks."""

    clip: FrameClip
    times: Sequence[int]
    """Of each frame."""
    end: int
    """When the last one stops being shown."""

    def seconds(self, time_base: Fraction) -> Fraction:
        """How long it lasts."""
        return (self.end - self.times[0]) * time_base


@dataclass(frozen=True, kw_only=True)
class FrameSource:
    """Frames with exact times, and what else a video carries."""

    frames: Iterator[VideoFrame]
    time_base: Fraction
    rate: Fraction
    expected_frames: int | None
    """How many frames there will be, as far as the source knows."""
    audio: AudioTrack | None = None
    colour: ColourInfo | None = None
    """What the source file says about its colours; frames are RGB already."""
    sample_aspect_ratio: Fraction = Fraction(1)

    def clips(self, *, keyframe_index: int) -> Iterator[TimedClip]:
        """Clips of up to 16 frames of one scene."""
        times: list[tuple[int, int]] = []  # of frames that were read, when each is shown and until when

        def pictures() -> Iterator[NDArray[np.uint8]]:
            for frame in self.frames:
                times.append((frame.pts, frame.pts + frame.duration))
                yield frame.rgb

        for clip in cut_clips(pictures(), keyframe_index=keyframe_index, at_scenes=True):
            own, times[:] = times[: clip.span.frames], times[clip.span.frames :]
            yield TimedClip(clip=clip, times=tuple(when for when, _ in own), end=own[-1][1])


@contextmanager
def open_source(
    src: str | os.PathLike[str] | Iterable[Any], *, rate: Rate | None = None, audio: bool = True
) -> Iterator[FrameSource]:
    """A video file, a folder of pictures, a binary file object or pipe that gives a video, or a video in any form of
    ``forms.as_video``.

    Args:
        src: the video; frames need ``rate``, and are read one by one. A file object is read once; its sound isn't.
        rate: frames per second of frames or a folder; a video file has its own.
        audio: read the sound of a file.
    """
    if isinstance(src, str | os.PathLike):
        with ExitStack() as stack:
            reader = stack.enter_context(open_video(src, rate=None if rate is None else exact_rate(rate)))
            info = reader.info
            track = read_audio(src) if audio and info.has_audio else None
            stack.callback(lambda: None if track is None else track.file.close())
            yield FrameSource(
                frames=iter(reader),
                time_base=info.time_base,
                rate=info.rate,
                expected_frames=info.frames,
                audio=track,
                colour=info.colour,
                sample_aspect_ratio=info.sample_aspect_ratio,
            )
        return
    if callable(getattr(src, "read", None)):
        if rate is not None:
            raise InputError(
                f"rate is {rate}, but a video has its own times; rate is for frames and folders of pictures"
            )
        with open_stream(cast(BinaryIO, src)) as (info, pictures):
            if audio and info.has_audio:
                logger.warning("%s: its sound is left out, since it is read only once", stream_name(src))
            yield FrameSource(
                frames=pictures,
                time_base=info.time_base,
                rate=info.rate,
                expected_frames=None,
                colour=info.colour,
                sample_aspect_ratio=info.sample_aspect_ratio,
            )
        return
    if rate is None:
        if not isinstance(src, Iterable) or isinstance(src, bytes | bytearray):
            raise InputError(f"source is a {type(src).__name__}; allowed: a path, or frames with rate=")
        raise InputError("frames carry no times; give rate= (frames per second)")
    exact = exact_rate(rate)
    yield FrameSource(
        frames=(VideoFrame(rgb=frame, pts=number, duration=1) for number, frame in enumerate(frames_of(src))),
        time_base=1 / exact,
        rate=exact,
        expected_frames=len(src) if isinstance(src, Sized) and not hasattr(src, "shape") else None,
    )


def stream_frames(path: str | os.PathLike[str]) -> Iterator[NDArray[np.uint8]]:
    """The frames of a video file or a folder of pictures, one by one; what can't be opened is refused at the call."""
    opened = ExitStack()
    source = opened.enter_context(open_source(path, audio=False))

    def frames() -> Iterator[NDArray[np.uint8]]:
        with opened:
            for frame in source.frames:
                yield frame.rgb

    return frames()


def exact_rate(rate: Rate) -> Fraction:
    """29.97 means 30000/1001 and is written so; other floats become the simplest near fraction.

    Raises:
        InputError: not above 0, or no number.
    """
    try:
        exact = Fraction(rate)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"rate is {rate!r}; allowed: frames per second above 0") from error
    if exact <= 0:
        raise InputError(f"rate is {rate!r}; allowed: frames per second above 0")
    if isinstance(rate, float):
        ntsc = Fraction(round(exact * 1001 / 1000) * 1000, 1001)
        exact = ntsc if abs(ntsc - exact) < Fraction(1, 200) and exact.denominator != 1 else exact
        exact = exact.limit_denominator(100_000)
        if not exact:
            raise InputError(f"rate is {rate!r}; allowed: frames per second of 0.00001 or more")
    return exact
