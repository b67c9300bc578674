"""Video files through FFmpeg: opened once to learn what they are, then decoded lazily, a frame at a time."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from reducio_codec.errors import VideoError
from reducio_codec.io.colour import ColourInfo, ToRgb, describe_colour
from reducio_codec.io.orientation import Orientation, orientation_of_frame
from reducio_codec.io.timestamps import PtsRepair
from reducio_codec.io.truncation import missing_bytes

logger = logging.getLogger(__name__)

OnError = Literal["raise", "stop"]

DEFAULT_RATE = Fraction(16)
"""Frames per second of pictures, which carry no time: a 16-frame clip is then one second."""

# Demuxers that turn text into pictures: a mistaken argument must not become a "video".
_TEXT_FORMATS = ("tty", "bin", "xbin", "adf", "idf")


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


@dataclass(frozen=True, kw_only=True)
class VideoFrame:
    """One picture and its time."""

    rgb: npt.NDArray[np.uint8]
    """(H, W, 3) uint8, contiguous."""
    pts: int
    """Time in units of ``VideoInfo.time_base``; strictly increasing, need not start at 0."""


_LENIENT: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}
"""Titles that aren't UTF-8 must not stop a video; from PyAV 19 on they don't, and the argument is gone."""

_COVER_ART = 0x400  # AV_DISPOSITION_ATTACHED_PIC


class _Damage(Exception):
    """Decoding can't go on; the message says why."""


def first_line(error: BaseException) -> str:
    """What FFmpeg says, without the error number and the path that our own message repeats."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]


@contextmanager
def open_container(path: Path) -> Iterator[InputContainer]:
    """The open file; closed at the end whatever happens. Addresses in a playlist are not followed, only local files."""
    try:
        # "file:" keeps a name like "a:b.mp4" from being read as a protocol.
        container = av.open(
            f"file:{path.absolute()}",
            mode="r",
            **_LENIENT,
            container_options={"protocol_whitelist": "file"},
        )
    except av.error.EOFError as error:
        raise VideoError(f"{path} has no frames that can be decoded") from error
    except (av.FFmpegError, ValueError) as error:
        cut = "; the file is cut off" if missing_bytes(path) else ""
        raise VideoError(f"{path} can't be read as a video: {first_line(error)}{cut}") from error
    with container:
        if container.format.name in _TEXT_FORMATS:
            raise VideoError(f"{path} is text, not a video")
        yield container


def moving_picture(container: InputContainer) -> VideoStream | None:
    """The first video stream that isn't the cover art of a sound file."""
    for stream in container.streams.video:
        disposition = getattr(stream, "disposition", 0)  # a Flag, an IntFlag or absent, by PyAV's version
        if not getattr(disposition, "value", disposition) & _COVER_ART:
            return stream
    return None


def pick_stream(container: InputContainer, *, path: Path) -> VideoStream:
    """The stream to decode, or the reason why there is none."""
    stream = moving_picture(container)
    if stream is not None:
        return stream
    what = "only sound" if container.streams.audio else "no video stream"
    raise VideoError(f"{path} has {what}; a video is needed")


def _decoder(stream: VideoStream, *, path: Path) -> VideoCodecContext:
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


def _decode(container: InputContainer, stream: VideoStream, *, path: Path) -> Iterator[av.VideoFrame]:
    """Frames in display order; raises _Damage at the first packet or frame that isn't whole."""
    decoder = _decoder(stream, path=path)
    whole = missing_bytes(path) == 0
    accepted = skipped = 0
    dts: int | None = None
    last: av.VideoFrame | None = None
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                break
            if not packet.size and not whole:  # the end of a file that should go on
                raise _Damage("the file is cut off")
            if packet.is_corrupt:
                raise _Damage("the data is damaged or cut off")
            frames = decoder.decode(packet)
            accepted += 1
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
            last = frame
    if skipped:
        logger.warning("%s: %d packets before the first whole picture were skipped", path, skipped)
    if last is not None:
        _check_length(stream, last)


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


def _check_length(stream: VideoStream, last: av.VideoFrame) -> None:
    """FFmpeg skips a damaged stretch of a Matroska file silently, to the end if need be; its header knows better."""
    tag = next((value for key, value in stream.metadata.items() if key.upper().startswith("DURATION")), "")
    match = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", tag.strip())
    if match is None or last.pts is None or stream.time_base is None:
        return
    hours, minutes, seconds = match.groups()
    claimed = int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
    end = last.pts * stream.time_base
    if end + max(Fraction(1, 2), 3 / _rate(stream)) < claimed:
        raise _Damage(f"the last is at {float(end):.2f} s, but the header says {float(claimed):.2f} s")


def _rate(stream: VideoStream) -> Fraction:
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate:
            return Fraction(rate)
    return DEFAULT_RATE


def probe(path: Path) -> tuple[VideoInfo, Orientation]:
    """Opens the file, decodes its first frame, closes it again."""
    with open_container(path) as container:
        stream = pick_stream(container, path=path)
        frames = _decode(container, stream, path=path)
        try:
            first = next(frames, None)
        except _Damage as damage:
            raise VideoError(f"{path} can't be decoded: {damage}") from damage
        if first is None:
            raise VideoError(f"{path} has no frames that can be decoded")
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
        )
    return info, orientation


def decode_file(
    path: Path, *, info: VideoInfo, orientation: Orientation, start: int = 0, on_error: OnError = "raise"
) -> Iterator[VideoFrame]:
    """Frames from number ``start`` on; the ones before it are decoded but not converted."""
    repair = PtsRepair(name=str(path), time_base=info.time_base, rate=info.rate)
    count = 0
    with open_container(path) as container:
        stream = pick_stream(container, path=path)
        convert = ToRgb(name=str(path), codec=info.codec, transfer=int(stream.codec_context.color_trc))
        size: tuple[int, int] | None = None
        try:
            for frame in _decode(container, stream, path=path):
                size = size or (frame.width, frame.height)
                if (frame.width, frame.height) != size:
                    raise _Damage(f"the next is {frame.width}x{frame.height}, the first was {size[0]}x{size[1]}")
                pts = repair(frame.pts, dts=frame.dts)
                if count >= start:
                    yield VideoFrame(rgb=orientation.apply(convert(frame)), pts=pts)
                count += 1
        except _Damage as damage:
            message = f"{path}: only the first {count} frames can be read: {damage}"
            if on_error == "raise":
                raise VideoError(message) from damage
            logger.warning("%s; the rest is left out", message)
