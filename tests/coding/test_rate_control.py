"""Targets are hit, by what the file holds; the key frame may sit elsewhere in each clip; old readers' files still read."""

from __future__ import annotations

import io
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reducio_codec import ReducioCodec
from reducio_codec.clips.runner import ClipRunner
from reducio_codec.coding.rate_control import BEST_QUALITY, search_quality
from reducio_codec.rdc.info import describe_rdc
from reducio_codec.rdc.reader import RdcReader
from tests.helpers import TinyModel, moving_video

CODEC = ReducioCodec(TinyModel(), model_id="tiny", model_hash="0011223344556677")


def write(video: np.ndarray[Any, Any], **options: Any) -> tuple[Any, RdcReader, np.ndarray[Any, Any]]:
    """Report, reader, and the decoded frames."""
    file = io.BytesIO()
    report = CODEC.compress(list(video), file, rate=16, **options)
    file.seek(0)
    with CODEC.open_file(io.BytesIO(file.getvalue())) as opened:
        frames = np.concatenate([opened.decode_clip(i, decoder="mean") for i in range(opened.clips)])
    return report, RdcReader(file), frames


def noisy(frames: int, height: int, width: int) -> np.ndarray[Any, Any]:
    """Nearly still pictures with something to spend bits on; every second clip is three times as hard."""
    rng = np.random.default_rng(0)
    clips = []
    for number in range(-(-frames // 16)):
        picture = 128 + rng.normal(0, 12 if number % 2 else 36, (1, height, width, 3))
        clips.append(picture + np.linspace(0, 20, 16)[:, None, None, None])
    return np.concatenate(clips)[:frames].clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("group", [1, 4])
@pytest.mark.parametrize("kbps", [20, 50])
def test_a_rate_is_hit_within_5_percent_over_10_seconds(kbps: float, group: int) -> None:
    report, reader, _ = write(noisy(160, 64, 96), target_kbps=kbps, seek_every=float(group))
    info = describe_rdc(reader._file)
    assert info.latent_step_range == tuple(f({clip.step / 1024 for clip in reader}) for f in (min, max))
    assert report.kbits_per_second == pytest.approx(kbps, rel=0.05)
    assert report.missed is None
    if group == 1:
        pictures = [reader.read_pictures(reader.pictures.group(clip.references[0])[0])[0] for clip in reader]
        assert len({clip.step for clip in reader}) > 1 or len(set(map(len, pictures))) > 1


def test_a_rate_is_hit_by_a_single_group_too() -> None:
    """Nothing comes after it that could make up for what it misses."""
    report, _, _ = write(noisy(64, 64, 96), target_kbps=30)
    assert report.kbits_per_second == pytest.approx(30, rel=0.05) and report.missed is None


def test_a_quality_is_reached_by_every_clip() -> None:
    video = noisy(48, 64, 96)
    for target in (24.0, 30.0):
        _, _, decoded = write(video, target_psnr=target)
        errors = np.square(decoded.astype(np.float64) - video).reshape(3, -1).mean(1)
        psnr = 10 * np.log10(255**2 / errors)
        best, _, reached = write(video, keyframe_quality=95, latent_step=0.25)
        limit = 10 * np.log10(255**2 / np.square(reached.astype(np.float64) - video).reshape(3, -1).mean(1))
        assert (psnr >= np.minimum(target, limit) - 0.3).all()
        assert best.bytes >= report_bytes(video, target)


def test_a_quality_takes_fewer_bytes_where_key_frames_are_coded_together() -> None:
    video = moving_video(64, 64, 96)
    together, alone = (write(video, target_psnr=24.0, seek_every=float(group))[0] for group in (4, 1))
    assert together.missed == alone.missed
    assert together.bytes < 0.95 * alone.bytes


def report_bytes(video: np.ndarray[Any, Any], target: float) -> int:
    return int(write(video, target_psnr=target)[0].bytes)


def test_targets_out_of_reach_are_told() -> None:
    video = noisy(32, 64, 96)
    report, _, _ = write(video, target_kbps=1)
    assert report.missed == f"target_kbps 1 was missed: the file has {report.kbits_per_second:.1f} kbit/s"
    report, _, _ = write(video, target_kbps=1e5)
    assert report.kbits_per_second < 1e5 and report.missed is not None
    assert report.missed.endswith("2 of 2 clips don't get better with more bits")
    report, _, _ = write(video, target_psnr=60.0)
    assert report.missed == "target_psnr 60 is out of reach for 2 of 2 clips"


def test_best_keyframe_is_stored_for_each_clip_and_never_worse() -> None:
    """In the first clip the usual key frame is a flash that nothing else looks like; the second clip is short."""
    video = moving_video(21, 64, 96)
    video[7] = 255 - video[7]
    _, usual, plain = write(video)
    _, reader, chosen = write(video, keyframe="best")
    assert [clip.references[0] - clip.start for clip in usual] == [7, 2]
    assert reader.read_clip(0).references[0] in (3, 11)
    assert np.square(chosen.astype(float) - video).mean() < np.square(plain.astype(float) - video).mean()
    assert len(chosen) == 21


@pytest.mark.parametrize("group", [1, 4])
def test_a_rate_takes_one_more_encoding_of_a_clip_and_hardly_a_decoding(
    group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = count_runs(monkeypatch)
    write_only(noisy(64, 64, 96), target_kbps=10, seek_every=float(group))
    assert runs == {"encode": 2 * 4}
    runs.clear()
    write_only(
        noisy(64, 64, 96), target_kbps=100, seek_every=float(group)
    )  # one clip of a group shows whether that helps
    assert runs["encode"] == 2 * 4 and 0 < runs["decode"] <= 2 * 4 / group


def test_bits_that_make_no_clip_better_are_not_spent() -> None:
    """Frames that have nothing in common with their key frame."""
    video = np.random.default_rng(0).integers(0, 256, (32, 64, 96, 3), dtype=np.uint8)
    most, _, _ = write(video, keyframe_quality=BEST_QUALITY, latent_step=0.25)
    report, _, _ = write(video, target_kbps=most.kbits_per_second)
    assert report.bytes < 0.8 * most.bytes
    assert report.missed is not None and report.missed.endswith("2 of 2 clips don't get better with more bits")
    report, _, _ = write(video, target_psnr=60.0)
    assert report.bytes < 0.8 * most.bytes
    assert report.missed == "target_psnr 60 is out of reach for 2 of 2 clips"


def test_a_quality_takes_few_decodings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hardest clip is searched for, the others are tried with its quality."""
    runs = count_runs(monkeypatch)
    write_only(noisy(64, 64, 96), target_psnr=26.0)
    assert runs["decode"] <= 2 * 4 + 2 and runs["encode"] == runs["decode"] + 4


def count_runs(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Runs of encoder and decoder from now on, a clip each."""
    runs: Counter[str] = Counter()

    def spy(name: str) -> None:
        run = getattr(ClipRunner, name)

        def counted(*args: Any, **options: Any) -> Any:
            runs[name] += 1
            return run(*args, **options)

        monkeypatch.setattr(ClipRunner, name, counted)

    spy("encode")
    spy("decode")
    return runs


def write_only(video: np.ndarray[Any, Any], **options: Any) -> None:
    CODEC.compress(list(video), io.BytesIO(), rate=16, **options)


@given(
    st.lists(st.integers(1, 1000), min_size=BEST_QUALITY + 1, max_size=BEST_QUALITY + 1),
    st.integers(1, 40_000),
    st.integers(0, BEST_QUALITY),
    st.integers(0, BEST_QUALITY),
    st.booleans(),
)
def test_a_search_ends_near_or_between_neighbours(
    steps: list[int], wanted: int, start: int, lowest: int, rising: bool
) -> None:
    values = np.cumsum(steps if rising else steps[::-1])[:: 1 if rising else -1]
    tried = search_quality(
        lambda quality: float(values[quality]), wanted, start=max(start, lowest), lowest=lowest, rising=rising
    )
    assert len(tried) <= 12
    assert all(value == values[quality] for quality, value in tried.items())
    if any(abs(value / wanted - 1) <= 0.02 for value in tried.values()):
        return
    allowed = range(lowest, BEST_QUALITY + 1)
    enough = [quality for quality in allowed if (values[quality] >= wanted) == rising]
    first = enough[0] if enough else BEST_QUALITY + 1
    assert {first - 1, first} & set(allowed) <= set(tried)
