"""``VideoWriter``: RGB pictures with exact times into a video file, a GIF or numbered PNG files."""

from __future__ import annotations

import logging
import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from reducio_codec.errors import InputError, VideoError
from reducio_codec.io.audio import AudioTrack
from reducio_codec.io.files import PendingFile
from reducio_codec.io.images import PictureSink, names_pictures
from reducio_codec.io.mux import MuxSink, check_fractions, choose_encoding

logger = logging.getLogger(__name__)


class VideoWriter:
    """Writes frames to ``path``, whose suffix decides the format.

    - ``.mp4 .m4v .mov .mkv``: H.264, BT.709 limited range, converted and tagged; 4:2:0, or 4:4:4 when a side is odd
      (4:2:0 would need padding), so that the file always has the size it was given.
    - ``.mkv`` with ``lossless=True``: FFV1 in RGB; every pixel comes back as it was.
    - ``.webm``: VP9. ``.gif``: 256 colours a frame, times rounded to 1/100 s.
    - a folder, or a name like ``frames/%05d.png``: PNG pictures, without times.

    The last frame is shown as long as its ``duration`` says; the others until the next.

    MP4 and MOV store every pts exactly in ``time_base``. Matroska and WebM count whole milliseconds, so times there
    are rounded to the nearest.

    Nothing appears at ``path`` before ``close()``; ``abort()``, an exception inside ``with`` and Ctrl-C leave what
    was there before.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
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
    ) -> None:
        """``crf``: constant rate factor, smaller is better (H.264 0 to 51, default 12; VP9 0 to 63, default 15).

        ``inputs``: files that are read meanwhile; none of them may be ``path``.
        """
        self.path = Path(path)
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
        self._frame_ticks = max(1, round(1 / (rate * time_base)))
        self._sink: MuxSink | PictureSink
        if names_pictures(self.path):
            if crf is not None:
                raise InputError(f"crf is {crf}, but PNG pictures are lossless and have none")
            if audio is not None:
                logger.warning("pictures can't hold %s sound, which is left out; write a .mkv to keep it", audio.codec)
            self._sink = PictureSink(self.path)
            return
        encoding = choose_encoding(self.path, width=width, height=height, lossless=lossless)
        if crf is not None and (encoding.crf is None or not 0 <= crf <= encoding.largest_crf):
            allowed = "left out" if encoding.crf is None else f"from 0 to {encoding.largest_crf}"
            raise InputError(f"crf is {crf}; for {self.path.name} ({encoding.codec}) it must be {allowed}")
        self._sink = MuxSink(
            PendingFile(self.path, inputs=inputs),
            encoding=encoding,
            width=width,
            height=height,
            time_base=time_base,
            rate=rate,
            crf=crf,
            sample_aspect_ratio=sample_aspect_ratio or Fraction(1),
            audio=audio,
        )

    def write(self, rgb: npt.NDArray[np.uint8], pts: int, *, duration: int | None = None) -> None:
        """``rgb``: (height, width, 3) uint8, an array or a CPU tensor; ``pts``: in time_base, larger than the last.

        ``duration``: how long it is shown if no other frame follows, in time_base; None: one frame at ``rate``.
        """
        if self._closed:
            raise InputError(f"{self.path} is closed; nothing can be written to it any more")
        picture = np.asarray(rgb)
        if picture.dtype != np.uint8 or picture.shape != (*self._size, 3):
            raise InputError(
                f"the frame is {picture.dtype} {picture.shape}; it must be uint8 {(*self._size, 3)}: height, width, RGB"
            )
        if self._pts and pts <= self._pts[-1]:
            raise InputError(f"pts is {pts}, the frame before had {self._pts[-1]}; times must increase")
        if duration is not None and duration < 1:
            raise InputError(f"duration is {duration}; it must be at least 1")
        if isinstance(self._sink, PictureSink):
            self._watch_spacing(pts)
        self._sink.write(picture, int(pts))
        self._pts = [*self._pts[-1:], pts]
        self._end = pts + (self._frame_ticks if duration is None else duration)
        self.frames += 1

    def close(self) -> None:
        """Finishes the file and gives it its name; closing twice does nothing."""
        if self._closed:
            return
        if self.frames == 0:
            self.abort()
            raise VideoError(f"{self.path}: no frames were written, so there is no file")
        self._closed = True
        try:
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
        if len(self._pts) == 2 and self._even and pts - self._pts[1] != self._pts[1] - self._pts[0]:
            self._even = False
            logger.warning("%s: frames are not evenly spaced in time, and pictures can't keep that", self.path)
