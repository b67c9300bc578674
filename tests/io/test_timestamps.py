"""Frame times: exact where they are good, mended where they aren't."""

from __future__ import annotations

import itertools
import logging
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reducio_codec.io.timestamps import PtsRepair
from reducio_codec.io.video import open_video
from reducio_codec.io.writer import VideoWriter

TIMES = st.lists(st.one_of(st.none(), st.integers(-(10**6), 10**6)), min_size=1, max_size=40)


def repair(**options) -> PtsRepair:
    return PtsRepair(**{"name": "a.avi", "time_base": Fraction(1, 1000), "rate": Fraction(25), **options})


@settings(max_examples=200, deadline=None)
@given(times=TIMES, dts=TIMES)
def test_whatever_comes_times_increase(times, dts):
    mend = repair()
    fixed = [mend(pts, dts=decode) for pts, decode in zip(times, dts, strict=False)]
    assert all(later > earlier for earlier, later in itertools.pairwise(fixed))


@settings(max_examples=100, deadline=None)
@given(times=st.sets(st.integers(-(10**9), 10**9), min_size=1, max_size=40))
def test_good_times_are_not_touched(times):
    mend = repair()
    assert [mend(pts) for pts in sorted(times)] == sorted(times)
    assert mend.repaired == 0


@pytest.mark.parametrize(
    ("times", "fixed", "faults"),
    [
        ([0, 40, None, 120], [0, 40, 80, 120], 1),
        ([0, 40, 40, 80], [0, 40, 60, 80], 1),
        ([0, 40, 30, 80], [0, 40, 60, 80], 1),
        ([None, None, 80], [0, 40, 80], 2),
        ([0, 40, 5000, 0, 40, 90], [0, 40, 5000, 5040, 5080, 5130], 1),  # two recordings joined
    ],
)
def test_mended_times(times, fixed, faults, caplog):
    mend = repair()
    with caplog.at_level(logging.WARNING):
        assert [mend(pts) for pts in times] == fixed
    assert mend.repaired == faults
    assert len(caplog.records) == 1


def test_decoding_times_stand_in():
    mend = repair()
    assert [mend(None, dts=dts) for dts in (0, 40, 120, None)] == [0, 40, 120, 160]


def copy_with_times(path, content, times, *, time_base):
    with VideoWriter(
        path, width=content.shape[2], height=content.shape[1], time_base=time_base, rate=Fraction(16)
    ) as w:
        for rgb, pts in zip(content, times, strict=True):
            w.write(rgb, pts)
    with open_video(path) as reader:
        return reader.info.time_base, [frame.pts for frame in reader]


@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
@pytest.mark.parametrize(
    ("time_base", "times"),
    [
        (Fraction(1, 16), list(range(12))),
        (Fraction(1001, 30000), list(range(12))),
        (Fraction(1001, 24000), [100 + index for index in range(12)]),
        (Fraction(1, 90000), [5000 + 3000 * index + 700 * index**2 for index in range(12)]),
        (Fraction(1, 12800), [512 * index for index in range(12)]),
        (Fraction(1, 1), [3, 4, 9]),
    ],
)
def test_mp4_keeps_every_time_exactly(tmp_path, synthetic_frames, name, time_base, times):
    """Variable rate, a first frame that isn't at 0, B-frames (x264 uses them here)."""
    base, got = copy_with_times(tmp_path / name, synthetic_frames(len(times)), times, time_base=time_base)
    assert [pts * base for pts in got] == [pts * time_base for pts in times]


@settings(max_examples=8, deadline=None)
@given(
    steps=st.lists(st.integers(1, 5000), min_size=2, max_size=10),
    first=st.integers(0, 10**6),
    time_base=st.sampled_from([Fraction(1, 600), Fraction(1, 90000), Fraction(1001, 60000)]),
)
def test_any_times_survive_mp4(tmp_path_factory, steps, first, time_base):
    times = list(np.cumsum([first, *steps]).tolist())
    content = np.zeros((len(times), 16, 16, 3), np.uint8)
    content[:] = np.arange(len(times), dtype=np.uint8)[:, None, None, None] * 20
    path = tmp_path_factory.mktemp("times") / "a.mp4"
    base, got = copy_with_times(path, content, times, time_base=time_base)
    assert [pts * base for pts in got] == [pts * time_base for pts in times]


@pytest.mark.parametrize("name", ["a.mkv", "a.webm"])
def test_matroska_rounds_to_milliseconds(tmp_path, synthetic_frames, name):
    times = [100 + index for index in range(12)]
    base, got = copy_with_times(tmp_path / name, synthetic_frames(12), times, time_base=Fraction(1001, 30000))
    assert max(abs(a * base - b * Fraction(1001, 30000)) for a, b in zip(got, times, strict=True)) <= Fraction(1, 2000)


def test_time_before_zero_is_moved_and_said(tmp_path, synthetic_frames, caplog):
    base, got = copy_with_times(tmp_path / "a.mp4", synthetic_frames(3), [-2, -1, 1], time_base=Fraction(1, 16))
    assert [pts * base for pts in got] == [0, Fraction(1, 16), Fraction(3, 16)]
    assert "begins before time 0" in caplog.text


def test_b_frames_come_in_display_order(make_video, synthetic_frames):
    path = make_video("a.mkv", frames=24, codec="libx264", options={"bf": "3", "crf": "1"})
    with av.open(str(path)) as container:
        stamps = [packet.pts for packet in container.demux(video=0) if packet.pts is not None]
    assert stamps != sorted(stamps)  # the file really has B-frames
    with open_video(path) as reader:
        frames = list(reader)
    content = synthetic_frames(24).astype(int)
    for index, frame in enumerate(frames):
        nearest = np.abs(content - frame.rgb).mean(axis=(1, 2, 3)).argmin()
        assert nearest == index


def test_a_stream_without_times(make_video, caplog):
    """A bare H.264 stream has none; frames come at the stream's own rate."""
    path = make_video("a.h264", frames=10)
    with open_video(path) as reader:
        times = [frame.pts * reader.info.time_base for frame in reader]
        rate = reader.info.rate
    assert len(times) == 10
    assert all(later - earlier == 1 / rate for earlier, later in itertools.pairwise(times))
    assert "mended" in caplog.text


def test_real_clip_has_the_times_of_its_file(sample_video):
    with open_video(sample_video) as reader:
        assert reader.info.rate == 16
        times = [frame.pts * reader.info.time_base for frame in reader]
    assert times == [Fraction(index, 16) for index in range(64)]
