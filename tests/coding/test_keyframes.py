"""Key frames by content: how many a clip gets, and files whose clips have none or many."""

from __future__ import annotations

import io
from itertools import chain, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reducio_codec import ReducioCodec
from reducio_codec.clips.spans import ClipSpan, spread
from reducio_codec.coding.decompress import Damage, decoded_clips
from reducio_codec.coding.keyframes import COUNTS, Costs, unexplained
from reducio_codec.errors import FormatError, InputError, ReducioError
from reducio_codec.measure.roundtrip import roundtrip
from reducio_codec.rdc.layers.cuts import Cut
from reducio_codec.rdc.reader import RdcReader
from tests.helpers import moving_video
from tests.test_files import damaged

Frames = NDArray[np.uint8]


@pytest.fixture(scope="module")
def codec() -> ReducioCodec:
    return ReducioCodec.from_pretrained("reducio-test")


def coded(codec: ReducioCodec, video: Frames, **options: Any) -> bytes:
    file = io.BytesIO()
    codec.compress(list(video), file, **{"rate": 16, **options})
    return file.getvalue()


def shown(codec: ReducioCodec, data: bytes, **options: Any) -> Frames:
    with codec.open_file(io.BytesIO(data)) as video:
        return np.concatenate([video.decode_clip(index, **options) for index in range(video.clips)])


def counts(data: bytes) -> list[int]:
    return [len(record.references) for record in RdcReader(io.BytesIO(data))]


