"""Side-by-side frames and strips have sizes that video codecs and eyes take, and show what they say."""

import numpy as np
import pytest

from reducio_codec.io.strips import LABEL_HEIGHT, SideBySide, amplified_error, fit, strip
from tests.helpers import moving_video


@pytest.mark.parametrize("size", [(1, 1), (17, 33), (70, 91), (256, 256), (1080, 1920), (40, 3840)])
def test_side_by_side_of_any_size(size: tuple[int, int]) -> None:
    height, width = size
    maker = SideBySide(height=height, width=width)
    picture = np.full((height, width, 3), 200, np.uint8)
    result = maker.frame(picture, picture - 10)
    assert result.shape == (maker.height, maker.width, 3) and result.dtype == np.uint8
    assert maker.height % 2 == 0 and maker.width % 2 == 0 and maker.width <= 3 * 1280
    third = maker.width // 3
    row = result[LABEL_HEIGHT]
    assert (row[third // 2] == 200).all() and (row[third + third // 2] == 190).all()
    assert (row[2 * third + third // 2] == 40).all()


def test_small_videos_are_enlarged_by_whole_factors() -> None:
    assert fit(width=33, height=17, widths=(128, 1280)) == (132, 68)
    assert fit(width=200, height=100, widths=(128, 1280)) == (200, 100)
    assert fit(width=3840, height=2160, widths=(128, 1280)) == (1280, 720)


def test_error_does_not_wrap_around() -> None:
    assert amplified_error(np.uint8([0, 10, 10]), np.uint8([255, 12, 7])).tolist() == [255, 8, 12]


@pytest.mark.parametrize("frames", [1, 5, 16])
def test_strip_has_four_rows_of_eight(frames: int) -> None:
    clip = moving_video(frames, 60, 100)
    picture = strip(clip, clip[0], {"decoded": clip})
    assert picture.shape == (4 * (60 + LABEL_HEIGHT), 800, 3)
    rows = [picture[n * (60 + LABEL_HEIGHT) + LABEL_HEIGHT :][:60] for n in range(4)]
    assert np.array_equal(rows[0], rows[2]) and not rows[3].any()
    assert np.array_equal(rows[0][:, :100], clip[0]) and np.array_equal(rows[0][:, -100:], clip[-1])
    assert np.array_equal(rows[1], np.tile(clip[0], (1, 8, 1)))
