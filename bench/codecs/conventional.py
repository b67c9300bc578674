"""A conventional encoder through PyAV: RGB to 4:2:0 or 4:4:4, packets, and back, with every byte counted.

The way of the colours is the same for all: BT.709 limited range by conversion, decoded frames converted back with the
same matrix whatever the stream says of itself, so that no encoder pays for a tag. One thread each: with more, some
encoders give other bits. Bytes are the packets and the headers beside them; a real MP4 or WebM file adds 500 bytes
and more, which is not held against them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.codec.context import Flags

from bench.codecs.packets import without_comments
from bench.methods import Coded, Frames, NotRunError
from reducio_codec.config import CLIP_LENGTH
from reducio_codec.io.colour import LIMITED, FromRgb, ToRgb

LONG_GOP = 9999
"""One key frame, at the beginning, for any sample of this benchmark."""

BT709 = 1  # AVColorSpace


@contextmanager
def own_schedule() -> Iterator[None]:
    """Leaves the thread scheduled as it was. For root, SVT-AV1 makes the thread that opens it real-time, and with it every
    process that is started from there on: two of them that compute hold a machine of two cores."""
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """An encoder of FFmpeg at its slow preset."""

    library: str
    """FFmpeg's name of the encoder."""
    codec: str
    decoder: str
    options: dict[str, str]
    private: str
    """Option that takes the encoder's own ``key=value`` pairs, or nothing."""
    private_options: dict[str, str]
    gop_options: dict[str, str]
    """Private pairs that place key frames; ``{gop}`` becomes the distance."""
    crf: tuple[int, ...]
    pixel_format: str = "yuv420p"

    def settings(self, *, crf: float, gop: int) -> dict[str, Any]:
        return {
            "library": self.library,
            "crf": crf,
            "gop": gop,
            "pixel_format": f"{self.pixel_format}, BT.709 limited",
            "options": self._options(crf=crf, gop=gop),
            "libavcodec": ".".join(map(str, av.library_versions["libavcodec"])),
            "counted": "packets and headers, without SEI and temporal delimiters; no container",
        }

    def _options(self, *, crf: float, gop: int) -> dict[str, str]:
        pairs = self.private_options | {key: value.format(gop=gop) for key, value in self.gop_options.items()}
        private = {self.private: ":".join(f"{key}={value}" for key, value in pairs.items())} if self.private else {}
        return {**self.options, "crf": f"{crf:g}", "g": str(gop), "threads": "1", **private}

    def check(self) -> None:
        """NotRunError where this PyAV was built without the encoder or its decoder."""
        name = self.library
        try:
            av.codec.Codec(name, "w")
            name = self.decoder
            av.codec.Codec(name, "r")
        except av.codec.codec.UnknownCodecError as error:
            raise NotRunError(f"this PyAV ({av.__version__}) has no {name}") from error

    def encode(self, frames: Frames, *, rate: Fraction, crf: float, gop: int) -> tuple[bytes, list[bytes]]:
        """``(T, H, W, 3)`` to headers and packets in coding order."""
        os.environ.setdefault("SVT_LOG", "1")  # else it prints its settings for every sample
        height, width = frames.shape[1:3]
        context: Any = av.CodecContext.create(self.library, "w")
        context.width, context.height, context.pix_fmt = width, height, self.pixel_format
        context.time_base, context.framerate = 1 / rate, rate
        context.gop_size, context.bit_rate = gop, 0
        context.options = self._options(crf=crf, gop=gop)
        context.flags |= int(Flags.global_header) | int(Flags.closed_gop)
        with own_schedule():
            context.open()
        convert = FromRgb(pixel_format=self.pixel_format, width=width, height=height)
        packets = []
        for number, picture in enumerate(frames):
            frame = convert(picture)
            frame.pts, frame.time_base = number, 1 / rate
            packets += context.encode(frame)
        packets += context.encode(None)
        headers = without_comments(bytes(context.extradata or b""), codec=self.codec)
        return headers, [without_comments(bytes(packet), codec=self.codec) for packet in packets]

    def decode(self, headers: bytes, packets: list[bytes]) -> Frames:
        """The very bytes that were counted, back to ``(T, H, W, 3)``."""
        context: Any = av.CodecContext.create(self.decoder, "r")
        context.thread_count = 1
        if headers:
            context.extradata = headers
        convert = ToRgb(name=self.library, codec=self.codec)
        pictures = []
        for data in [*packets, None]:
            for frame in context.decode(None if data is None else av.Packet(data)):
                frame.colorspace, frame.color_range = BT709, LIMITED
                pictures.append(convert(frame))
        return np.stack(pictures)


@dataclass(frozen=True, kw_only=True)
class Conventional:
    """An encoder at one point."""

    encoder: Encoder
    crf: float
    gop: int

    @property
    def settings(self) -> dict[str, Any]:
        return self.encoder.settings(crf=self.crf, gop=self.gop)

    def __call__(self, frames: Frames, *, rate: Fraction) -> Coded:
        headers, packets = self.encoder.encode(frames, rate=rate, crf=self.crf, gop=self.gop)
        decoded = self.encoder.decode(headers, packets)
        # AV1 packets carry the headers already; the copy beside them is for containers
        beside = 0 if self.encoder.codec == "av1" else len(headers)
        return Coded(frames=decoded, parts={"headers": beside, "packets": sum(map(len, packets))})


GOPS = {f"gop{CLIP_LENGTH}": CLIP_LENGTH, "long": LONG_GOP}
