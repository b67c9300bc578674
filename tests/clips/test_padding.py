"""Padding repeats the border and is undone exactly; a window is the same as a crop of the padded picture."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reducio_codec.clips.padding import crop, pad, padded_length, window

SIDE = st.integers(1, 70)


@given(height=SIDE, width=SIDE)
@settings(max_examples=40, deadline=None)
def test_pad_and_crop(height: int, width: int) -> None:
    picture = torch.arange(height * width).reshape(1, height, width)
    padded = pad(picture)
    assert padded.shape[-2] % 32 == 0 and padded.shape[-1] % 32 == 0
    assert padded.shape[-2] - height < 32 and padded.shape[-1] - width < 32
    assert torch.equal(crop(padded, height=height, width=width), picture)
    below = padded[..., height - 1 :, :width]
    assert torch.equal(below, picture[..., -1:, :].expand_as(below))
    assert (padded[..., -1, -1] == picture[..., -1, -1]).all()


@given(height=SIDE, width=SIDE, data=st.data())
@settings(max_examples=40, deadline=None)
def test_window_is_a_crop_of_the_padded_picture(height: int, width: int, data: st.DataObject) -> None:
    picture = torch.randint(0, 255, (2, height, width), dtype=torch.uint8)
    padded = pad(picture)
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    rows = data.draw(st.integers(1, padded.shape[-2] - top))
    columns = data.draw(st.integers(1, padded.shape[-1] - left))
    cut = window(picture, top=top, left=left, height=rows, width=columns)
    assert torch.equal(cut, padded[..., top : top + rows, left : left + columns])


def test_multiple_of_32_is_not_copied() -> None:
    picture = torch.zeros(3, 64, 96)
    assert pad(picture).data_ptr() == picture.data_ptr()
    assert [padded_length(n) for n in (1, 32, 33, 64)] == [32, 32, 64, 64]
