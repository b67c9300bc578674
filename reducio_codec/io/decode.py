"""Video files through FFmpeg: opened once to learn what they are, then decoded lazily, a frame at a time."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Literal

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from reducio_codec.errors import VideoError
from reducio_codec.io.colour import ColourInfo, ToRgb, describe_colour
from reducio_codec.io.containers import first_line, lacks_seek, open_container, pick_stream
from reducio_codec.io.extent import Extent, ends_stream
from reducio_codec.io.orientation import Orientation, orientation_of_frame
from reducio_codec.io.pipe import Pipe, StoppedError
from reducio_codec.io.timestamps import PtsRepair
from reducio_codec.io.truncation import missing_bytes

logger = logging.getLogger(__name__)

AtDamage = Literal["raise", "stop"]
"""What reading does where a file is damaged: an error, or the video ends there."""

DEFAULT_RATE = Fraction(16)
"""Frames per second of pictures, which carry no time: a 16-frame clip is then one second."""


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What is known about a video before its frames are read."""

    width: int
    """Pixels a row of the frames as they are given, after rotation."""
    height: int
    time_base: Fraction
    """Seconds that one unit of ``pts`` lasts."""
    rate: Fraction
    """Average frames per second, exact (30000/1001 stays 30000/1001)."""
    frames: int | None
    """Frames the header claims; None when it doesn't say. Counting means decoding."""
    duration_s: float | None
    """Seconds the header claims; None when it doesn't say."""
    codec: str
    rotation: int = 0
    """Degrees clockwise that were applied to the stored picture: 0, 90, 180 or 270."""
    sample_aspect_ratio: Fraction = Fraction(1)
    """Width of a pixel over its height. Pixels are never resampled; a writer passes this on."""
    colour: ColourInfo = field(default_factory=ColourInfo)
    has_audio: bool = False
    start: int = 0
    """``pts`` of the first frame."""


@dataclass(frozen=True, kw_only=True)
class VideoFrame:
    """One picture and its time."""

    rgb: npt.NDArray[np.uint8]
    """(H, W, 3) uint8, contiguous."""
    pts: int
    """Time in units of ``VideoInfo.time_base``; strictly increasing, need not start at 0."""
    duration: int
    """How long it is shown, in the same units: until the next frame, or until the video ends."""


class _Damage(Exception):
    """Decoding can't go on; the message says why."""


def _decoder(stream: VideoStream, *, path: Path | Pipe) -> VideoCodecContext:
    context = stream.codec_context
    # Slices only: with frame threads FFmpeg swallows errors when it is flushed, and a cut file lost its last
    # frames without a word. It also needs no threads that outlive an abandoned iterator.
    context.thread_type = "SLICE"
    context.thread_count = 0
    if context.name in ("vp8", "vp9") and stream.metadata.get("alpha_mode", stream.metadata.get("ALPHA_MODE")) == "1":
        # FFmpeg's own VP8 and VP9 decoders drop the alpha plane; libvpx's keep it.
        try:
            return av.CodecContext.create(f"libvpx{'-vp9' if context.name == 'vp9' else ''}", "r")  # type: ignore[return-value]
        except (av.FFmpegError, ValueError):
            logger.warning("%s: this FFmpeg can't decode the transparency of %s; it is ignored", path, context.name)
    return context


def _decode(
    container: InputContainer, stream: VideoStream, *, path: Path | Pipe, extent: Extent
) -> Iterator[av.VideoFrame]:
    """Frames in display order; raises _Damage at the first packet or frame that isn't whole."""
    decoder = _decoder(stream, path=path)
    accepted = skipped = 0
    dts: int | None = None
    packet: av.Packet[VideoStream] | None = None
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                break
            at_end = ends_stream(packet)
            if at_end and not extent.complete and _is_cut(path, extent):  # the end of a file that should go on
                raise _Damage("the file is cut off")
            if packet.is_corrupt:
                raise _Damage("the data is damaged or cut off")
            frames = decoder.decode(packet) if packet.size or at_end else []  # empty: the same picture again
            accepted += 1
            extent.add(packet)
        except (av.FFmpegError, _Damage) as error:
            if accepted == 0 and packet is not None and packet.size:
                skipped += 1  # a piece of a broadcast begins with packets that refer to what isn't there
                continue
            if packet is not None and packet.dts is not None:
                dts = packet.dts
            yield from _drain(decoder, until=dts)
            raise _Damage(first_line(error)) from error
        dts = packet.dts if packet.dts is not None else dts
        for frame in frames:
            if frame.is_corrupt:
                raise _Damage("the picture is incomplete")
            yield frame
    if skipped:
        logger.warning("%s: %d packets before the first whole picture were skipped", path, skipped)
    problem = extent.gap()
    if problem is not None:
        raise _Damage(problem)


def _is_cut(path: Path | Pipe, extent: Extent) -> bool:
    """Whether a file that was read to its end has lost that end. A pipe can say less of itself, but all of it was counted."""
    return missing_bytes(path) > 0 or (isinstance(path, Pipe) and extent.falls_short(path.length))


def _drain(decoder: VideoCodecContext, *, until: int | None) -> Iterator[av.VideoFrame]:
    """Frames that wait in the decoder, up to the decoding time of the first lost packet.

    Later ones may follow on a lost B-frame; no lost frame can be shown before its own decoding time.
    """
    try:
        waiting = decoder.decode(None)
    except av.FFmpegError:
        return
    for frame in waiting:
        if until is None or frame.pts is None or frame.pts > until or frame.is_corrupt:
            return
        yield frame


