"""Durations and rates come from the frames' own times, and go through a file."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from reducio_codec import ReducioCodec
from reducio_codec.errors import FormatError
from reducio_codec.io.video import open_video, read_clip
from reducio_codec.io.writer import VideoWriter
from reducio_codec.measure.roundtrip import roundtrip
from reducio_codec.rdc.info import describe_file, describe_rdc
from reducio_codec.rdc.reader import RdcReader
from reducio_codec.training.scan import ScanOptions, scan
from reducio_codec.training.store import StreamStore
from tests.conftest import write_clip
from tests.fuzz.records import Pieces
from tests.helpers import TinyModel, moving_frames, moving_video

CODEC = ReducioCodec(TinyModel(), model_id="tiny", model_hash="0011223344556677")
LYING = (Fraction(1, 1000), Fraction(1000))  # time base and nominal rate, as browsers write them


def write(path, times, *, last, base=Fraction(1, 100), rate=Fraction(10)):
    with VideoWriter(path, width=64, height=64, time_base=base, rate=rate) as writer:
        for rgb, time in zip(moving_frames(len(times), 64, 64), times, strict=True):
            writer.write(rgb, time, duration=last)
    return path


def length(path):
    with av.open(str(path)) as container:
        return container.duration / av.time_base


@pytest.mark.parametrize("source", ["a.mp4", "a.mkv", "a.webm", "a.gif"])
@pytest.mark.parametrize(
    ("times", "last"),
    [
        ((0, 10, 20), 300),  # rests on its last picture
        ((0, 200, 500), 400),  # slides
        ((0,), 600),  # one picture
        (tuple(range(0, 200, 10)), 10),  # a constant rate costs nothing
        (tuple(range(0, 170, 10)), 250),  # a last clip of one frame
    ],
)
def test_how_long_the_last_picture_is_shown_is_kept(tmp_path, source, times, last):
    expected = (times[-1] + last) / 100
    file = tmp_path / "a.rdc"
    report = CODEC.compress(write(tmp_path / source, times, last=last), file)
    assert float(report.duration) == pytest.approx(expected)
    info = describe_file(file)
    assert info.duration_s == pytest.approx(expected)
    assert float(info.rate) == pytest.approx(len(times) / expected, rel=1e-3)
    assert info.video.kbit_s == pytest.approx(8 * info.video.bytes / expected / 1000)
    assert report.kbits_per_second == pytest.approx(info.video.kbit_s)
    constant = last == 10 and source != "a.gif"
    with file.open("rb") as opened:
        assert (RdcReader(opened).end is None) == constant or source == "a.gif" or len(times) == 1
    with CODEC.open_file(file) as video:
        assert float(video.duration) == pytest.approx(expected)
    for target in ("b.mp4", "b.gif", "b.mkv"):
        CODEC.decompress(file, tmp_path / target)
        assert length(tmp_path / target) == pytest.approx(expected, abs=0.011)
        with open_video(tmp_path / target) as reader:
            frames = list(reader)
            assert len(frames) == len(times)
            tick = reader.info.time_base
            assert float(frames[-1].duration * tick) == pytest.approx(last / 100, abs=0.011)


def test_a_part_ends_with_its_last_frame(tmp_path):
    times = (0, 10, 30, 100, 110, 120, 500, 510)
    file = tmp_path / "a.rdc"
    CODEC.compress(write(tmp_path / "a.mkv", times, last=200), file)
    for start, frames, seconds in ((0, 3, 1.0), (2, 2, 0.8), (5, 1, 3.8), (3, 5, 6.1)):
        CODEC.decompress(file, tmp_path / "b.mp4", start=start, frames=frames)
        assert length(tmp_path / "b.mp4") == pytest.approx(seconds)


def test_a_part_ends_where_the_next_clip_begins(tmp_path):
    file = tmp_path / "a.rdc"
    times = [10 * index for index in range(16)] + [900]
    CODEC.compress(write(tmp_path / "a.mkv", times, last=10), file)
    CODEC.decompress(file, tmp_path / "b.mp4", start=14, frames=2)
    assert length(tmp_path / "b.mp4") == pytest.approx(7.6)


def test_a_clock_that_began_long_ago(tmp_path):
    """A broadcast's times count from whenever; the file that is made of it begins at 0."""
    base = 20_000 * 100
    source = write(tmp_path / "a.mkv", [base + 10 * index for index in range(18)], last=10)
    CODEC.compress(source, tmp_path / "a.rdc")
    CODEC.decompress(tmp_path / "a.rdc", tmp_path / "b.mp4")
    assert length(tmp_path / "b.mp4") == pytest.approx(1.8)
    assert describe_file(tmp_path / "a.rdc").duration_s == pytest.approx(1.8)
    assert describe_file(source).duration_s == pytest.approx(1.8)


