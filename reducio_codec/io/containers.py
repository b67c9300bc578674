"""Files opened with FFmpeg, and which of their streams is the picture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from reducio_codec.errors import ReducioError, VideoError
from reducio_codec.io.pipe import Pipe
from reducio_codec.io.truncation import missing_bytes

# Demuxers that turn text into pictures: a mistaken argument must not become a "video".
_TEXT_FORMATS = ("tty", "bin", "xbin", "adf", "idf")

_LENIENT: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}
"""Titles that aren't UTF-8 must not stop a video; from PyAV 19 on they don't, and the argument is gone."""

_OPTIONS = {
    "protocol_whitelist": "file",
    "pattern_type": "none",  # a name is a name: for some pictures FFmpeg takes "%d" in it for many numbered files
}

_PIPE_OPTIONS = {**_OPTIONS, "protocol_whitelist": ""}

# AV_DISPOSITION_*
_DEFAULT, _COVER_ART, _TILE = 0x1, 0x400, 0x80000


def first_line(error: BaseException) -> str:
    """What FFmpeg says, without the error number and the path that our own message repeats."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]


@contextmanager
def open_container(path: Path | Pipe) -> Iterator[InputContainer]:
    """The open file; closed at the end whatever happens. Addresses in a playlist are not followed, only local files, and of a
    pipe's nothing."""
    try:
        # "file:" keeps a name like "a:b.mp4" from being read as a protocol.
        container = av.open(
            path if isinstance(path, Pipe) else f"file:{path.absolute()}",
            mode="r",
            **_LENIENT,
            container_options=_PIPE_OPTIONS if isinstance(path, Pipe) else _OPTIONS,
        )
    except ReducioError:  # of a pipe
        raise
    except av.error.EOFError as error:
        raise VideoError(f"{path} has no frames that can be decoded") from error
    except (av.FFmpegError, ValueError) as error:
        cut = "; the file is cut off" if missing_bytes(path) else ""
        raise VideoError(f"{path} can't be read as a video: {first_line(error)}{cut}{lacks_seek(path)}") from error
    with container:
        if container.format.name in _TEXT_FORMATS:
            raise VideoError(f"{path} is text, not a video")
        yield container


def lacks_seek(path: Path | Pipe) -> str:
    """What else to say of a pipe that can't be read; nothing of others."""
    if isinstance(path, Pipe) and path.seek is None and path.head[4:8] == b"ftyp":
        return "; MP4 with its index at the end can't be piped: give the file's name, redirect it (< FILE) or pipe Y4M"
    return ""


def moving_picture(container: InputContainer) -> VideoStream | None:
    """The video stream that players show: the default one, else the first. Cover art of a sound file is none."""
    found = [stream for stream in container.streams.video if not _disposition(stream) & _COVER_ART]
    # a stream of a codec that FFmpeg doesn't know has no decoder; another may have one
    usable = [stream for stream in found if has_decoder(stream)] or found
    default = [stream for stream in usable if _disposition(stream) & _DEFAULT]
    return next(iter(default or usable), None)


def has_decoder(stream: Stream) -> bool:
    """Whether this FFmpeg knows the stream's codec; where it doesn't, PyAV gives the stream no codec context."""
    return stream.codec_context is not None


def _disposition(stream: Stream) -> int:
    disposition = getattr(stream, "disposition", 0)  # a Flag, an IntFlag or absent, by PyAV's version
    return int(getattr(disposition, "value", disposition))


def pick_stream(container: InputContainer, *, path: Path | Pipe) -> VideoStream:
    """The stream to decode, or the reason why there is none."""
    stream = moving_picture(container)
    if stream is None:
        what = "only sound" if container.streams.audio else "no video stream"
        raise VideoError(f"{path} has {what}; a video is needed")
    if not has_decoder(stream):
        raise VideoError(f"{path}: its picture is coded in a way that FFmpeg can't decode")
    if _disposition(stream) & _TILE:
        raise VideoError(
            f"{path} is a picture made of tiles, which can't be put together here; convert it to PNG or AVIF"
        )
    return stream
