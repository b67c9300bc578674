"""Streams: the same numbers as the whole video, one clip of latency, memory that doesn't grow."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch

from reducio_codec import EncodedClip, ReducioCodec
from reducio_codec.config import TilingConfig
from reducio_codec.errors import InputError
from reducio_codec.io.pixels import to_bytes
from tests.helpers import ConvModel, TinyModel, moving_frames, moving_video

SMALL_TILES = TilingConfig(tile_size=64, tile_overlap=32)


@pytest.mark.parametrize("frames", [1, 16, 17, 40])
def test_stream_is_the_whole_video(frames: int) -> None:
    codec = ReducioCodec(ConvModel(), tiling=SMALL_TILES)
    video = moving_video(frames, 70, 90)
    latent, keyframe = codec.encode(video)
    clips = list(codec.encode_stream(iter(video)))
    assert torch.equal(torch.cat([clip.latent for clip in clips], dim=1), latent[0].as_subclass(torch.Tensor))
    assert np.array_equal(np.stack([c.keyframe for c in clips]), to_bytes(keyframe[0].permute(1, 2, 3, 0)).numpy())
    assert [clip.index for clip in clips] == list(range(len(clips)))
    assert sum(clip.num_frames for clip in clips) == frames
    assert {clip.size for clip in clips} == {(70, 90)}
    decoded = list(codec.decode_stream(iter(clips)))
    assert np.array_equal(np.stack(decoded), codec.decode(latent, keyframe, output="uint8")[0].numpy())


def test_one_clip_of_latency() -> None:
    codec = ReducioCodec(TinyModel())
    taken = []

    def camera():  # type: ignore[no-untyped-def]
        for number, frame in enumerate(moving_frames(100, 32, 32)):
            taken.append(number)
            yield frame

    pictures = codec.decode_stream(codec.encode_stream(camera()))
    next(pictures)
    assert len(taken) == 16
    for _ in range(16):
        next(pictures)
    assert len(taken) == 32


def test_clips_decode_alone_and_in_any_order() -> None:
    codec = ReducioCodec(TinyModel())
    video = moving_video(40, 40, 50)
    clips = list(codec.encode_stream(video))
    whole = np.stack(list(codec.decode_stream(clips)))
    alone = np.stack(list(codec.decode_stream([clips[2], clips[0]])))
    assert np.array_equal(alone, np.concatenate([whole[32:], whole[:16]]))


def test_tensor_frames_and_another_key_frame() -> None:
    codec = ReducioCodec(TinyModel())
    video = torch.from_numpy(moving_video(20, 32, 32))
    clips = list(codec.encode_stream(video, keyframe_index=0))
    assert np.array_equal(clips[1].keyframe, video[16].numpy())
    assert np.array_equal(list(codec.decode_stream(clips))[16], video[16].numpy())


def test_memory_does_not_grow_with_length() -> None:
    codec = ReducioCodec(TinyModel())

    def peak(frames: int) -> int:
        tracemalloc.start()
        count = sum(1 for _ in codec.decode_stream(codec.encode_stream(moving_frames(frames, 64, 64))))
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == frames
        return top

    peak(32)
    # all frames of the long one would be 5.9 MB
    assert peak(480) < peak(48) + 300_000


def test_refusals() -> None:
    codec = ReducioCodec(TinyModel())
    frame = np.zeros((32, 40, 3), np.uint8)
    with pytest.raises(InputError, match="0 frames"):
        list(codec.encode_stream([]))
    with pytest.raises(InputError, match="frame is 32x40, the ones before were 40x32"):
        list(codec.encode_stream([frame, frame.transpose(1, 0, 2)]))
    with pytest.raises(InputError, match="frame is an array of int64; allowed: uint8 or float"):
        list(codec.encode_stream([frame.astype(np.int64)]))
    with pytest.raises(InputError, match=r"frame has shape \(32, 40\)"):
        list(codec.encode_stream([frame[..., 0]]))
    # wrong arguments are refused at the call, before a frame is taken
    with pytest.raises(InputError, match="keyframe_index is 99"):
        codec.encode_stream([frame], keyframe_index=99)
    with pytest.raises(InputError, match="allowed: mean, copy"):
        codec.decode_stream([], decoder="wrap")
    (clip,) = codec.encode_stream([frame])
    wrong: list[tuple[object, str]] = [
        (replace(clip, latent=clip.latent[:, :2]), r"latent of clip 0 has shape \(16, 2, 1, 2\)"),
        (replace(clip, span=replace(clip.span, frames=17)), "has 17 frames; allowed: 1 to 16"),
        (frame, "clip is a ndarray; allowed: EncodedClip"),
    ]
    for bad, message in wrong:
        with pytest.raises(InputError, match=message):
            list(codec.decode_stream([bad]))  # type: ignore[list-item]
    assert isinstance(clip, EncodedClip)
