"""YUV4MPEG2, the uncompressed video that programs pipe to each other: a line of text, then frame after frame."""

from __future__ import annotations

from fractions import Fraction
from typing import BinaryIO, Literal, get_args

import numpy as np
import numpy.typing as npt
from av.video.plane import VideoPlane

from reducio_codec.config import check_choice
from reducio_codec.io.colour import HD_LINES, FromRgb
from reducio_codec.io.files import PendingFile, writing_errors
from reducio_codec.io.pipe import stream_name, write_all

PixelFormat = Literal["yuv420p", "yuv422p", "yuv444p"]
PIXEL_FORMATS: tuple[PixelFormat, ...] = get_args(PixelFormat)

_CHROMA = {"yuv420p": "420mpeg2 XYSCSS=420MPEG2", "yuv422p": "422", "yuv444p": "444"}
"""As the header has them; of 4:2:0 it says where the chroma lies: on the left luma column."""


class Y4mSink:
    """Writes frames to a path, under a temporary name until the end, or to a file object, which stays open.

    The format has no place for the colour matrix, so the one is used that a reader guesses: BT.709 from 720 lines, else
    BT.601. Times are even: one frame at ``rate`` after another.
    """

    def __init__(
        self,
        target: PendingFile | BinaryIO,
        *,
        width: int,
        height: int,
        rate: Fraction,
        pixel_format: PixelFormat = "yuv420p",
        sample_aspect_ratio: Fraction = Fraction(1),
    ) -> None:
        check_choice(pixel_format, name="pixel_format", allowed=PIXEL_FORMATS)
        self._convert = FromRgb(
            pixel_format=pixel_format, width=width, height=height, matrix="bt709" if height >= HD_LINES else "bt601"
        )
        self._pending = target if isinstance(target, PendingFile) else None
        self._name = str(target.target) if isinstance(target, PendingFile) else stream_name(target)
        with writing_errors(self._name):
            self._file: BinaryIO = target.temporary.open("xb") if isinstance(target, PendingFile) else target
        shape = f"{sample_aspect_ratio.numerator}:{sample_aspect_ratio.denominator}"
        self._header: bytes | None = (
            f"YUV4MPEG2 W{width} H{height} F{rate.numerator}:{rate.denominator} Ip A{shape} "
            f"C{_CHROMA[pixel_format]} XCOLORRANGE=LIMITED\n"
        ).encode()

    def write(self, rgb: npt.NDArray[np.uint8], pts: int) -> None:
        """The next frame (H, W, 3) uint8; its time isn't kept."""
        frame = self._convert(rgb)
        with writing_errors(self._name):
            if self._header is not None:
                write_all(self._file, self._header)
                self._header = None
            write_all(self._file, b"FRAME\n")
            for plane in frame.planes:
                write_all(self._file, _samples(plane))
            self._file.flush()

    def close(self, *, end: int) -> None:
        """All is written; a path gets its file."""
        if self._pending is not None:
            with writing_errors(self._name):
                self._file.close()
            self._pending.commit()

    def abort(self) -> None:
        """A path stays as it was."""
        if self._pending is not None:
            self._file.close()
            self._pending.discard()


def _samples(plane: VideoPlane) -> bytes:
    """A plane without what FFmpeg keeps at the end of each row."""
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : plane.width].tobytes()