def _rate(stream: VideoStream) -> Fraction:
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate:
            return Fraction(rate)
    return DEFAULT_RATE


def probe(path: Path) -> tuple[VideoInfo, Orientation]:
    """Opens the file, decodes its first frame, closes it again."""
    with open_container(path) as container:
        stream = pick_stream(container, path=path)
        frames = _decode(container, stream, path=path, extent=Extent(container, stream, path=path))
        return _describe(container, stream, _first(frames, path=path), path=path)


def _first(frames: Iterator[av.VideoFrame], *, path: Path | Pipe) -> av.VideoFrame:
    try:
        first = next(frames, None)
    except _Damage as damage:
        raise VideoError(f"{path} can't be decoded: {damage}{lacks_seek(path)}") from damage
    if first is None:
        raise VideoError(f"{path} has no frames that can be decoded")
    return first


def _describe(
    container: InputContainer, stream: VideoStream, first: av.VideoFrame, *, path: Path | Pipe
) -> tuple[VideoInfo, Orientation]:
    orientation = orientation_of_frame(first)
    if not orientation.exact:
        logger.warning("%s: its rotation isn't a multiple of 90 degrees and is ignored", path)
    pixel = Fraction(stream.sample_aspect_ratio or 1)
    width, height = first.width, first.height
    if orientation.transpose:
        width, height, pixel = height, width, 1 / pixel
    time_base = Fraction(stream.time_base or 1 / _rate(stream))
    seconds = stream.duration * time_base if stream.duration else None
    if seconds is None and container.duration:
        seconds = Fraction(container.duration, av.time_base)
    info = VideoInfo(
        width=width,
        height=height,
        time_base=time_base,
        rate=_rate(stream),
        frames=stream.frames or None,
        duration_s=None if seconds is None else float(seconds),
        codec={"libdav1d": "av1"}.get(stream.codec_context.name, stream.codec_context.name),
        rotation=orientation.degrees,
        sample_aspect_ratio=pixel,
        colour=describe_colour(first, context=stream.codec_context),
        has_audio=bool(container.streams.audio),
        start=PtsRepair(name=str(path), time_base=time_base, rate=_rate(stream))(first.pts, dts=first.dts),
    )
    return info, orientation


def decode_file(
    path: Path, *, info: VideoInfo, orientation: Orientation, start: int = 0, on_error: AtDamage = "raise"
) -> Iterator[VideoFrame]:
    """Frames from number ``start`` on; the ones before it are decoded but not converted."""
    with open_container(path) as container:
        stream = pick_stream(container, path=path)
        extent = Extent(container, stream, path=path)
        frames = _decode(container, stream, path=path, extent=extent)
        convert = ToRgb(name=str(path), codec=info.codec, transfer=int(stream.codec_context.color_trc))
        shown = _timed(frames, path=path, info=info, extent=extent, on_error=on_error)
        for number, (frame, pts, duration) in enumerate(shown):
            if number >= start:
                yield VideoFrame(rgb=orientation.apply(convert(frame)), pts=pts, duration=duration)


@contextmanager
def decode_pipe(pipe: Pipe) -> Iterator[tuple[VideoInfo, Iterator[VideoFrame]]]:
    """What a pipe holds, and its frames, read as they are asked for. Its sound isn't read."""
    try:
        with open_container(pipe) as container:
            stream = pick_stream(container, path=pipe)
            extent = Extent(container, stream, path=pipe)
            decoded = _decode(container, stream, path=pipe, extent=extent)
            first = _first(decoded, path=pipe)
            info, orientation = _describe(container, stream, first, path=pipe)
            convert = ToRgb(name=str(pipe), codec=info.codec, transfer=int(stream.codec_context.color_trc))
            shown = _timed(chain([first], decoded), path=pipe, info=info, extent=extent, on_error="raise")
            yield (
                info,
                (
                    VideoFrame(rgb=orientation.apply(convert(frame)), pts=pts, duration=duration)
                    for frame, pts, duration in shown
                ),
            )
    except StoppedError as stopped:
        raise stopped.__cause__ or stopped from None


def _timed(
    frames: Iterator[av.VideoFrame], *, path: Path | Pipe, info: VideoInfo, extent: Extent, on_error: AtDamage
) -> Iterator[tuple[av.VideoFrame, int, int]]:
    """Each frame with its time and how long it is shown.

    One frame is decoded ahead: only the next one says how long a frame is shown.
    """
    repair = PtsRepair(name=str(path), time_base=info.time_base, rate=info.rate)
    damage: _Damage | None = None
    waiting: tuple[av.VideoFrame, int] | None = None
    count, step = 0, repair.step
    try:
        for frame in frames:
            first = frame if waiting is None else waiting[0]
            if (frame.width, frame.height) != (first.width, first.height):
                size = f"{first.width}x{first.height}"
                raise _Damage(f"the next is {frame.width}x{frame.height}, the first was {size}")
            pts = repair(frame.pts, dts=frame.dts)
            if waiting is not None:
                step = pts - waiting[1]
                yield *waiting, step
            waiting = frame, pts
            count += 1
    except _Damage as error:
        damage = error
    if waiting is not None:
        end = None if damage is not None or extent.end is None else extent.end - extent.shift + repair.shift
        last = step if end is None or end <= waiting[1] else end - waiting[1]
        yield *waiting, last
    if damage is not None:
        message = f"{path}: only the first {count} frames can be read: {damage}"
        if on_error == "raise":
            raise VideoError(message) from damage
        logger.warning("%s; the rest is left out", message)
