"""Quality by distance from the key frame, and what changes at joins: on numbers that can be told by hand, and a real clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import reducio_codec
from reducio_codec.errors import InputError
from reducio_codec.io.video import open_video
from reducio_codec.metrics.over_time import ByDistance, changes, distances, psnr_by_frame, saw_tooth


def test_a_frame_belongs_to_the_nearest_key_frame() -> None:
    assert distances(32, keyframes=[7, 23]) == [*range(-7, 9), *range(-7, 9)]
    assert distances(5, keyframes=[4, 0]) == [0, 1, 2, -1, 0]  # the earlier of two that are equally near
    assert distances(3, keyframes=[1]) == [-1, 0, 1]


@pytest.mark.parametrize("keyframes", [[], [-1], [5], [0, 9]])
def test_key_frames_that_are_none(keyframes: list[int]) -> None:
    with pytest.raises(InputError, match="allowed: one or more from 0 to 4"):
        distances(5, keyframes=keyframes)


def test_a_saw_tooth_by_hand() -> None:
    """Quality falls by 1 dB a frame from 40 at the key frame: inner four 1 and 2 away, outer four 7, 6, 7 and 8 away."""
    meter = ByDistance()
    for offset in (0.0, 2.0):
        values = 40 + offset - np.abs(np.array(distances(32, keyframes=[7, 23])))
        meter.add(values, keyframes=[7, 23])
    table = meter.result()
    assert [row.distance for row in table] == list(range(-7, 9))
    assert all(row.frames == 4 and row.value == 41 - abs(row.distance) for row in table)
    assert saw_tooth(table) == pytest.approx(7 - 1.5)
    assert saw_tooth(table[4:]) is None  # a side of three frames has no inner and outer ones apart
    with pytest.raises(InputError, match="at least one"):
        ByDistance().result()


def test_changes_by_hand() -> None:
    steps = np.array([1, 1, 1, 9, 1, 1, 1, 5, 1, 1, 1])
    frames = np.repeat(np.cumsum([0, *steps]), 4 * 4 * 3).reshape(12, 4, 4, 3).astype(np.uint8)
    assert changes(frames, joins=[4, 8]) == (7.0, 1.0)
    assert changes(frames[::-1], joins=[4, 8]) == (7.0, 1.0)  # down as up: bytes don't wrap
    for joins in ([], [0], [12], range(1, 12)):
        with pytest.raises(InputError, match="joins are"):
            changes(frames, joins=joins)


def test_a_real_clip() -> None:
    """The key frame repeated: perfect there, and worse the further away."""
    with open_video(Path(reducio_codec.__file__).parent / "assets" / "flower.mp4") as reader:
        frames = np.stack([frame.rgb[::2, ::2] for _, frame in zip(range(32), reader, strict=False)])
    copied = frames[np.repeat([7, 23], 16)]
    values = psnr_by_frame(frames, copied)
    assert values[7] == values[23] == pytest.approx(80)
    meter = ByDistance()
    meter.add(values, keyframes=[7, 23])
    table = {row.distance: row.value for row in meter.result()}
    assert table[0] == pytest.approx(80) and table[1] > table[4] > table[8] and table[-1] > table[-4] > table[-7]
    tooth = saw_tooth(meter.result())
    assert tooth is not None and tooth > 1
    joins, elsewhere = changes(copied, joins=[16])
    assert elsewhere == 0 and joins > 3 * changes(frames, joins=[16])[0]
    with pytest.raises(InputError, match="of one shape"):
        psnr_by_frame(frames, copied[:3])
