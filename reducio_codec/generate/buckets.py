"""Shapes that training clips are cut to, and the one that fits a picture best."""

from __future__ import annotations

from reducio_codec.clips.padding import padded_length
from reducio_codec.config import PIXEL_MULTIPLE
from reducio_codec.errors import InputError

_BASE = 1024

# height and width of PixArt-alpha's 40 buckets at 1024: wide ones, and below the same turned, but for one
_WIDE = (
    (512, 2048), (512, 1984), (512, 1920), (512, 1856), (576, 1792), (576, 1728), (576, 1664), (640, 1600),
    (640, 1536), (704, 1472), (704, 1408), (704, 1344), (768, 1344), (768, 1280), (832, 1216), (832, 1152),
    (896, 1152), (896, 1088), (960, 1088), (960, 1024),
)  # fmt: skip
_ONLY_WIDE = (704, 1344)

Size = tuple[int, int]


def buckets(sample_size: int) -> tuple[Size, ...]:
    """(height, width) of every bucket for about ``sample_size ** 2`` pixels, wide to high.

    At 1024 these are the 40 of PixArt-alpha (Sec. 4.1), at 512 their halves. At other sizes sides are rounded up to
    multiples of 32, which makes some alike: there are fewer.
    """
    if sample_size < PIXEL_MULTIPLE or sample_size % PIXEL_MULTIPLE:
        raise InputError(f"sample_size is {sample_size}; it must be a positive multiple of {PIXEL_MULTIPLE}")
    high = tuple((width, height) for height, width in reversed(_WIDE) if (height, width) != _ONLY_WIDE)
    scaled = [
        tuple(padded_length(round(side * sample_size / _BASE)) for side in size)
        for size in (*_WIDE, (_BASE, _BASE), *high)
    ]
    return tuple(dict.fromkeys((height, width) for height, width in scaled))


def nearest_bucket(height: int, width: int, *, sample_size: int) -> Size:
    """The bucket (height, width) whose aspect ratio is nearest to that of a picture."""
    if height < 1 or width < 1:
        raise InputError(f"the size is {width}x{height}; both sides must be at least 1")
    ratio = height / width
    # ratios are compared as ratios: 2 is as far from 1 as 1/2 is
    return min(buckets(sample_size), key=lambda size: abs(_log_ratio(size[0] / size[1] / ratio)))


def _log_ratio(value: float) -> float:
    return max(value, 1 / value) - 1
