"""Key frames of every codec, and bytes that aren't pictures."""

import contextlib

import numpy as np
import pytest

from reducio_codec.bitstream.keyframe import KEYFRAME_CODECS, decode_keyframe, encode_keyframe
from reducio_codec.errors import FormatError, InputError


def picture(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack((x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1), (x + y) % 256), -1).astype(np.uint8)


@pytest.mark.parametrize("codec", KEYFRAME_CODECS)
@pytest.mark.parametrize("size", [(1, 1), (17, 33), (144, 256)])
def test_round_trip(codec: str, size: tuple[int, int]) -> None:
    rgb = picture(*size)
    data = encode_keyframe(rgb, codec=codec, quality=90)
    again = decode_keyframe(data, codec=codec, height=size[0], width=size[1])
    assert again.shape == rgb.shape
    assert np.abs(again.astype(int) - rgb).mean() < (0.1 if codec == "png" else 4.5)


def test_avif_boxes_take_little() -> None:
    assert len(encode_keyframe(np.full((256, 256, 3), 90, np.uint8), codec="avif", quality=30)) < 100


def test_quality_changes_size() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    for codec in ("avif", "webp", "jpeg"):
        low, high = (len(encode_keyframe(noise, codec=codec, quality=quality)) for quality in (10, 90))
        assert low < high / 2


@pytest.mark.parametrize("codec", KEYFRAME_CODECS)
def test_damage_ends_in_our_error(codec: str) -> None:
    data = encode_keyframe(picture(48, 64), codec=codec)
    for place in range(0, len(data), max(1, len(data) // 60)):
        for damaged in (data[:place], data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :]):
            with contextlib.suppress(FormatError):
                assert decode_keyframe(damaged, codec=codec, height=48, width=64).shape == (48, 64, 3)


def test_size_is_checked_first() -> None:
    data = encode_keyframe(picture(48, 64), codec="png")
    with pytest.raises(FormatError, match="64x48 pixels; the file says 640x48"):
        decode_keyframe(data, codec="png", height=48, width=640)
    with pytest.raises(FormatError, match="at most"):
        decode_keyframe(data, codec="png", height=1 << 20, width=1 << 20)


def test_wrong_arguments() -> None:
    with pytest.raises(InputError, match="avif, webp, jpeg, png"):
        encode_keyframe(picture(8, 8), codec="bmp")
    with pytest.raises(InputError, match="0 to 100"):
        encode_keyframe(picture(8, 8), quality=101)
    with pytest.raises(InputError, match="uint8"):
        encode_keyframe(np.zeros((8, 8, 3), np.float32))