def test_targets_follow_the_frames_times(tmp_path):
    """1 frame a second under a header of 1000: a second is a second."""
    base, rate = LYING
    times = [1000 * index + index % 3 for index in range(40)]
    source = write(tmp_path / "a.mkv", times, last=1000, base=base, rate=rate)
    for target in (4.0, 8.0):
        report = CODEC.compress(source, io.BytesIO(), target_kbps=target)
        assert report.duration == pytest.approx(40, abs=0.01)
        assert report.kbits_per_second == pytest.approx(target, rel=0.25) or "no better" in (report.missed or "")


def test_lost_times_are_guessed_from_the_frames_that_were_there(tmp_path):
    base, rate = LYING
    times = [1000 * index + index % 3 for index in range(20)]
    file = io.BytesIO()
    CODEC.compress(write(tmp_path / "a.mkv", times, last=1000, base=base, rate=rate), file)
    assert RdcReader(file).header.rate == pytest.approx(1, rel=0.01)
    file.seek(0)
    assert describe_rdc(file).duration_s == pytest.approx(20, abs=0.01)


def test_info_says_what_the_packets_say(tmp_path):
    base, rate = LYING
    source = write(tmp_path / "a.mkv", (0, 900, 2100, 3000), last=1000, base=base, rate=rate)
    info = describe_file(source)
    assert (info.frames, info.duration_s, info.rate) == (4, 4.0, 1)
    assert info.kbit_s == pytest.approx(8 * source.stat().st_size / 4 / 1000)


def test_info_of_a_folder_with_a_link_that_leads_nowhere(tmp_path):
    with VideoWriter(tmp_path / "f", width=64, height=64, time_base=Fraction(1, 16), rate=Fraction(16)) as writer:
        writer.write(next(iter(moving_frames(1, 64, 64))), 0)
    (tmp_path / "f" / "gone.png").symlink_to(tmp_path / "no.png")
    info = describe_file(tmp_path / "f")
    assert (info.frames, info.bytes) == (1, (tmp_path / "f" / "00000.png").stat().st_size)


