"""Key pictures of any kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from reducio_codec.errors import InputError, VideoError
from reducio_codec.generate.buckets import buckets, nearest_bucket
from reducio_codec.generate.pictures import cover, load_picture, natural_size

RGB = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_forms_of_one_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(RGB).save(path)
    unit = torch.from_numpy(RGB).permute(2, 0, 1).float() / 127.5 - 1
    for source in (path, str(path), Image.fromarray(RGB), RGB, torch.from_numpy(RGB), unit):
        assert np.array_equal(load_picture(source), RGB)


def test_modes(tmp_path: Path) -> None:
    grey = RGB[..., 0]
    assert np.array_equal(load_picture(grey), np.repeat(grey[..., None], 3, axis=2))
    deep = tmp_path / "deep.png"
    Image.fromarray(grey.astype(np.uint16) * 257).save(deep)
    assert np.array_equal(load_picture(deep)[..., 1], grey)
    clear = np.dstack([RGB, np.zeros_like(grey)])
    clear[:, :15, 3] = 255
    shown = load_picture(clear)
    assert np.array_equal(shown[:, :15], RGB[:, :15]) and not shown[:, 15:].any()
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(turned, exif=exif)
    assert load_picture(turned).shape == (30, 20, 3)
    palette = tmp_path / "palette.gif"
    Image.fromarray(RGB).convert("P").save(palette)
    assert load_picture(palette).shape == RGB.shape


def test_broken_files(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(RGB).save(path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"not a picture", whole[:20]):
        path.write_bytes(content)
        with pytest.raises(VideoError, match=r"a\.png"):
            load_picture(path)
    path.write_bytes(b"")
    with pytest.raises(VideoError, match="empty"):
        load_picture(path)
    with pytest.raises(InputError, match="doesn't exist"):
        load_picture(tmp_path / "none.png")
    with pytest.raises(InputError, match="folder"):
        load_picture(tmp_path)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (3, "a int"),
        (RGB.astype(np.float32), "divide bytes by 127.5"),
        (RGB.astype(np.int32), "an array of int32"),
        (RGB[..., :2], "shape (20, 30, 2)"),
        (RGB[:0], "shape (0, 30, 3)"),
        (RGB[None], "shape (1, 20, 30, 3)"),
        (torch.zeros(1, 3, 4, 4), "(1, 3, 4, 4)"),
        (torch.full((3, 4, 4), 200.0), "divide bytes by 127.5"),
        (torch.full((3, 4, 4), float("nan")), "NaN"),
    ],
)
def test_other_values(value: Any, words: str) -> None:
    with pytest.raises(InputError) as caught:
        load_picture(value)
    assert words in str(caught.value)


def test_natural_size() -> None:
    assert natural_size(100, 200, sample_size=256) == (100, 200)  # never enlarged
    assert natural_size(3000, 4000, sample_size=256) == (256, 341)  # as high as the squares it was trained on
    height, width = natural_size(9000, 3000, sample_size=256)
    assert abs(height * width / 256**2 - 2) < 0.02 and abs(height / width - 3) < 0.05
    for height, width in ((3000, 4000), (1080, 1920), (200, 100), (1, 1000)):  # a bucket, as in training
        size = natural_size(height, width, sample_size=1024)
        assert size in buckets(1024) and size == nearest_bucket(height, width, sample_size=1024)
    assert natural_size(1, 1, sample_size=256) == (1, 1)
    assert natural_size(1, 10**6, sample_size=256)[1] <= 4100


def test_cover_keeps_the_middle_and_the_shape() -> None:
    assert cover(RGB, height=20, width=30) is RGB
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 200
    square = cover(wide, height=10, width=10)
    assert square.shape == (10, 10, 3) and (square > 180).all()
