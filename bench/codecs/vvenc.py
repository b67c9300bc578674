"""VVenC (H.266) through FFmpeg's program: PyAV is built without it.

Colours go the way of the other anchors (``conventional.py``), but with ten bits, which is all that the encoder takes. Bytes
are the stream without delimiters and supplemental information, and what is counted is what is decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from bench import program
from bench.codecs.conventional import BT709, LONG_GOP
from bench.codecs.packets import without_comments
from bench.methods import Coded, Frames, NotRunError
from reducio_codec.errors import VideoError
from reducio_codec.io.colour import LIMITED, ToRgb

PIXELS = "yuv420p10le"
PRESET = "medium"
QPS = (24, 28, 32, 36, 40, 45)
ATTEMPTS = 5
"""The library sometimes writes nothing and reports no error, or never ends; a second call then works."""

_PATIENCE = 30.0, 5e-5
"""Seconds, and seconds a pixel, after which it has hung: some fifty times what it needs."""


@dataclass(frozen=True, kw_only=True)
class VVenC:
    """The encoder at one point, one key frame at the beginning."""

    qp: int

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "library": "libvvenc",
            "qp": self.qp,
            "gop": LONG_GOP,
            "pixel_format": f"{PIXELS}, BT.709 limited",
            "options": self._options(),
            "program": program.version(),
            "counted": "the stream, without SEI and delimiters; no container",
        }

    def _options(self) -> dict[str, str]:
        # qpa would spend bits for the eye; the period is in seconds
        return {"preset": PRESET, "qp": str(self.qp), "qpa": "0", "period": str(LONG_GOP), "threads": "1"}

    def encode(self, frames: Frames, *, rate: Fraction) -> bytes:
        """``(T, H, W, 3)`` to the stream."""
        options = [word for name, value in self._options().items() for word in (f"-{name}", value)]
        source = program.raw_input("-", frames=frames, rate=rate, pixel_format=PIXELS)
        data = program.raw(frames, pixel_format=PIXELS)
        call = [*source, "-c:v", "libvvenc", *options, "-f", "vvc", "-"]
        seconds = _PATIENCE[0] + _PATIENCE[1] * frames[..., 0].size
        for _ in range(ATTEMPTS):
            try:
                stream = program.call(call, data=data, seconds=seconds)
            except program.HungError:
                continue
            if stream:
                return without_comments(stream, codec="vvc")
        raise VideoError(f"libvvenc wrote nothing or hung {ATTEMPTS} times")

    def decode(self, stream: bytes, *, height: int, width: int) -> Frames:
        """The very bytes that were counted, back to ``(T, H, W, 3)``."""
        data = program.call(["-f", "vvc", "-i", "-", "-f", "rawvideo", "-pix_fmt", PIXELS, "-"], data=stream)
        convert = ToRgb(name="libvvenc", codec="vvc")
        pictures = []
        for frame in program.from_raw(data, height=height, width=width, pixel_format=PIXELS):
            frame.colorspace, frame.color_range = BT709, LIMITED
            pictures.append(convert(frame))
        return np.stack(pictures)

    def __call__(self, frames: Frames, *, rate: Fraction) -> Coded:
        stream = self.encode(frames, rate=rate)
        height, width = frames.shape[1:3]
        return Coded(frames=self.decode(stream, height=height, width=width), parts={"stream": len(stream)})


def open_vvenc(qp: int) -> VVenC:
    """NotRunError where the program lacks the encoder. MissingDependencyError without the program."""
    if b"libvvenc" not in program.call(["-encoders"]):
        raise NotRunError(f"this FFmpeg program ({program.version()}) has no libvvenc")
    return VVenC(qp=qp)
