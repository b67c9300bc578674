"""``VideoWriter``: RGB pictures with exact times into a video file, a GIF, numbered PNG files or a pipe."""

from __future__ import annotations

import logging
import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
import numpy.typing as npt

from reducio_codec.errors import InputError, VideoError
from reducio_codec.io.audio import AudioTrack
from reducio_codec.io.files import PendingFile
from reducio_codec.io.images import PictureSink, names_pictures
from reducio_codec.io.mux import MuxSink, check_fractions, choose_encoding
from reducio_codec.io.pipe import stream_name
from reducio_codec.io.stages import stage
from reducio_codec.io.y4m import PixelFormat, Y4mSink

logger = logging.getLogger(__name__)


class VideoWriter:
    """Writes frames to ``path``, whose suffix decides the format.

    - ``.mp4 .m4v .mov .mkv``: H.264, BT.709 limited range, converted and tagged; 4:2:0, or 4:4:4 when a side is odd
      (4:2:0 would need padding), so that the file always has the size it was given.
    - ``.mkv`` with ``lossless=True``: FFV1 in RGB; every pixel comes back as it was.
    - ``.webm``: VP9. ``.gif``: 256 colours a frame, times rounded to 1/100 s.
    - ``.y4m``, or a binary file object in place of a path: uncompressed YUV4MPEG2 in ``pixel_format`` (``yuv420p`` unless
      given), one frame at ``rate`` after another, without sound. A file object need not seek, is written frame by frame
      and left open.
    - a folder, or a name like ``frames/%05d.png``: PNG pictures, without times. A folder must not hold pictures yet; with
      ``replace=True`` its numbered ones go when the new ones are there.

    The last frame is shown as long as its ``duration`` says; the others until the next.

    MP4 and MOV store every pts exactly in ``time_base``. Matroska and WebM count whole milliseconds, so times there
    are rounded to the nearest.

    Nothing appears at ``path`` before ``close()``; ``abort()``, an exception inside ``with`` and Ctrl-C leave what
    was there before.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | BinaryIO,
        *,
        width: int,
        height: int,
        time_base: Fraction,
        rate: Fraction,
        lossless: bool = False,
        crf: int | None = None,
        audio: AudioTrack | None = None,
        sample_aspect_ratio: Fraction | None = None,
        inputs: tuple[str | os.PathLike[str], ...] = (),
        pixel_format: PixelFormat | None = None,
        replace: bool = False,
    ) -> None:
        """``crf``: constant rate factor, smaller is better (H.264 0 to 51, default 12; VP9 0 to 63, default 15).

        ``inputs``: files that are read meanwhile; none of them may be ``path``.
        """
        self._name = str(path) if isinstance(path, str | os.PathLike) else stream_name(path)
        self._size = (height, width)
        self._pts: list[int] = []
        self._end = 0
        self._closed = False
        self._even = True
        self.frames = 0
        """Frames written so far."""
        if width < 1 or height < 1:
            raise InputError(f"the size is {width}x{height}; both sides must be at least 1")
        check_fractions(time_base=time_base, rate=rate)
        self._step = 1 / (rate * time_base)
        pixel = sample_aspect_ratio or Fraction(1)
        self._sink: MuxSink | PictureSink | Y4mSink
        target = Path(path) if isinstance(path, str | os.PathLike) else path
        if isinstance(target, Path) and names_pictures(target):
            _refuse("PNG pictures, which are lossless", crf=crf, pixel_format=pixel_format)
            _leave_out(audio, holder="pictures")
            self._sink = PictureSink(target, replace=replace)
            return
        _refuse(f"{self._name}, which is no folder of pictures", replace=replace)
        if not isinstance(target, Path) or target.suffix.lower() == ".y4m":
            _refuse("Y4M, which is raw YUV", crf=crf, lossless=lossless)
            _leave_out(audio, holder="Y4M")
            self._sink = Y4mSink(
                PendingFile(target, inputs=inputs) if isinstance(target, Path) else target,
                width=width,
                height=height,
                rate=rate,
                pixel_format=pixel_format or "yuv420p",
                sample_aspect_ratio=pixel,
            )
            return
        _refuse(f"{target.name}, which is not Y4M", pixel_format=pixel_format)
        encoding = choose_encoding(target, width=width, height=height, lossless=lossless)
        if crf is not None and (encoding.crf is None or not 0 <= crf <= encoding.largest_crf):
            allowed = "left out" if encoding.crf is None else f"from 0 to {encoding.largest_crf}"
            raise InputError(f"crf is {crf}; for {target.name} ({encoding.codec}) it must be {allowed}")
        self._sink = MuxSink(
            PendingFile(target, inputs=inputs),
            encoding=encoding,
            width=width,
            height=height,
            time_base=time_base,
            rate=rate,
            crf=crf,
            sample_aspect_ratio=pixel,
            audio=audio,
        )

    @property
    def encodes(self) -> bool:
        """Whether frames are compressed, which takes a while, rather than passed on as they are."""
        return not isinstance(self._sink, Y4mSink)

    def write(self, rgb: npt.NDArray[np.uint8], pts: int, *, duration: int | None = None) -> None:
        """``rgb``: (height, width, 3) uint8, an array or a CPU tensor; ``pts``: in time_base, larger than the last.

        ``duration``: how long it is shown if no other frame follows, in time_base; None: one frame at ``rate``.
        """
        if self._closed:
            raise InputError(f"{self._name} is closed; nothing can be written to it any more")
        picture = np.asarray(rgb)
        if picture.dtype != np.uint8 or picture.shape != (*self._size, 3):
            raise InputError(
                f"the frame is {picture.dtype} {picture.shape}; it must be uint8 {(*self._size, 3)}: height, width, RGB"
            )
        if self._pts and pts <= self._pts[-1]:
            raise InputError(f"pts is {pts}, the frame before had {self._pts[-1]}; times must increase")
        if duration is not None and duration < 1:
            raise InputError(f"duration is {duration}; it must be at least 1")
        if not isinstance(self._sink, MuxSink):
            self._watch_spacing(pts)
        with stage("writing"):
            self._sink.write(picture, int(pts))
        self._pts = [*self._pts[-1:], pts]
        self._end = pts + (max(1, round(self._step)) if duration is None else duration)
        self.frames += 1

    def close(self) -> None:
        """Finishes the file and gives it its name; closing twice does nothing."""
        if self._closed:
            return
        if self.frames == 0:
            self.abort()
            raise VideoError(f"{self._name}: no frames were written, so there is no file")
        self._closed = True
        try:
            with stage("writing"):
                if isinstance(self._sink, PictureSink):
                    self._sink.close()
                else:
                    self._sink.close(end=self._end)
        except BaseException:
            self._sink.abort()
            raise

    def abort(self) -> None:
        """Throws away what was written; the path is as it was before."""
        if not self._closed:
            self._closed = True
            self._sink.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort()

    def _watch_spacing(self, pts: int) -> None:
        rounding = 1 if self._step >= 4 else 0  # Matroska's milliseconds: 33, 33, 34
        if len(self._pts) == 2 and self._even and abs(pts - 2 * self._pts[1] + self._pts[0]) > rounding:
            self._even = False
            holder = "pictures" if isinstance(self._sink, PictureSink) else "Y4M"
            logger.warning("%s: frames are not evenly spaced in time, and %s can't keep that", self._name, holder)


def _refuse(what: str, **options: object) -> None:
    """InputError for an option that would do nothing."""
    for name, value in options.items():
        if value is not None and value is not False:
            raise InputError(f"{name}={value!r} has no effect on {what}")


def _leave_out(audio: AudioTrack | None, *, holder: str) -> None:
    if audio is not None:
        logger.warning("%s can't hold %s sound, which is left out; write a .mkv to keep it", holder, audio.codec)
