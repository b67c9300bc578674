"""Targets are hit, by what the file holds; the key frame may sit elsewhere in each clip; old readers' files still read."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reducio_codec
from reducio_codec import ReducioCodec
from reducio_codec.coding.group import GroupCoder
from reducio_codec.coding.keyframes import BEST_QUALITY
from reducio_codec.coding.search import Law, Search, Setting
from reducio_codec.io.video import read_clip
from reducio_codec.metrics.lpips import Lpips
from reducio_codec.rdc.info import describe_rdc
from reducio_codec.rdc.reader import RdcReader
from tests.helpers import TinyModel, moving_video

PACKAGE = Path(reducio_codec.__file__).parent
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


@pytest.fixture(scope="module")
def real() -> np.ndarray[Any, Any]:
    """A flower in the wind, 32 frames of 128x64: so small that a step of quality is a quarter of a decibel."""
    frames = read_clip(PACKAGE / "assets" / "flower.mp4", frames=32)[:, 16:272]
    return frames.reshape(32, 64, 4, 128, 4, 3).mean((2, 4)).astype(np.uint8)


def coded(video: np.ndarray[Any, Any], **options: Any) -> tuple[Any, np.ndarray[Any, Any]]:
    """Report and the decoded frames of the bundled model."""
    codec, file = ReducioCodec.from_pretrained("reducio-lite"), io.BytesIO()
    report = codec.compress(list(video), file, rate=24, **options)
    with codec.open_file(file) as opened:
        return report, np.concatenate([opened.decode_clip(index) for index in range(opened.clips)])


@pytest.mark.parametrize("options", [{"target_psnr": 36.0}, {"target_psnr": 30.0, "keyframes": 2}])
def test_a_psnr_is_hit(options: dict[str, Any], real: np.ndarray[Any, Any]) -> None:
    report, decoded = coded(real, **options)
    assert psnr(decoded, real) == pytest.approx(options["target_psnr"], abs=0.3) and report.missed is None


def test_lpips_is_hit(real: np.ndarray[Any, Any]) -> None:
    report, decoded = coded(real, target_lpips=0.03)
    assert float(Lpips()(real, decoded).mean()) == pytest.approx(0.03, rel=0.15) and report.missed is None


def psnr(decoded: np.ndarray[Any, Any], video: np.ndarray[Any, Any]) -> float:
    """Pooled."""
    return float(10 * np.log10(255**2 / np.square(decoded.astype(np.float64) - video).mean()))


def test_a_quality_takes_fewer_bytes_where_key_frames_are_coded_together() -> None:
    video = moving_video(64, 64, 96)
    together, alone = (write(video, target_psnr=24.0, seek_every=float(group))[0] for group in (4, 1))
    assert together.missed == alone.missed
    assert together.bytes < 0.95 * alone.bytes


def test_targets_out_of_reach_are_told() -> None:
    video = noisy(32, 64, 96)
    report, _, _ = write(video, target_kbps=1)
    assert report.missed == f"target_kbps 1 was missed: the file has {report.kbits_per_second:.1f} kbit/s"
    report, _, _ = write(video, target_kbps=1e5)
    assert report.kbits_per_second < 1e5 and report.missed is not None
    assert report.missed.endswith("; more bits make 2.0 of 2.0 s no better")
    report, _, decoded = write(video, target_psnr=60.0)
    assert report.missed == f"target_psnr 60 was missed: the file has {psnr(decoded, video):.1f} dB"
    report, _, decoded = write(video, target_lpips=1e-5)
    assert report.missed == f"target_lpips 1e-05 was missed: the file has {float(Lpips()(video, decoded).mean()):.3f}"


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


def test_a_target_takes_few_codings(real: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer than four of a group, once the first has shown how far off what is foretold is."""
    codings, code = [], GroupCoder.code

    def counted(*args: Any, **options: Any) -> Any:
        codings.append(args)
        return code(*args, **options)

    monkeypatch.setattr(GroupCoder, "code", counted)
    coded(np.concatenate([real] * 2), target_kbps=60, seek_every=16 / 24)
    assert 4 <= len(codings) < 4 * 4


def test_bits_that_make_no_clip_better_are_not_spent() -> None:
    """Frames that have nothing in common with their key frame."""
    video = np.random.default_rng(0).integers(0, 256, (32, 64, 96, 3), dtype=np.uint8)
    most, _, _ = write(video, keyframe_quality=BEST_QUALITY, latent_step=0.25)
    report, _, _ = write(video, target_kbps=most.kbits_per_second)
    assert report.bytes < 0.8 * most.bytes
    assert report.missed is not None and report.missed.endswith("; more bits make 2.0 of 2.0 s no better")
    report, _, _ = write(video, target_psnr=60.0)
    assert report.bytes < 0.8 * most.bytes and "target_psnr 60 was missed" in str(report.missed)


@given(
    st.lists(st.integers(1, 1000), min_size=BEST_QUALITY + 1, max_size=BEST_QUALITY + 1),
    st.integers(1, 40_000),
    st.integers(0, BEST_QUALITY),
    st.booleans(),
    st.floats(0.5, 2.0),
)
def test_a_search_ends_near_or_between_neighbours(
    steps: list[int], wanted: int, jump: int, rising: bool, power: float
) -> None:
    """Values that rise or fall as they like, foretold by another power, with other key frames from one quality on."""
    values = np.cumsum(steps if rising else steps[::-1])[:: 1 if rising else -1].astype(float)
    factor = 3.0 if rising else 1 / 3.0

    def value(setting: Setting) -> float:
        return float(values[setting.pictures] * (factor if setting.quality >= jump else 1.0))

    law = Law(1.0)
    search = Search(
        lambda setting: value(setting) ** power,
        planned=lambda quality: (quality >= jump, quality),
        wanted=wanted,
        rising=rising,
        law=law,
    )
    while (setting := search.next()) is not None:
        assert len(search.tried) < 2 * BEST_QUALITY
        search.found(setting, value(setting))
    best = search.tried[search.best]
    reachable = [value(Setting(quality, quality)) for quality in range(BEST_QUALITY + 1)]
    if not min(reachable) < wanted < max(reachable):
        nearest = min(reachable, key=lambda item: abs(np.log(item / wanted)))
        assert best == pytest.approx(nearest, rel=0.2)
