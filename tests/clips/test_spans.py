"""Clips cover a video once and put each clip's own key frame where the model expects it."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reducio_codec.clips.spans import count_clips, group_frames, own_keyframe, plan_clips, take_clip


@given(frames=st.integers(1, 100), keyframe_index=st.integers(0, 15))
@settings(max_examples=100, deadline=None)
def test_clips_cover_the_video(frames: int, keyframe_index: int) -> None:
    video = torch.arange(frames)
    spans = plan_clips(frames, keyframe_index=keyframe_index)
    assert len(spans) == count_clips(frames)
    joined = []
    for span in spans:
        clip = take_clip(video, span, dim=0)
        assert clip.shape == (16,)
        assert span.lead >= 0 and span.lead + span.frames <= 16
        own = own_keyframe(span.frames, keyframe_index=keyframe_index)
        assert clip[keyframe_index] == video[span.start + own]
        assert span.lead + own == keyframe_index  # a real frame, not a copy
        joined.append(clip[span.keep])
    assert torch.equal(torch.cat(joined), video)


def test_middle_is_the_references() -> None:
    assert [own_keyframe(n, keyframe_index=7) for n in range(1, 17)] == [(n - 1) // 2 for n in range(1, 17)]
    assert {own_keyframe(n, keyframe_index=0) for n in range(1, 17)} == {0}
    assert [own_keyframe(n, keyframe_index=15) for n in range(1, 17)] == list(range(16))


def test_short_clip_repeats_both_ends() -> None:
    (span,) = plan_clips(3, keyframe_index=7)
    assert take_clip(torch.tensor([5, 6, 9]), span, dim=0).tolist() == [5] * 7 + [6] + [9] * 8


@given(frames=st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_group_frames(frames: int) -> None:
    groups = list(group_frames(iter(range(frames))))
    assert [len(group) for group in groups] == [min(16, frames - start) for start in range(0, frames, 16)]
    assert [x for group in groups for x in group] == list(range(frames))


def test_group_frames_does_not_read_ahead() -> None:
    seen = []

    def camera():
        for index in range(40):
            seen.append(index)
            yield index

    groups = group_frames(camera())
    next(groups)
    assert len(seen) == 16