def picture(height: int = 64, width: int = 96, *, seed: int = 0) -> Frames:
    """Something with edges and texture."""
    rng = np.random.default_rng(seed)
    rough = rng.integers(30, 220, (height // 8, width // 8, 3))
    return (rough.repeat(8, 0).repeat(8, 1) + rng.integers(-12, 12, (height, width, 3))).clip(0, 255).astype(np.uint8)


def worst(first: Frames, second: Frames) -> float:
    """Largest mean squared error of a frame."""
    return float(np.square(first.astype(np.int32) - second).mean((1, 2, 3)).max())


def test_a_still_picture_is_sent_once(codec: ReducioCodec) -> None:
    video = np.repeat(picture()[None], 400, 0)
    file = io.BytesIO()
    report = codec.compress(list(video), file, rate=16)
    data = file.getvalue()
    assert counts(data) == [1] + [0] * 24
    assert report.bytes - report.keyframe_bytes < 24 * 15 + 150
    with codec.open_file(io.BytesIO(data)) as opened:
        key = opened.keyframe(opened.record(0))
    assert worst(shown(codec, data)[16:], key[None]) < 2, "what the last key frame showed"
    assert np.array_equal(shown(codec, data)[16:32], shown(codec, data)[-16:])


def test_slides_change_at_their_frames(codec: ReducioCodec) -> None:
    slides = [picture(seed=number) for number in range(4)]
    video = np.stack([slides[frame // 37] for frame in range(4 * 37)])
    data = coded(codec, video)
    reader = RdcReader(io.BytesIO(data))
    pictured = [record for record in reader if record.references]
    assert [record.start for record in pictured] == [0, 37, 74, 111]
    assert all(len(record.references) == 1 for record in pictured)
    assert set(reader.cuts) == {record.index for record in pictured[1:]}
    errors = np.square(shown(codec, data).astype(np.int32) - video).mean((1, 2, 3))
    assert errors.max() < 2 * errors.min() + 20


def test_a_pointer_on_a_still_picture_moves_on(codec: ReducioCodec) -> None:
    """It is 1% of the picture, which a mean over all of it would pass over."""
    video = np.repeat(picture()[None], 64, 0)
    for frame in range(32, 64):
        video[frame, 20:28, frame : frame + 8] = (255, 0, 0)
    data = coded(codec, video)
    assert counts(data)[:2] == [1, 0] and all(counts(data)[2:])
    here = np.square(shown(codec, data)[63, 20:28, 63:71].astype(np.int32) - video[63, 20:28, 63:71]).mean()
    assert here < 3000, "it is there"


def test_more_motion_gets_more_key_frames(codec: ReducioCodec) -> None:
    wide = picture(64, 480)
    video = {
        speed: np.stack([wide[:, speed * frame : speed * frame + 96] for frame in range(16)]) for speed in (0, 2, 20)
    }
    rough = np.random.default_rng(1).integers(0, 255, (16, 64, 96, 3)).astype(np.uint8)
    numbers = [counts(coded(codec, clip))[0] for clip in (video[0], video[2], rough)]
    assert numbers[0] == 1 and numbers == sorted(numbers) and numbers[2] > 4
    assert unexplained(video[0]) == [0, 0, 0, 0]
    assert unexplained(video[0][:1]) == [] and len(unexplained(video[2][:4])) == 2
    few, many = (sum(counts(coded(codec, video[20], keyframe_quality=quality))) for quality in (0, 60))
    assert few <= many


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("frames", [1, 5, 16, 37])
def test_so_many_in_each_clip(codec: ReducioCodec, count: int, frames: int) -> None:
    video = moving_video(frames, 64, 96)
    data = coded(codec, video, keyframes=count, keyframe_codec="png")
    reader = RdcReader(io.BytesIO(data))
    for record in reader:
        span = ClipSpan(start=record.start, frames=record.frames, lead=record.lead)
        assert [frame - record.start for frame in record.references] == list(spread(span, count))
        assert len(record.references) == (count if record.frames == 16 else max(1, len(record.references)))
        if len(record.references) == record.frames:
            assert record.latent == b""
    decoded = shown(codec, data)
    for record in reader:
        for frame in record.references:
            assert np.array_equal(decoded[frame], video[frame]), "png is exact"
    if count == 16:
        assert np.array_equal(decoded[: frames - frames % 16], video[: frames - frames % 16])
    assert shown(codec, data, decoder="linear").shape == video.shape


def test_all_decoders_show_clips_without_pictures(codec: ReducioCodec) -> None:
    data = coded(codec, np.repeat(picture()[None], 48, 0))
    assert counts(data) == [1, 0, 0]
    for options in ({}, {"references": 1}, {"decoder": "linear"}):
        assert worst(shown(codec, data, **options)[16:], shown(codec, data, **options)[15:16]) < 2


def test_what_moves_behind_a_still_clip_stays_out_of_it(codec: ReducioCodec) -> None:
    """Its neighbour on the other side shows something else by then: it is kept away by a mark."""
    still = np.repeat(picture()[None], 64, 0)
    video = np.concatenate([still, moving_video(32, 64, 96) // 2 + still[:32] // 2])
    for seconds in (2.0, 60.0):  # the next key frame in a sequence of its own, and in the same
        data = coded(codec, video, seek_every=seconds)
        reader = RdcReader(io.BytesIO(data))
        first = next(record.index for record in reader if record.index and record.references)
        assert reader.cut(first) & Cut.FORWARD and counts(data)[1] == 0
        last = reader.span(first).start
        assert worst(shown(codec, data)[16:last], shown(codec, data)[16:17]) < 2


def test_a_lost_picture_costs_the_clips_that_show_it(codec: ReducioCodec) -> None:
    video = np.concatenate([np.repeat(picture(seed=seed)[None], 48, 0) for seed in range(2)])
    data = coded(codec, video, seek_every=1.0)
    bad = damaged(data, clip=0, part="keyframe")
    damage = Damage(conceal=True)
    with codec.open_file(io.BytesIO(bad)) as opened:
        found = np.stack([frame for frame, _, _ in chain.from_iterable(decoded_clips(opened, damage=damage))])
        with pytest.raises(FormatError, match="clip 1"):
            opened.decode_clip(1)
    assert damage.clips == [0, 1, 2] and np.array_equal(found[48:], shown(codec, data)[48:])


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_damage_is_concealed_or_refused(codec: ReducioCodec, data: st.DataObject) -> None:
    if not hasattr(test_any_damage_is_concealed_or_refused, "file"):
        still = np.repeat(picture(32, 32)[None], 32, 0)
        whole = coded(codec, np.concatenate([still, moving_video(20, 32, 32)]))
        test_any_damage_is_concealed_or_refused.file = whole  # type: ignore[attr-defined]
    changed = bytearray(test_any_damage_is_concealed_or_refused.file)  # type: ignore[attr-defined]
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    damage = Damage(conceal=True)
    try:
        with codec.open_file(io.BytesIO(bytes(changed))) as video:
            frames = np.stack([frame for frame, _, _ in chain.from_iterable(decoded_clips(video, damage=damage))])
    except ReducioError:
        return
    assert frames.shape[1:] == (32, 32, 3)


def test_targets_choose_key_frames_too(codec: ReducioCodec) -> None:
    video = np.concatenate([np.repeat(picture()[None], 32, 0), moving_video(64, 64, 96)])
    file = io.BytesIO()
    report = codec.compress(list(video), file, rate=16, target_kbps=20)
    assert abs(report.kbits_per_second / 20 - 1) < 0.05 and report.missed is None
    good = coded(codec, video, target_psnr=30)
    errors = np.square(shown(codec, good).astype(np.int32) - video).mean((1, 2, 3)).reshape(-1, 16).mean(1)
    assert 10 * np.log10(255**2 / errors.max()) > 29


def test_latents_by_themselves_need_one_key_frame_a_clip(codec: ReducioCodec) -> None:
    data = coded(codec, np.repeat(picture()[None], 32, 0))
    with (
        codec.open_file(io.BytesIO(data)) as video,
        pytest.raises(InputError, match=r"clip 1 has 0 key frames, .*keyframes=1"),
    ):
        video.latents()
    data = coded(codec, moving_video(32, 64, 96), keyframes=4)
    with codec.open_file(io.BytesIO(data)) as video, pytest.raises(InputError, match="clip 0 has 4 key frames"):
        video.latents()


def test_a_roundtrip_of_clips_without_pictures(codec: ReducioCodec, tmp_path: Any) -> None:
    frames = np.concatenate([np.repeat(picture()[None], 32, 0), moving_video(16, 64, 96)])
    found = roundtrip(codec, list(frames), tmp_path / "out", rate=16)
    assert found.decoded.psnr.pooled > found.copied.psnr.pooled and all(path.is_file() for path in found.outputs)


def test_better_key_frames_cost_more_and_show_more() -> None:
    costs = [Costs.of(quality) for quality in range(101)]
    assert all(a.error > b.error and a.bits < b.bits and a.slope > b.slope for a, b in pairwise(costs))
