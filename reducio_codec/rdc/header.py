"""The header of an ``.rdc`` file: JSON without defaults, deflated with a dictionary of its key names."""

from __future__ import annotations

import json
import zlib
from dataclasses import MISSING, dataclass, field, fields
from fractions import Fraction
from typing import Any

from reducio_codec.config import CLIP_LENGTH
from reducio_codec.errors import FormatError
from reducio_codec.rdc.ranges import KEYFRAME_CODECS, LATEST_TIME, MAX_CHANNELS, MAX_SIDE, STEPS

MAGIC = b"\x89RDC\r\n\x1a\n"
VERSION = 1
MAX_HEADER = 1 << 16
"""Bytes of a header, deflated or not."""
MAX_VERSION = 1 << 31


@dataclass(frozen=True, kw_only=True)
class RdcHeader:
    """What a file says about itself. Fields with a default are left out of the file when they hold it."""

    model: str
    """Model id, as ``ReducioCodec.from_pretrained`` takes it."""
    version: int = 1
    """Of the model. Another version reads the file as long as its latent space is the same."""
    latent_space: str
    """What has to be known to read a latent, 16 hex digits: the latent's shape, its statistics and the coder's tables. Models
    that have it in common read each other's files."""
    width: int
    height: int
    time_base: Fraction
    """Seconds a tick."""
    frame_duration: int = 0
    """Ticks between frames; 0: each clip has a TIMES record."""
    start: int = 0
    """Timestamp of the first frame, in ticks."""
    step: int
    """``latent_step`` in 1/1024."""
    keyframe_codec: str = "avif"
    colour: str = "bt709"
    """What the decoded RGB values mean: full-range R'G'B' with BT.709's primaries. Writers convert to it; there is no other."""
    latent: tuple[int, int] = (16, 4)
    """Channels and time positions of a clip's latent."""
    sample_aspect_ratio: Fraction = Fraction(1)
    references: int = 1
    """2: the cuts between clips are marked, so each clip may be decoded with the key frames of the clips beside it. 1: they
    weren't looked for."""
    rate: Fraction = field(default=Fraction(0))
    """Nominal frames a second, stored where timestamps vary; 0: one over the frame's duration."""

    def __post_init__(self) -> None:
        def bad(name: str, allowed: str) -> FormatError:
            return FormatError(f"the header's {name} is {getattr(self, name)!r:.60}; allowed: {allowed}")

        for name in ("width", "height"):
            if not _whole(getattr(self, name), 1, MAX_SIDE):
                raise bad(name, f"1 to {MAX_SIDE}")
        for name, low, high in (
            ("version", 1, MAX_VERSION),
            ("frame_duration", 0, 1 << 40),
            ("start", -LATEST_TIME, LATEST_TIME),
            ("step", *STEPS),
        ):
            if not _whole(getattr(self, name), low, high):
                raise bad(name, f"{low} to {high}")
        if not _whole(self.references, 1, 2):
            raise bad("references", "1 or 2")
        if self.keyframe_codec not in KEYFRAME_CODECS:
            raise bad("keyframe_codec", ", ".join(KEYFRAME_CODECS))
        if (
            len(self.latent) != 2
            or not _whole(self.latent[0], 1, MAX_CHANNELS)
            or not _whole(self.latent[1], 1, CLIP_LENGTH)
        ):
            raise bad("latent", f"two numbers, 1 to {MAX_CHANNELS} and 1 to 16")
        for name in ("time_base", "sample_aspect_ratio", "rate"):
            value = getattr(self, name)
            lowest = 0 if name == "rate" else Fraction(1, 1 << 31)
            if not isinstance(value, Fraction) or value < lowest or max(value.numerator, value.denominator) >= 1 << 31:
                raise bad(name, "a positive fraction of 31-bit numbers")
        if self.colour != "bt709":
            raise bad("colour", "bt709")
        for name in ("model", "latent_space"):
            value = getattr(self, name)
            if not isinstance(value, str) or len(value) > 256 or not value.isprintable():
                raise bad(name, "a printable string of at most 256 characters")

    def pack(self) -> bytes:
        data = {
            f.name: _plain(getattr(self, f.name))
            for f in fields(self)
            if f.default is MISSING or getattr(self, f.name) != f.default
        }
        deflate = zlib.compressobj(9, wbits=-15, zdict=_DICTIONARY)
        return deflate.compress(json.dumps(data, separators=(",", ":")).encode()) + deflate.flush()

    @classmethod
    def unpack(cls, data: bytes) -> RdcHeader:
        inflate = zlib.decompressobj(wbits=-15, zdict=_DICTIONARY)
        try:
            text = inflate.decompress(data, MAX_HEADER)
            if not inflate.eof:
                raise FormatError(f"the header is cut short or longer than {MAX_HEADER} bytes")
            values: Any = json.loads(text)
            if not isinstance(values, dict):
                raise FormatError("the header isn't an object")
            known = {f.name for f in fields(cls)}
            values = {key: value for key, value in values.items() if key in known}
            for name in ("time_base", "sample_aspect_ratio", "rate"):
                if name in values:
                    values[name] = Fraction(*_pair(values[name]))
            if "latent" in values:
                values["latent"] = tuple(_pair(values["latent"]))
            return cls(**values)
        except (zlib.error, ValueError, TypeError, ZeroDivisionError, RecursionError) as error:
            raise FormatError(f"the header is damaged: {error}") from error


def _whole(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _plain(value: Any) -> Any:
    return [value.numerator, value.denominator] if isinstance(value, Fraction) else value


def _pair(value: Any) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2 or not all(_whole(v, -(1 << 31), 1 << 31) for v in value):
        raise FormatError(f"the header is damaged: {value!r:.60} isn't a pair of numbers")
    return value[0], value[1]


_DICTIONARY = (
    b'"sample_aspect_ratio":[4,3]"rate":[30000,1001]"latent":[16,4]"references":2"version":2,"keyframe_codec":"png"jpeg"webp"'
    b'"start":0"frame_duration":512"frame_duration":1001,"time_base":[1,90000]"time_base":[1,1000]"time_base":[1,15360]'
    b'"time_base":[1,16384],"time_base":[1,12288],{"model":"reducio-lite","latent_space":"0123456789abcdef",'
    b'"width":1920,"height":1080,"width":1280,"height":720,"width":256,"height":256,"time_base":[1,30],'
    b'"frame_duration":1,"step":512}'
)
"""Text that headers are likely to share; changing it would make every file unreadable."""
