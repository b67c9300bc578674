"""``.rdc`` file to video, clip by clip."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from reducio_codec.coding.beside import Beside
from reducio_codec.coding.compress import Progress
from reducio_codec.coding.engine import Engine
from reducio_codec.coding.open_rdc import open_rdc
from reducio_codec.coding.rdc_clips import as_whole
from reducio_codec.coding.rdc_video import RdcVideo
from reducio_codec.coding.report import DecompressReport
from reducio_codec.config import CLIP_LENGTH, check_choice
from reducio_codec.errors import FormatError, InputError, VideoError
from reducio_codec.io.audio import AudioTrack
from reducio_codec.io.writer import VideoWriter
from reducio_codec.io.y4m import PixelFormat

OnError = Literal["raise", "conceal"]
ON_ERROR: tuple[OnError, ...] = ("raise", "conceal")

LONGEST = (1 << 31) - 1
"""Seconds of a video (68 years)."""


@dataclass
class Damage:
    """What went wrong so far, and what to do about it."""

    conceal: bool
    problems: list[str] = field(default_factory=list)
    clips: list[int] = field(default_factory=list)

    def report(self, message: str) -> None:
        """Note it, or stop."""
        if not self.conceal:
            raise FormatError(f"{message} (on_error='conceal' shows the nearest key frame instead)")
        self.problems.append(message)


TimedFrame = tuple[NDArray[np.uint8], int, int]
"""A frame ``(H, W, 3)``, its time and how long it is shown."""


def decoded_clips(
    video: RdcVideo,
    *,
    decoder: str | None = None,
    references: int | None = None,
    damage: Damage,
    start: int = 0,
    frames: int | None = None,
) -> Iterator[list[TimedFrame]]:
    """The frames of one clip after another, from frame ``start`` on; holds one clip."""
    last_time: int | None = None
    left = video.frames - start if frames is None else frames
    first = video.clip_at(start)
    skip = start - video.record(first).start
    for index in range(first, video.clips):
        if left <= 0:
            return
        record = video.record(index)
        try:
            pictures = video.shown_clip(
                index, decoder=decoder, references=references, lost=damage.report if damage.conceal else None
            )
        except FormatError as error:
            if not damage.conceal:
                damage.report(str(error))
            pictures, shown = video.conceal_clip(index)
            damage.report(f"{error}; {shown} is shown")
            damage.clips.append(index)
        times = video.times(record)
        found: list[TimedFrame] = []
        for picture, when, until in list(zip(pictures, times, [*times[1:], video.end(record)], strict=True))[skip:]:
            # lost times are guessed, and a guess may fall behind what was shown
            last_time = when if last_time is None else max(when, last_time + 1)
            found.append((picture, last_time, max(1, until - last_time)))
        yield found[:left]
        left -= len(found)
        skip = 0


def decompress(
    engine: Engine,
    src: str | os.PathLike[str] | BinaryIO,
    dst: str | os.PathLike[str] | BinaryIO,
    *,
    decoder: str | None = None,
    references: int | None = None,
    lossless: bool = False,
    pixel_format: PixelFormat | None = None,
    replace: bool = False,
    on_error: OnError = "raise",
    start: int = 0,
    frames: int | None = None,
    progress: Progress | None = None,
) -> DecompressReport:
    """See :meth:`reducio_codec.codec.ReducioCodec.decompress`."""
    began = time.perf_counter()
    check_choice(on_error, name="on_error", allowed=ON_ERROR)
    inputs = (Path(src),) if isinstance(src, str | os.PathLike) else ()
    with ExitStack() as stack:
        video = stack.enter_context(open_rdc(src, engine=engine))
        chosen = video.choose_decoder(decoder, references)
        damage = Damage(conceal=on_error == "conceal")
        for message in video.damage:
            damage.report(message)
        _check_length(video)
        start, total = _check_part(video, start=start, frames=frames)
        sound = _audio(video, damage=damage) if total == video.frames else None
        writer = stack.enter_context(
            VideoWriter(
                dst,
                width=video.header.width,
                height=video.header.height,
                time_base=video.header.time_base,
                rate=video.rate,
                lossless=lossless,
                audio=sound,
                sample_aspect_ratio=video.header.sample_aspect_ratio,
                inputs=inputs,
                pixel_format=pixel_format,
                replace=replace,
            )
        )
        clips = decoded_clips(video, **chosen._asdict(), damage=damage, start=start, frames=total)
        _write(clips, writer, total=total, progress=progress)
    return DecompressReport(
        width=video.header.width,
        height=video.header.height,
        frames=total,
        clips=video.clip_at(start + total - 1) - video.clip_at(start) + 1,
        decoder=chosen.decoder,
        elapsed_s=time.perf_counter() - began,
        problems=tuple(damage.problems),
        concealed_clips=tuple(damage.clips),
    )


def _write(clips: Iterator[list[TimedFrame]], writer: VideoWriter, *, total: int, progress: Progress | None) -> None:
    """A clip is written while the next is decoded, where writing it is work."""
    begin: int | None = None

    def write(frame: TimedFrame) -> None:
        nonlocal begin
        picture, when, duration = frame
        begin = when if begin is None else begin  # a broadcast's clock began long ago; a file's begins with it
        writer.write(picture, when - begin, duration=duration)

    done = 0
    buffer: NDArray[np.uint8] | None = None
    with Beside(write) as beside:
        for clip in clips:
            if writer.encodes:
                beside.finish()  # those before it are written now
                if buffer is None:  # one for all: two threads that share a heap would make holes in it
                    buffer = np.empty((CLIP_LENGTH, *clip[0][0].shape), np.uint8)
                held: list[TimedFrame] = []
                for place, (picture, when, duration) in zip(buffer, clip, strict=False):
                    place[:] = picture
                    held.append((place, when, duration))
                beside.start(held)
            if progress is not None and done:
                progress(done, total)
            if not writer.encodes:
                for frame in clip:
                    write(frame)
            done += len(clip)
        beside.finish()
    if progress is not None:
        progress(done, total)


def _check_length(video: RdcVideo) -> None:
    """FormatError for times that are no video's, and that no other file can hold."""
    if video.duration > LONGEST or video.frames / video.duration > LONGEST:
        raise FormatError(
            f"by their times {video.frames} frames last {float(video.duration):.3g} s; "
            f"at most {LONGEST} s, and frames a second, can be written"
        )


def _check_part(video: RdcVideo, *, start: int, frames: int | None) -> tuple[int, int]:
    """The first frame and how many are asked for; InputError unless the video has them."""
    start = as_whole(start, name="start")
    if not 0 <= start < video.frames:
        raise InputError(f"start is {start}; the video has frames 0 to {video.frames - 1}")
    if frames is None:
        return start, video.frames - start
    frames = as_whole(frames, name="frames")
    if not 1 <= frames <= video.frames - start:
        raise InputError(f"frames is {frames}; from frame {start} on the video has {video.frames - start}")
    return start, frames


def _audio(video: RdcVideo, *, damage: Damage) -> AudioTrack | None:
    try:
        return video.audio()
    except VideoError as error:
        damage.report(f"the sound is left out: {error}")
        return None