def test_any_name_on_the_command_line(tmp_path):
    """In a process of its own, which prints it: under UTF-8, where such a name can't be written as text."""
    name = b"caf\xe9 \xff %03d 100%.mkv"
    write(tmp_path / "a.mkv", range(0, 40, 10), last=10).rename(tmp_path / os.fsdecode(name))

    def run(*arguments):
        environment = {**os.environ, "PYTHONUTF8": "1"}
        command = [sys.executable, "-m", "reducio_codec", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    stem = name[:-4]
    assert stem + b".rdc" in run("encode", name)
    assert json.loads(run("info", "--json", stem + b".rdc"))["frames"] == 4
    assert b"4 frames" in run("info", name)
    assert stem + b".decoded.mp4" in run("decode", stem + b".rdc")


@pytest.mark.parametrize("name", [b"100%.mkv", b"%03d.mkv", b"caf\xe9 \xff.mkv"])
def test_any_name_through_a_roundtrip(tmp_path, name):
    source = write(tmp_path / "a.mkv", range(0, 40, 10), last=10).rename(tmp_path / os.fsdecode(name))
    made = roundtrip(CODEC, source, tmp_path / source.stem)
    assert all(path.is_file() for path in made.outputs)
    assert length(made.outputs[1]) == pytest.approx(0.4)


def test_a_file_that_a_decoder_fails_on_is_left_out(tmp_path, monkeypatch, caplog):
    """Whatever it raises: it is named and counted, and the others go on."""
    good = write(tmp_path / "good.mp4", range(0, 400, 10), last=10)
    bad = write(tmp_path / os.fsdecode(b"b\xffd.mp4"), range(0, 400, 10), last=10)
    data = bad.read_bytes()
    bad.write_bytes(data.replace(b"avc1\0\0", b"zzz1\0\0"))
    options = ScanOptions(frame_rate=0.0, stored_side=0, store=False, find_cuts=False)
    found = scan([bad, good], cache=tmp_path / "cache", options=options)
    assert [video.path for video in found.videos] == [good]
    ((name, reason),) = found.skipped
    assert (name, "FFmpeg can't decode" in reason) == (str(bad), True)
    assert "1 of 2 videos are left out" in caplog.text

    def fail(*_arguments, **_options):
        raise AttributeError("a surprise")

    monkeypatch.setattr("reducio_codec.training.scan.open_video", fail)
    with pytest.raises(Exception, match="a surprise"):
        scan([good], cache=tmp_path / "other", options=options)
    monkeypatch.setattr("reducio_codec.training.store._seek", fail)
    with pytest.raises(Exception, match=r"good\.mp4 can't be decoded: AttributeError: a surprise"):
        StreamStore(found.videos).frames(0, [0])
    assert np.isfinite(found.videos[0].motion).all()


TOP = (1 << 31) - 1


@pytest.mark.parametrize(
    "said",
    [
        {"time_base": [TOP, 1]},  # 68 years a frame
        {"time_base": [TOP, 1], "frame_duration": (1 << 40) - 1},
        {"time_base": [2, 1], "frame_duration": (1 << 40) - 1},
    ],
    ids=str,
)
def test_times_that_no_video_has_are_the_files_fault(said, tmp_path):
    """They were called wrong usage, or what a C long can't hold."""
    file = io.BytesIO()
    CODEC.compress(moving_frames(20, 32, 32), file, rate=16)
    data = Pieces.of(file.getvalue()).say(**said).join()
    for on_error in ("raise", "conceal"):
        with pytest.raises(FormatError, match="times"):
            CODEC.decompress(io.BytesIO(data), tmp_path / "a.mp4", on_error=on_error)
    assert not list(tmp_path.iterdir())
    with CODEC.open_file(io.BytesIO(data)) as video:
        assert len(list(video)) == 20  # pictures are pictures
    json.dumps(describe_rdc(io.BytesIO(data)).to_json(), allow_nan=False)


@pytest.mark.parametrize("gap", [1, 3, 40, 20_000])
def test_any_times_that_are_written_are_read(gap, tmp_path):
    """Irregular times above 21,000 frames a second: as a fraction the mean rate's numbers had more than 31 bits."""
    rng = np.random.default_rng(gap)
    times = np.cumsum(rng.integers(1, gap + 1, 37)).tolist()
    write_clip(tmp_path / "a.mp4", moving_video(37, 32, 32), pts=times, time_base=Fraction(1, TOP))
    CODEC.compress(tmp_path / "a.mp4", tmp_path / "a.rdc")
    with CODEC.open_file(tmp_path / "a.rdc") as video:
        found = [time for clip in range(video.clips) for time in video.times(video.record(clip))]
        assert max(video.rate.numerator, video.rate.denominator) <= TOP
    assert np.diff(found).tolist() == np.diff(times).tolist()
    CODEC.decompress(tmp_path / "a.rdc", tmp_path / "b.mp4")
    assert read_clip(tmp_path / "b.mp4").shape == (37, 32, 32, 3)
