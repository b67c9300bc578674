"""Rate and distortion: encoders through PyAV with honest byte counts, our files, BD-rates, tables, plots."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import bench.codecs.conventional as conventional
from bench.__main__ import main
from bench.codecs.anchors import ENCODERS, anchors
from bench.codecs.conventional import LONG_GOP, Conventional
from bench.codecs.ours import File, files
from bench.codecs.packets import without_comments
from bench.methods import NotRunError
from bench.plots import plot
from bench.rd import candidates, run
from bench.rd_curves import bd_rates, read_rd, to_scale
from bench.tables import everything
from reducio_codec import ReducioCodec
from reducio_codec.errors import InputError
from reducio_codec.metrics.psnr import psnr
from tests.bench.fakes import NO_NETWORKS, Noise, drop_sample, missing_codec, noisy_codec, quiet, video_folder
from tests.helpers import TinyModel, moving_video

RATE = Fraction(16)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return moving_video(32, 128, 128, seed=2)


def keyframes(name: str, packets: list[bytes]) -> int:
    """Packets from which decoding can begin, by their own first bytes."""

    def starts(packet: bytes) -> bool:
        if name == "x264":
            return 5 in {packet[i + 3] & 31 for i in range(len(packet) - 3) if packet[i : i + 3] == b"\0\0\1"}
        if name == "x265":
            kinds = {(packet[i + 3] >> 1) & 63 for i in range(len(packet) - 3) if packet[i : i + 3] == b"\0\0\1"}
            return bool(kinds & {16, 17, 18, 19, 20, 21})
        if name == "svtav1":
            return packet[0] >> 3 & 15 == 1  # the sequence header comes with each key frame
        return not packet[0] & 4  # VP9: frame_type

    return sum(map(starts, packets))


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_there_and_back(name: str, frames: np.ndarray) -> None:
    encoder = ENCODERS[name]
    encoder.check()
    coded = [
        Conventional(encoder=encoder, crf=crf, gop=16)(frames, rate=RATE) for crf in (encoder.crf[0], encoder.crf[-1])
    ]
    assert all(item.frames.shape == frames.shape for item in coded)
    assert coded[0].bytes > 1.5 * coded[1].bytes
    assert psnr(coded[0].frames, frames) > psnr(coded[1].frames, frames) + 1
    assert psnr(coded[0].frames, frames) > 30, "wrong colours would not reach this"


@pytest.mark.parametrize("name", ENCODERS)
def test_key_frames_are_where_the_protocol_says(name: str, frames: np.ndarray) -> None:
    encoder = ENCODERS[name]
    for gop, expected in ((16, 2), (LONG_GOP, 1)):
        headers, packets = encoder.encode(frames, rate=RATE, crf=encoder.crf[2], gop=gop)
        assert keyframes(name, packets) == expected
        assert len(encoder.decode(headers, packets)) == 32
    headers, packets = encoder.encode(frames, rate=RATE, crf=encoder.crf[2], gop=16)
    if name in ("x264", "x265"):  # coding order is by groups: the second is decodable alone, so it is closed
        second = next(i for i, packet in enumerate(packets) if i and keyframes(name, [packet]))
        assert len(encoder.decode(headers, packets[second:])) == 16


@pytest.mark.parametrize("name", ENCODERS)
def test_encoding_twice_gives_the_same_bytes(name: str, frames: np.ndarray) -> None:
    encoder = ENCODERS[name]
    pair = [encoder.encode(frames[:16], rate=RATE, crf=encoder.crf[2], gop=16) for _ in range(2)]
    assert pair[0] == pair[1]


def test_comments_are_not_counted(frames: np.ndarray) -> None:
    headers, packets = ENCODERS["x264"].encode(frames[:16], rate=RATE, crf=40, gop=16)
    assert b"x264" not in headers + b"".join(packets)
    assert len(headers) < 60
    unit, comment = b"\0\0\0\1\x65abc", b"\0\0\1\x06\x05secret"
    assert without_comments(comment + unit, codec="h264") == unit
    assert without_comments(unit + comment, codec="h264") == unit
    assert without_comments(b"\0\0\1\x4e\x01secret" + b"\0\0\1\x26\x01abc", codec="hevc") == b"\0\0\1\x26\x01abc"
    units = {
        number: b"\0\0\1\0" + bytes([number << 3 | 1]) + b"abc" for number in (7, 20, 23, 24)
    }  # IDR, delimiter, SEI
    assert without_comments(b"".join(units.values()), codec="vvc") == units[7]
    assert without_comments(b"\x12\x00rest", codec="av1") == b"rest"
    assert without_comments(b"anything", codec="h264") == b"anything"


def test_parts_add_up_to_the_bytes(frames: np.ndarray) -> None:
    encoder = ENCODERS["x265"]
    coded = Conventional(encoder=encoder, crf=40, gop=16)(frames, rate=RATE)
    headers, packets = encoder.encode(frames, rate=RATE, crf=40, gop=16)
    assert coded.bytes == len(headers) + sum(map(len, packets))


def test_settings_say_preset_gop_and_library() -> None:
    found = {name: Conventional(encoder=encoder, crf=40, gop=16).settings for name, encoder in ENCODERS.items()}
    assert found["x264"]["options"]["preset"] == "veryslow" and "keyint=16" in found["x264"]["options"]["x264-params"]
    assert found["x265"]["options"]["preset"] == "slow" and found["svtav1"]["options"]["preset"] == "4"
    assert found["vp9"]["options"]["cpu-used"] == "1"
    assert all(settings["libavcodec"] for settings in found.values())


def test_an_encoder_that_is_not_built_in() -> None:
    from dataclasses import replace

    with pytest.raises(NotRunError, match="has no libnothing"):
        replace(ENCODERS["x264"], library="libnothing").check()
    with pytest.raises(NotRunError, match="has no nodecoder"):
        replace(ENCODERS["x264"], decoder="nodecoder").check()


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="no such schedules here")
@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_leaves_the_thread_scheduled_as_it_was(frames: np.ndarray, name: str) -> None:
    """For root, SVT-AV1 makes it real-time, which every process started later inherits."""
    before = os.sched_getscheduler(0)
    ENCODERS[name].encode(frames[:2], rate=RATE, crf=40, gop=16)
    assert os.sched_getscheduler(0) == before


def test_every_encoder_twice() -> None:
    names = [candidate.name for candidate in anchors()]
    both = [f"{codec}-{gop}" for codec in ("x264", "x265", "svtav1", "vp9") for gop in ("gop16", "long")]
    assert names == [*both, "vvenc-long", "x264-444-long", "x265-444-long", "vp9-444-long"]
    assert conventional.GOPS["gop16"] == 16


def test_our_file_counts_every_byte(frames: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = ReducioCodec(TinyModel(), model_id="tiny", model_hash="0011223344556677")
    sizes = []
    compress = codec.compress

    def spy(source, target, **options):
        report = compress(source, target, **options)
        sizes.append(target.stat().st_size)
        return report

    monkeypatch.setattr(codec, "compress", spy)
    good = File(codec=codec, decoder="mean", quality=80, step=0.25)(frames, rate=RATE)
    assert good.frames.shape == frames.shape
    assert [good.bytes] == sizes and good.parts["container"] > 0 and good.parts["keyframes"] > 0
    poor = File(codec=codec, decoder="mean", quality=10, step=2.0)(frames, rate=RATE)
    assert poor.bytes < good.bytes
    assert psnr(poor.frames[7], frames[7]) < psnr(good.frames[7], frames[7])
    together = File(codec=codec, decoder="mean", quality=80, step=0.25, group=2)(frames, rate=RATE)
    assert together.parts["keyframes"] < good.parts["keyframes"] and together.frames.shape == frames.shape


def test_our_grid() -> None:
    candidate = files("reducio-lite", decoder="linear", qualities=(5, 50), steps=(0.5, 2.0))
    assert candidate.name == "reducio-lite-linear"
    assert files("reducio-lite", decoder="linear", group=4, effort=20).name == "reducio-lite-linear-group4-effort20"
    assert list(candidate.points) == ["q05-s0.5", "q05-s2", "q50-s0.5", "q50-s2"]
    everyone = candidates(models=["reducio-lite"], decoder="linear", qualities=(50,), steps=(1.0,))
    assert [each.name for each in everyone][:3] == ["reducio-lite-linear", "reducio-lite-linear-auto", "x264-gop16"]


# ------------------------------------------------------------------ curves, tables, plots


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = video_folder(tmp_path_factory.mktemp("data"), {"a.mp4": 32, "b.mp4": 16}, height=256, width=256)
    folder = tmp_path_factory.mktemp("results")
    methods = [
        noisy_codec("x264-long"),
        noisy_codec("half-the-bits", cost=0.5, latent_step=1),
        missing_codec("vp9-long"),
    ]
    assert run(methods, data=data, results=folder, quality=NO_NETWORKS, console=quiet()) == []
    return folder


def test_bd_rate_of_half_the_bits(results: Path) -> None:
    data = read_rd(results)
    assert set(data.methods) == {"x264-long", "half-the-bits"}
    assert data.left_out == {"vp9-long": "not run: this machine has none"}
    for metric in ("psnr_pooled", "psnr_pooled_without_keyframe", "ms_ssim"):
        found = bd_rates(data, test="half-the-bits", anchor="x264-long", metric=metric)
        assert set(found) == {"a.mp4", "b.mp4"}
        assert list(found.values()) == pytest.approx([-50, -50], abs=0.2)
    assert bd_rates(data, test="half-the-bits", anchor="x264-long", metric="lpips") == "not run: needs a.pth"


def test_tables(results: Path) -> None:
    text = everything(results)
    assert "BD-rate against x264-long" in text and "BD-rate of half-the-bits against each other" in text
    line = next(line for line in text.splitlines() if line.startswith("| half-the-bits | -50.0"))
    assert "(2)" in line and "not run: needs a.pth" in line
    assert "| vp9-long | not run: this machine has none |" in text
    rates = next(line for line in text.splitlines() if line.startswith("| x264-long | - "))
    assert "(2)" in rates, "0.008 bpp isn't covered, 0.02 is"


def test_plots(results: Path, tmp_path: Path) -> None:
    written = plot(read_rd(results), tmp_path)
    assert {path.name for path in written} >= {"rd-psnr_pooled.svg", "rd-ms_ssim.png"}
    assert not any("lpips" in path.name for path in written)
    assert all(path.stat().st_size > 5000 for path in written)


def test_quality_grows_on_every_scale() -> None:
    assert to_scale("ms_ssim", 0.99) == pytest.approx(20)
    assert to_scale("lpips", 0.1) > to_scale("lpips", 0.2)
    assert to_scale("psnr_pooled", 30) == 30


def test_an_incomplete_grid_is_left_out(results: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "results"
    shutil.copytree(results, copy)
    drop_sample(copy / "rd" / "half-the-bits.jsonl", point="p2", sample="a.mp4")
    data = read_rd(copy)
    assert "p2 incomplete: 1 of 2" in data.left_out["half-the-bits"]
    with pytest.raises(InputError, match="nothing to draw"):
        (copy / "rd" / "x264-long.jsonl").unlink()
        plot(read_rd(copy), tmp_path / "plots")


def test_lost_frames_are_a_failure_not_a_result(tmp_path: Path) -> None:
    from bench.methods import Candidate

    data = video_folder(tmp_path / "data", {"a.mp4": 16}, height=256, width=256)
    lossy = Candidate(name="lossy", points={"p0": lambda: Noise(3, 0.1, lose=1)})
    failures = run([lossy], data=data, results=tmp_path / "r", quality=NO_NETWORKS, console=quiet())
    assert "15 frames came back, 16 went in" in failures[0]
    assert "15 frames" in read_rd(tmp_path / "r").left_out["lossy"]


def test_commands(tmp_path: Path) -> None:
    data = video_folder(tmp_path / "data", {"a.mp4": 16}, height=256, width=256)
    folder = str(tmp_path / "r")
    command = ["run", "rd", "--data", str(data), "-o", folder, "--unit", "clip", "--methods", "x264-gop16"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert read_rd(Path(folder)).protocol.unit == "clip"
    done = CliRunner().invoke(main, ["plot", folder, "-o", str(tmp_path / "plots")])
    assert done.exit_code == 0 and "rd-psnr_pooled.svg" in done.output
    done = CliRunner().invoke(main, ["run", "rd", "--data", str(tmp_path / "no"), "-o", folder])
    assert done.exit_code == 2 and "isn't a folder" in done.output
    done = CliRunner().invoke(main, ["run", "rd", "--data", str(data), "--qualities", "5,x"])
    assert done.exit_code == 2 and "list of numbers" in done.output
    assert CliRunner().invoke(main, ["run", "speed", "--help"]).exit_code == 0
