"""Frames where clips meet: drawn towards one another, as far as a file says that the scene goes on."""

from __future__ import annotations

import io
import random
from itertools import pairwise

import numpy as np
import pytest
import torch

from reducio_codec.cli.roundtrip import EXAMPLE
from reducio_codec.clips.joins import SHARES, changed, drawn
from reducio_codec.clips.streams import EncodedClip
from reducio_codec.codec import ReducioCodec
from reducio_codec.errors import FormatError
from reducio_codec.io.video import read_clip
from reducio_codec.rdc.reader import ClipRecord
from tests.helpers import decoded_clips, moving_video

CODEC = ReducioCodec.from_pretrained("reducio-lite")
FLOWER = read_clip(EXAMPLE)


def one(frame: np.ndarray, across: np.ndarray, *, share: float) -> np.ndarray:
    """A frame drawn by itself."""
    (found,) = drawn(frame[None], across, shares=[share])
    return found


def clip_at(height: int, width: int) -> np.ndarray:
    """The middle of the example's frames."""
    top, left = ((length - wanted) // 2 for length, wanted in zip(FLOWER.shape[1:3], (height, width), strict=True))
    return FLOWER[:, top : top + height, left : left + width]


def alike(found: np.ndarray, expected: np.ndarray) -> bool:
    """Whether they are the same but for rounding: how many threads share a clip decides in which order it is summed up."""
    return found.shape == expected.shape and np.abs(found.astype(int) - expected).max() <= 1


def test_smooth_differences_are_shared_and_details_stay() -> None:
    frame = np.ascontiguousarray(clip_at(128, 160)[3])
    brighter = np.clip(frame.astype(int) + 8, 0, 255).astype(np.uint8)
    assert np.array_equal(one(frame, frame, share=0.5), frame)
    met, back = one(frame, brighter, share=0.5), one(brighter, frame, share=0.5)
    assert (met.astype(int) - frame).mean() > 0 and (back.astype(int) - brighter).mean() < 0
    assert np.abs(met.astype(int) - back).mean() < 0.6 * np.abs(brighter.astype(int) - frame).mean()
    noise = np.random.default_rng(0).integers(-20, 21, frame.shape)
    rough = np.clip(frame.astype(int) + noise, 0, 255).astype(np.uint8)
    assert np.abs(one(frame, rough, share=0.5).astype(int) - frame).mean() < 0.1 * np.abs(noise).mean()


def test_what_moved_is_compared_where_it_came_from() -> None:
    picture = np.ascontiguousarray(clip_at(192, 256)[3])
    own, other = picture[:, 16:240], picture[:, 8:232]
    assert np.abs(one(own, other, share=0.5).astype(int) - own).mean() < 0.25 * np.abs(other.astype(int) - own).mean()


def test_a_flash_stays_where_it_is() -> None:
    dark, light = np.full((64, 96, 3), 20, np.uint8), np.full((64, 96, 3), 235, np.uint8)
    assert one(dark, light, share=SHARES[0]).max() <= 20 + 13


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (33, 17), (130, 2)])
def test_any_size(size: tuple[int, int]) -> None:
    frame, other = np.full((*size, 3), 100, np.uint8), np.full((*size, 3), 110, np.uint8)
    met = one(frame, other, share=0.5)
    assert met.shape == frame.shape and met.dtype == np.uint8 and (met == 105).all()


def test_several_are_what_each_is_by_itself() -> None:
    frames = np.ascontiguousarray(clip_at(96, 160)[:3])
    both = drawn(frames[:2], frames[2], shares=SHARES)
    for frame, found, share in zip(frames, both, SHARES, strict=False):
        assert np.abs(found.astype(int) - one(frame, frames[2], share=share)).max() <= 1


def test_short_clips_keep_their_ends_apart() -> None:
    assert [changed(frames) for frames in (1, 2, 3, 4, 16)] == [0, 1, 1, 2, 2]


