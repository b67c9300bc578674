"""Sound goes through unchanged: the same packets, at the same times."""

from __future__ import annotations

import io
import itertools
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from reducio_codec.errors import VideoError
from reducio_codec.io import audio as audio_module
from reducio_codec.io.audio import AudioTrack, read_audio
from reducio_codec.io.video import open_video
from reducio_codec.io.writer import VideoWriter


def film(path, frames, *, codec="aac", sample_rate=44100, delay=Fraction(0), picture_start=0, seconds=2):
    """A video with a tone, written by plain PyAV."""
    base = Fraction(1, 16)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264" if path.suffix != ".webm" else "libvpx-vp9", rate=16)
        video.width, video.height, video.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        video.codec_context.time_base = base
        sound = container.add_stream(codec, rate=sample_rate)
        sound.layout = "mono"
        for index, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = picture_start + index, base
            container.mux(video.encode(frame))
        wave = (8000 * np.sin(np.arange(sample_rate * seconds) / 20)).astype(np.int16)
        resampler = av.AudioResampler(format=sound.codec_context.format, layout="mono", rate=sample_rate)
        for start in range(0, len(wave), 960):
            frame = av.AudioFrame.from_ndarray(wave[None, start : start + 960], format="s16", layout="mono")
            frame.sample_rate, frame.time_base = sample_rate, Fraction(1, sample_rate)
            frame.pts = start + int(delay * sample_rate)
            for ready in resampler.resample(frame):
                container.mux(sound.encode(ready))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    return path


def packets(path):
    """(seconds relative to the first video frame, bytes) of every audio packet, and the codec's setup."""
    with av.open(str(path)) as container:
        first = next(container.decode(video=0))
        begin = first.pts * first.time_base
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        found = [
            (packet.pts * packet.time_base - begin, bytes(packet)) for packet in container.demux(stream) if packet.size
        ]
        return found, stream.codec_context.extradata


def copy(target, frames, track, **options):
    with VideoWriter(
        target, width=64, height=48, time_base=Fraction(1, 16), rate=Fraction(16), audio=track, **options
    ) as writer:
        for index, rgb in enumerate(frames):
            writer.write(rgb, options.get("first", 0) + index)
    return target


@pytest.mark.parametrize("target", ["out.mkv", "out.mp4", "out.mov"])
@pytest.mark.parametrize("delay", [Fraction(0), Fraction(1, 2)])
def test_aac_packets_are_the_same_bytes(tmp_path, synthetic_frames, target, delay):
    frames = synthetic_frames(32)
    source = film(tmp_path / "in.mp4", frames, delay=delay)
    track = read_audio(source)
    assert track is not None
    assert (track.codec, track.sample_rate, track.channels) == ("aac", 44100, 1)
    before, setup = packets(source)
    after, setup_after = packets(copy(tmp_path / target, frames, track))
    assert [data for _, data in after] == [data for _, data in before]
    assert setup_after == setup
    slack = Fraction(0) if target != "out.mkv" else Fraction(1, 1000)
    # Matroska has no times before 0: there, sound that begins earlier moves picture and sound together.
    assert max(abs(a - b) for (a, _), (b, _) in zip(after, before, strict=True)) <= slack


def test_sound_survives_a_trip_through_bytes(tmp_path, synthetic_frames):
    frames = synthetic_frames(8)
    source = film(tmp_path / "in.mp4", frames)
    track = read_audio(source)
    data = track.to_bytes()
    again = AudioTrack.from_bytes(data)
    assert again.to_bytes() == data
    assert (again.codec, again.offset, again.sample_rate, again.channels) == ("aac", track.offset, 44100, 1)
    assert track.offset == Fraction(-1024, 44100)  # the AAC encoder's run-in
    assert read_audio(source).to_bytes() == data  # no dates, no random numbers
    for name in ("a.mp4", "b.mp4"):  # a track can be written more than once
        after, _ = packets(copy(tmp_path / name, frames, again))
        assert after == packets(source)[0]


@pytest.mark.parametrize(
    ("source", "codec", "rate", "target"),
    [
        ("in.webm", "libopus", 48000, "out.webm"),
        ("in.webm", "libopus", 48000, "out.mp4"),
        ("in.mkv", "flac", 44100, "out.mkv"),
        ("in.mkv", "pcm_s16le", 8000, "out.mkv"),
        ("in.mkv", "libmp3lame", 44100, "out.mp4"),
        ("in.avi", "libmp3lame", 44100, "out.mkv"),
    ],
)
def test_other_codecs(tmp_path, synthetic_frames, source, codec, rate, target):
    frames = synthetic_frames(16)
    path = film(tmp_path / source, frames, codec=codec, sample_rate=rate, seconds=1)
    before, _ = packets(path)
    after, _ = packets(copy(tmp_path / target, frames, read_audio(path)))
    assert [data for _, data in after] == [data for _, data in before]
    assert max(abs(a - b) for (a, _), (b, _) in zip(after, before, strict=True)) <= Fraction(2, 1000)


