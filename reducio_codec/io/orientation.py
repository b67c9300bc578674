"""How a picture must be turned before it is shown: the display matrix that phones write beside the frames."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import av
import numpy as np
import numpy.typing as npt
from av.sidedata import sidedata


@dataclass(frozen=True, kw_only=True)
class Orientation:
    """Transpose first, then flips: together all eight ways a rectangle can lie on the pixel grid."""

    transpose: bool = False
    flip_columns: bool = False
    flip_rows: bool = False
    exact: bool = True
    """False when the matrix asks for something off the pixel grid (say 30 degrees), which is not applied."""

    @property
    def degrees(self) -> int:
        """Clockwise rotation, 0, 90, 180 or 270; a mirrored picture counts as its rotation before mirroring."""
        if self.transpose:
            return 90 if self.flip_columns else 270
        return 180 if self.flip_rows else 0

    def apply(self, rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 as stored -> (H', W', 3) uint8 as shown, contiguous."""
        shown = rgb.transpose(1, 0, 2) if self.transpose else rgb
        if self.flip_columns:
            shown = shown[:, ::-1]
        if self.flip_rows:
            shown = shown[::-1]
        return np.ascontiguousarray(shown)


def orientation_of_matrix(matrix: tuple[int, ...]) -> Orientation:
    """From nine integers ``a b u c d v x y w`` (ISO/IEC 14496-12): x' = a x + c y, y' = b x + d y, 16.16 fixed."""
    a, b, _, c, d = matrix[:5]
    if b == 0 and c == 0 and a != 0 and abs(a) == abs(d):
        return Orientation(flip_columns=a < 0, flip_rows=d < 0)
    if a == 0 and d == 0 and b != 0 and abs(b) == abs(c):
        return Orientation(transpose=True, flip_columns=c < 0, flip_rows=b < 0)
    return Orientation(exact=False)


def orientation_of_frame(frame: av.VideoFrame) -> Orientation:
    """The orientation a decoded frame carries; plain upright when it carries none."""
    _know_all_side_data()
    side_data = cast(Mapping[str, bytes], frame.side_data)  # PyAV's stub calls it a TypedDict of motion vectors
    matrix = side_data.get("DISPLAYMATRIX")
    return Orientation() if matrix is None else orientation_of_matrix(struct.unpack("=9i", bytes(matrix)[:36]))


def _know_all_side_data() -> None:
    """PyAV lists a frame's side data by name, and fails where FFmpeg has a kind that PyAV doesn't name (EXIF, views of a
    spatial video, whatever comes next); the matrix among them can be had in no other way. Such a kind gets its number as name.
    """
    kinds = sidedata.Type
    if "_missing_" in vars(kinds):
        return

    def unnamed(cls: type[sidedata.Type], value: object) -> sidedata.Type:
        kind = object.__new__(cls)
        kind._name_ = f"UNNAMED_{value}"
        kind._value_ = value  # type: ignore[assignment]
        return cast(sidedata.Type, cls._value2member_map_.setdefault(value, kind))

    kinds._missing_ = classmethod(unnamed)  # type: ignore[assignment]
