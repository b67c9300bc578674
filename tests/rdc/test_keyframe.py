"""Key frames of every codec, and bytes that aren't pictures."""

import contextlib
import io
import threading

import numpy as np
import pytest
from PIL import Image

from reducio_codec.errors import FormatError, InputError
from reducio_codec.rdc.av1 import split_avif
from reducio_codec.rdc.keyframe import (
    KEYFRAME_CODECS,
    SPEED,
    PictureDecoder,
    code_keyframes,
    decode_keyframe,
    encode_keyframe,
    encode_keyframes,
)
from tests.helpers import moving_video


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


def alike(count: int) -> list[np.ndarray]:
    """Pictures 16 frames apart."""
    return list(moving_video(16 * count, 96, 128)[::16])


def test_pictures_that_are_alike_take_less_together() -> None:
    pictures = alike(4)
    data, seen = code_keyframes(pictures, quality=40)
    assert sum(map(len, data)) < 0.8 * sum(len(encode_keyframe(picture, quality=40)) for picture in pictures)
    for place, (before, after) in enumerate(zip(pictures, seen, strict=True)):
        assert np.abs(before.astype(int) - after).mean() < 8
        decoder = PictureDecoder(data, codec="avif", height=96, width=128)
        assert np.array_equal(after, decoder.decode(place))
        assert np.array_equal(seen[0], decoder.decode(0)), "backwards"
        decoder = PictureDecoder(data[: place + 1], codec="avif", height=96, width=128)
        assert np.array_equal(after, decoder.decode(place)), "those behind it play no part"


def test_a_sequence_does_not_say_when_it_was_made() -> None:
    """libavif writes the time in six places; files made at different times must be equal."""
    pictures, pause = alike(2), threading.Event()
    first = encode_keyframes(pictures)
    pause.wait(1.1)  # its clock has whole seconds
    assert encode_keyframes(pictures) == first


def test_boxes_of_a_sequence_take_little() -> None:
    flat = np.full((64, 64, 3), 90, np.uint8)
    assert sum(map(len, encode_keyframes([flat] * 4))) < 140


def test_damage_to_a_sequence_ends_in_our_error() -> None:
    data = encode_keyframes(alike(3), quality=20)
    for number, sample in enumerate(data):
        for position in range(0, len(sample), max(1, len(sample) // 20)):
            for bad in (
                sample[:position],
                sample[:position] + bytes([sample[position] ^ 255]) + sample[position + 1 :],
            ):
                decoder = PictureDecoder([*data[:number], bad, *data[number + 1 :]], codec="avif", height=96, width=128)
                for place in (0, 2):
                    with contextlib.suppress(FormatError):
                        assert decoder.decode(place).shape == (96, 128, 3)
    with pytest.raises(FormatError, match="damaged"):
        PictureDecoder(data, codec="avif", height=96, width=128).decode(3)


def test_an_av1_picture_of_another_size_is_refused_before_it_is_decoded() -> None:
    """The boxes are ours, so only the AV1 data could claim another size; 100 bytes may stand for a gigabyte of pixels."""
    huge = encode_keyframe(np.full((1024, 1024, 3), 90, np.uint8), quality=20)
    assert len(huge) < 300
    with pytest.raises(FormatError, match="1024x1024 pixels; the file says 128x96"):
        decode_keyframe(huge, codec="avif", height=96, width=128)
    good = encode_keyframes(alike(2))
    for bad in (good[0] + huge, good[1] + huge):
        decoder = PictureDecoder([good[0], bad], codec="avif", height=96, width=128)
        assert decoder.decode(0).shape == (96, 128, 3)
        with pytest.raises(FormatError, match="1024x1024"):
            decoder.decode(1)
    with pytest.raises(FormatError, match="41 coded frames"):
        decode_keyframe(good[0] + good[1] * 40, codec="avif", height=96, width=128)


def test_pictures_of_other_formats_stand_alone() -> None:
    pictures = [picture(8, 8)] * 2
    assert encode_keyframes(pictures, codec="webp") == [encode_keyframe(one, codec="webp") for one in pictures]
    assert encode_keyframes([], codec="webp") == encode_keyframes([]) == []


def test_a_sequence_is_what_pillow_makes_of_its_pictures_one_by_one() -> None:
    pictures = list(moving_video(5, 48, 64))
    out = io.BytesIO()
    first, *more = map(Image.fromarray, pictures)
    options = {"quality": 50, "subsampling": "4:4:4", "speed": SPEED, "duration": 1000}
    first.save(out, "AVIF", save_all=True, append_images=more, **options)
    assert encode_keyframes(pictures) == split_avif(out.getvalue())