@pytest.mark.parametrize(("codec", "rate"), [("mp2", 48000), ("flac", 96000)])
@pytest.mark.parametrize("target", ["out.mp4", "out.mkv"])
def test_times_of_sound_that_repeat(tmp_path, synthetic_frames, codec, rate, target):
    path, odd = film(tmp_path / "a.mkv", synthetic_frames(16), codec=codec, sample_rate=rate), tmp_path / "odd.mkv"
    with av.open(str(path)) as source, av.open(str(odd), "w") as out:
        streams = {s.index: out.add_stream_from_template(s) for s in source.streams}
        times = []
        for packet in source.demux():
            if packet.size:
                if packet.stream.type == "audio":
                    times.append(packet.pts)
                    if 5 <= len(times) < 9:
                        packet.pts = packet.dts = times[4] + (len(times) > 7)
                packet.stream = streams[packet.stream_index]
                out.mux(packet)
    track = read_audio(odd)
    copy(tmp_path / target, synthetic_frames(16), track)
    with av.open(str(tmp_path / target)) as container:
        copied = [packet for packet in container.demux(audio=0) if packet.size]
    with av.open(str(odd)) as container:
        assert len(copied) == len([packet for packet in container.demux(audio=0) if packet.size])
    assert all(a.pts < b.pts or target == "out.mkv" for a, b in itertools.pairwise(copied))


def test_sound_follows_the_picture(tmp_path, synthetic_frames):
    """The source's picture begins at 5 s, the copy's at 2 s: the sound keeps its distance to the picture."""
    frames = synthetic_frames(16)
    source = film(tmp_path / "in.mkv", frames, picture_start=80, delay=Fraction(21, 4))
    track = read_audio(source)
    assert abs(track.offset - Fraction(1, 4)) < Fraction(1, 20)
    target = tmp_path / "out.mp4"
    with VideoWriter(target, width=64, height=48, time_base=Fraction(1, 16), rate=Fraction(16), audio=track) as writer:
        for index, rgb in enumerate(frames):
            writer.write(rgb, 32 + index)
    with open_video(target) as reader:
        assert reader.info.has_audio
        assert next(iter(reader)).pts * reader.info.time_base == 2
    after, _ = packets(target)
    assert abs(after[0][0] - track.offset) <= Fraction(1, 1000)


@pytest.mark.parametrize("target", ["out.webm", "out.gif", "pictures"])
def test_sound_that_does_not_fit_is_left_out_and_said(tmp_path, synthetic_frames, target, caplog):
    frames = synthetic_frames(4)
    track = read_audio(film(tmp_path / "in.mp4", frames, seconds=1))
    with open_video(copy(tmp_path / target, frames, track)) as reader:
        assert not reader.info.has_audio
        assert len(list(reader)) == 4
    assert "can't hold aac sound, which is left out; write a .mkv to keep it" in caplog.text


def test_no_sound(sample_video, tmp_path, synthetic_frames):
    assert read_audio(sample_video) is None
    (tmp_path / "f").mkdir()
    assert read_audio(tmp_path / "f") is None
    Image.fromarray(synthetic_frames(1)[0]).save(tmp_path / "a.avif")
    assert read_audio(tmp_path / "a.avif") is None


def test_a_sound_file_has_sound(tmp_path, synthetic_frames):
    source = film(tmp_path / "in.mp4", synthetic_frames(4), seconds=1)
    sound = tmp_path / "a.mka"
    sound.write_bytes(read_audio(source).to_bytes())
    assert read_audio(sound).codec == "aac"


def test_sound_of_a_truncated_video(tmp_path, synthetic_frames):
    """What is there is kept, packet for packet."""
    source = film(tmp_path / "in.mkv", synthetic_frames(32))
    before, _ = packets(source)
    data = source.read_bytes()
    source.write_bytes(data[: len(data) // 2])
    after, _ = packets(copy(tmp_path / "out.mkv", synthetic_frames(4), read_audio(source)))
    assert 0 < len(after) < len(before)
    assert [data for _, data in after] == [data for _, data in before[: len(after)]]


def test_several_streams_keep_the_first(tmp_path, caplog):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=8000, layout="mono") for _ in range(2)]
        for level, stream in enumerate(streams):
            frame = av.AudioFrame.from_ndarray(np.full((1, 800), level + 1, np.int16), format="s16", layout="mono")
            frame.sample_rate = 8000
            container.mux(stream.encode(frame))
    track = read_audio(tmp_path / "a.mkv")
    assert "has 2 audio streams; the first is kept" in caplog.text
    with av.open(io.BytesIO(track.to_bytes())) as container:
        assert set(np.frombuffer(b"".join(bytes(packet) for packet in container.demux()), np.int16)) == {1}


def test_a_long_track_waits_on_disk(tmp_path, synthetic_frames, monkeypatch):
    monkeypatch.setattr(audio_module, "SPOOL_BYTES", 1000)
    source = film(tmp_path / "in.mp4", synthetic_frames(8))
    track = read_audio(source)
    assert track.file._rolled
    after, _ = packets(copy(tmp_path / "out.mp4", synthetic_frames(8), track))
    assert after == packets(source)[0]


def test_damaged_audio_data():
    with pytest.raises(VideoError, match="the audio data is damaged"):
        AudioTrack.from_bytes(b"not matroska")