def test_only_frames_beside_joins_within_a_scene_change() -> None:
    flower = clip_at(64, 96)
    video = np.concatenate([flower[:32], 255 - flower[:24]])  # a cut at frame 32
    file = io.BytesIO()
    CODEC.compress(list(video), file, rate=16, keyframes=1, keyframe_quality=30)
    with CODEC.open_file(file) as opened:
        starts = [opened.record(index).start for index in range(opened.clips)]
        assert 32 in starts and len(starts) >= 4
        alone = np.concatenate([opened.decode_clip(index) for index in range(opened.clips)])
        shown = np.concatenate([opened.shown_clip(index) for index in range(opened.clips)])
    differ = {number for number, (a, b) in enumerate(zip(alone, shown, strict=True)) if not np.array_equal(a, b)}
    beside = {start + place for start in starts[1:] if start != 32 for place in (-2, -1, 0, 1)}
    assert differ and differ <= beside
    jump = [
        [np.abs(frames[start] - frames[start - 1].astype(int)).mean() for start in (16,)] for frames in (alone, shown)
    ]
    assert jump[1] < jump[0]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_in_order_each_clip_is_decoded_once(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(threads)
    file = io.BytesIO()
    CODEC.compress(list(moving_video(96, 64, 96)), file, rate=16, keyframes=1)
    decoded = decoded_clips(monkeypatch)
    with CODEC.open_file(file) as video:
        frames = list(video)
        assert sorted(decoded) == [0, 1, 2, 3, 4, 5] and decoded[:2] == [0, 1]  # several at once end in any order
        assert not video.shown_clip(5).flags.writeable
        decoded.clear()
        assert alike(video[24], frames[24]) and alike(video[25], frames[25])
        assert decoded == [1]  # between a clip's ends no clip beside it counts
        assert alike(video[17], frames[17])
        assert decoded == [1, 0, 2]  # and at its ends those beside it alone
    for first, second in pairwise(frames[:3]):
        assert not np.shares_memory(first, second)


def test_damage_ahead_is_raised_in_its_turn() -> None:
    torch.set_num_threads(4)
    file = io.BytesIO()
    CODEC.compress(list(moving_video(96, 64, 96)), file, rate=16, keyframes=1)
    with CODEC.open_file(file) as video:
        whole = [video.shown_clip(index) for index in range(video.clips)]
    with CODEC.open_file(file) as video, pytest.MonkeyPatch.context() as patch:
        real = video.clip

        def damaged(record: ClipRecord) -> EncodedClip:
            if record.index == 4:
                raise FormatError("damaged")
            return real(record)

        patch.setattr(video, "clip", damaged)
        for index in (0, 1, 2):
            assert alike(video.shown_clip(index), whole[index])
        assert alike(video.shown_clip(3)[:14], whole[3][:14])  # its end has nothing to be drawn to
        with pytest.raises(FormatError, match="damaged"):
            video.shown_clip(4)
        assert alike(video.shown_clip(5)[2:], whole[5][2:])


@pytest.mark.parametrize("threads", [1, 3])
def test_clips_in_any_order_are_those_in_order(threads: int) -> None:
    """Of seven clips the second goes on with the first and the last with the one before, so that some have neighbours."""
    torch.set_num_threads(threads)
    flower, inside = clip_at(64, 64)[:32], 7  # a frame between a clip's ends is read without the clips beside it
    alone = flower[:16]
    scenes = [255 - flower, alone, 255 - alone, alone, 255 - flower]
    file = io.BytesIO()
    CODEC.compress(list(np.concatenate(scenes)), file, rate=16, keyframes=1)
    decoders = ("linear", "add")
    with CODEC.open_file(file) as video:
        assert [bool(video.clip(video.record(index)).cut) for index in range(1, 7)] == [False, *[True] * 4, False]
        whole = {name: [video.shown_clip(index, decoder=name) for index in range(video.clips)] for name in decoders}
    forgotten = [(0, "linear", False), *((index, "linear", False) for index in (2, 3, 4)), (0, "linear", False)]
    draw = random.Random(0)
    walks = [[(draw.randrange(7), draw.choice(decoders), draw.random() < 0.2) for _ in range(25)] for _ in range(4)]
    in_order = [(index, "linear", False) for index in (*range(6), 2, 3, 4, 5, 6)]
    for walk in (forgotten, in_order, *walks):
        with CODEC.open_file(file) as video:
            for index, name, only_inside in walk:
                if only_inside:
                    frame = video.get_frames_at([16 * index + inside], decoder=name).data[0].numpy()
                    assert alike(frame, whole[name][index][inside]), walk
                else:
                    assert alike(video.shown_clip(index, decoder=name), whole[name][index]), walk
