"""``open_video``: any video file, folder of pictures or single picture as RGB frames with exact times."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, get_args

import numpy as np
import numpy.typing as npt

from reducio_codec.errors import InputError
from reducio_codec.io.decode import AtDamage, VideoFrame, VideoInfo, decode_file, decode_pipe, probe
from reducio_codec.io.files import check_input
from reducio_codec.io.images import PICTURE_SUFFIXES, probe_folder, probe_picture, read_folder, read_picture
from reducio_codec.io.pipe import Pipe


class VideoReader:
    """A video that can be read from its beginning as often as wanted, holding one frame at a time.

    Get one from ``open_video``. Iterating gives ``VideoFrame`` (rgb: (H, W, 3) uint8 contiguous; pts in
    ``info.time_base``, strictly increasing). Closing it closes the iterators that are still open.
    """

    def __init__(self, path: Path, *, info: VideoInfo, read: Callable[..., Iterator[VideoFrame]]) -> None:
        self.path = path
        self.info = info
        self._read = read
        self._open: list[Iterator[VideoFrame]] = []
        self._closed = False

    def __iter__(self) -> Iterator[VideoFrame]:
        return self.frames()

    def frames(self, *, start: int = 0) -> Iterator[VideoFrame]:
        """Frames from number ``start`` on; the ones before it are decoded, but not converted to RGB."""
        if self._closed:
            raise InputError(f"{self.path} is closed; open it again to read it")
        if start < 0:
            raise InputError(f"start is {start}; it must be at least 0")
        source = self._read(start=start)
        self._open.append(source)
        return self._track(source)

    def _track(self, source: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
        try:
            yield from source
        finally:
            if source in self._open:
                self._open.remove(source)

    def close(self) -> None:
        self._closed = True
        for source in self._open:
            source.close()  # type: ignore[attr-defined]  # all are generators
        self._open.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def open_video(
    src: str | os.PathLike[str], *, rate: Fraction | float | None = None, on_error: AtDamage = "raise"
) -> VideoReader:
    """Opens a video file (whatever FFmpeg reads: MP4, MOV, MKV, WebM, AVI, GIF, Y4M, ...), a folder of pictures
    in natural order, or one picture.

    ``rate``: frames per second of a folder (default 16); a file has its own, and giving one there is an error.
    ``on_error``: when the video is damaged or cut off, or its size changes on the way, the whole frames before that
    are given and then comes a VideoError (``"raise"``), or a logged warning and a normal end (``"stop"``).

    Rotation is applied to the pixels. Non-square pixels are kept and told in ``info.sample_aspect_ratio``.
    Interlaced frames come as they are. Transparency is put on black. Frame times are the file's own; missing,
    repeated or falling times are mended with a logged warning.
    """
    if on_error not in get_args(AtDamage):
        raise InputError(f"on_error is {on_error!r}; allowed: {', '.join(get_args(AtDamage))}")
    path = check_input(src)
    if path.is_dir():
        info, files = probe_folder(path, rate=rate)
        return VideoReader(path, info=info, read=partial(read_folder, files, info=info))
    if rate is not None:
        raise InputError(f"rate is {rate}, but {path} is a file with its own times; rate is for folders of pictures")
    if path.suffix.lower() in PICTURE_SUFFIXES:
        info = probe_picture(path)
        return VideoReader(path, info=info, read=partial(read_picture, path, info=info))
    info, orientation = probe(path)
    read = partial(decode_file, path, info=info, orientation=orientation, on_error=on_error)
    return VideoReader(path, info=info, read=read)


def open_stream(file: BinaryIO) -> AbstractContextManager[tuple[VideoInfo, Iterator[VideoFrame]]]:
    """``with open_stream(sys.stdin.buffer) as (info, frames):`` a video as it comes out of a pipe or any binary file object,
    read once and only as far as frames are asked for: Y4M, Matroska, WebM, MPEG-TS, MP4 with its index first, ...

    Sound isn't read. Otherwise frames and errors are as in :func:`open_video`; a stream that ends within a frame is damage.
    """
    return decode_pipe(Pipe(file))


def read_clip(path: str | os.PathLike[str], *, start: int = 0, frames: int | None = None) -> npt.NDArray[np.uint8]:
    """``frames`` frames from number ``start`` on, or all up to the end: (T, H, W, 3) uint8, all in memory."""
    if frames is not None and frames < 1:
        raise InputError(f"frames is {frames}; it must be at least 1")
    pictures: list[npt.NDArray[np.uint8]] = []
    with open_video(path) as reader:
        for frame in reader.frames(start=start):
            pictures.append(frame.rgb)
            if len(pictures) == frames:
                break
    if not pictures or (frames is not None and len(pictures) < frames):
        wanted = f"{frames} frames" if frames is not None else "frames"
        raise InputError(f"{path} has only {len(pictures)} frames from number {start} on; {wanted} were asked for")
    return np.stack(pictures)
