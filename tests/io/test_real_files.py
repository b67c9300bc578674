"""Kinds of healthy files that players show and that were once refused, shifted, shortened or cut."""

from __future__ import annotations

import itertools
import logging
import os
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from reducio_codec.errors import VideoError
from reducio_codec.io.audio import read_audio
from reducio_codec.io.extent import measure
from reducio_codec.io.truncation import missing_bytes
from reducio_codec.io.video import open_video, read_clip
from reducio_codec.io.writer import VideoWriter
from reducio_codec.rdc.info import describe_file
from tests.io.test_audio import film, packets

SIXTEEN = {"width": 64, "height": 48, "time_base": Fraction(1, 16), "rate": Fraction(16)}


def shown(path):
    """Seconds at which each frame begins, and at which the last ends, from the first frame on."""
    with open_video(path) as reader:
        frames = list(reader)
        base = reader.info.time_base
    assert all(a.pts + a.duration == b.pts for a, b in itertools.pairwise(frames))
    times = [frame.pts for frame in frames] + [frames[-1].pts + frames[-1].duration]
    return [float((time - times[0]) * base) for time in times]


def seconds(path):
    """What the container says of itself."""
    with av.open(str(path)) as container:
        return container.duration / av.time_base


def begin_late(path, tmp_path, *, format):
    """The same packets without the first key frame: the first picture that can be decoded comes later than the sound."""
    target = tmp_path / f"late.{format}"
    with av.open(str(path)) as source, av.open(str(target), "w") as out:
        streams = {s.index: out.add_stream_from_template(s) for s in source.streams}
        first = True
        for packet in source.demux():
            if packet.size and not (packet.stream.type == "video" and first):
                packet.stream = streams[packet.stream_index]
                out.mux(packet)
            elif packet.size:
                first = False
    return target


@pytest.mark.parametrize("format", ["ts", "mkv"])
@pytest.mark.parametrize("target", ["out.mp4", "out.mkv"])
def test_sound_keeps_its_distance_to_the_first_picture_that_can_be_decoded(tmp_path, synthetic_frames, format, target):
    frames = synthetic_frames(48)
    whole = tmp_path / "whole.ts"
    with av.open(str(whole), "w") as container:
        video = container.add_stream("libx264", rate=16, options={"g": "12", "bf": "0", "sc_threshold": "0"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("mp2", rate=48000, layout="mono")
        for index, rgb in enumerate(frames):
            container.mux(video.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 3000), np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts = 48000, 3000 * index
            for piece in av.AudioResampler(format="s16", layout="mono", rate=48000, frame_size=1152).resample(frame):
                container.mux(sound.encode(piece))
        container.mux([*video.encode(None), *sound.encode(None)])
    path = begin_late(whole, tmp_path, format=format)
    track = read_audio(path)
    assert -0.85 < track.offset < -0.6  # 12 of 16 frames a second can't be decoded
    with (
        open_video(path) as reader,
        VideoWriter(
            tmp_path / target, width=64, height=48, time_base=reader.info.time_base, rate=Fraction(16), audio=track
        ) as writer,
    ):
        for frame in reader:
            writer.write(frame.rgb, frame.pts - reader.info.start, duration=frame.duration)
    after, _ = packets(tmp_path / target)
    assert abs(after[0][0] - track.offset) <= Fraction(1, 500)
    with av.open(str(tmp_path / target)) as container:  # all of it is heard
        first = next(container.decode(audio=0))
        assert first.pts * first.time_base < Fraction(1, 10)


@pytest.mark.parametrize("name", ["a.mkv", "a.webm", "a.mp4", "a.mov", "a.gif"])
def test_a_file_that_rests_on_its_last_picture(tmp_path, synthetic_frames, name):
    with VideoWriter(tmp_path / name, **SIXTEEN) as writer:
        for index, rgb in enumerate(synthetic_frames(8)):
            writer.write(rgb, index, duration=80)
    times = shown(tmp_path / name)
    assert len(times) == 9
    assert times[-1] == pytest.approx(7 / 16 + 5, abs=0.011)
    assert seconds(tmp_path / name) == pytest.approx(7 / 16 + 5, abs=0.011)
    frames, length = measure(tmp_path / name)
    assert (frames, float(length)) == (8, pytest.approx(times[-1]))


def test_a_hole_at_the_end_of_a_matroska_file_is_still_reported(tmp_path, synthetic_frames):
    path = tmp_path / "a.mkv"
    with VideoWriter(path, **SIXTEEN) as writer:
        for index, rgb in enumerate(synthetic_frames(40)):
            writer.write(rgb, index, duration=80)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : len(data) - 200] = bytes(len(data) - 200 - middle)
    path.write_bytes(data)
    with pytest.raises(VideoError, match="can be read"):
        read_clip(path)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
@pytest.mark.parametrize("times", [range(20), (0, 2, 5, 9), (0,), (0, 50, 51, 52, 53, 54)])
def test_an_mp4_lasts_as_long_as_its_frames(tmp_path, synthetic_frames, name, times):
    base = Fraction(1, 10)
    with VideoWriter(tmp_path / name, width=64, height=48, time_base=base, rate=Fraction(10)) as writer:
        for rgb, time in zip(synthetic_frames(len(times)), times, strict=True):
            writer.write(rgb, time)
    assert seconds(tmp_path / name) == pytest.approx((times[-1] + 1) / 10)
    assert shown(tmp_path / name)[-1] == pytest.approx((times[-1] + 1) / 10)
    with av.open(str(tmp_path / name)) as container:
        if times != (0, 50, 51, 52, 53, 54):  # decoding times may add up to more there
            stream = container.streams.video[0]
            assert stream.duration * stream.time_base == Fraction(times[-1] + 1, 10)
            assert stream.average_rate == Fraction(10 * len(times), times[-1] + 1)


def test_a_header_that_lies_about_the_rate(make_video):
    """Browsers write 1000 frames a second; what is measured is what the frames say."""
    path = make_video("a.mkv", frames=8, pts=[0, 1000, 1500, 4000, 4100, 5000, 6000, 7000], time_base=Fraction(1, 1000))
    assert shown(path)[:8] == [0, 1, 1.5, 4, 4.1, 5, 6, 7]
    frames, length = measure(path)
    assert frames == 8
    assert 7 <= length < 8.1


@pytest.mark.parametrize("name", ["a.mov", "a.avi"])
@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (6, -1), (3, 2), (8, 1)])
def test_side_data_without_a_name(make_video, tmp_path, name, orientation, turns):
    """EXIF in each JPEG of a video, as cameras write it; FFmpeg makes a turn of its orientation."""
    plain = make_video(f"plain{name}", frames=3, codec="mjpeg", pix_fmt="yuvj420p")
    expected = read_clip(plain)
    exif = Image.Exif()
    exif[0x0112] = orientation
    segment = exif.tobytes()
    segment = b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment
    path = tmp_path / name
    with av.open(str(plain)) as source, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                data = bytes(packet)
                changed = av.Packet(data[:2] + segment + data[2:])
                changed.pts, changed.dts, changed.time_base = packet.pts, packet.dts, packet.time_base
                changed.duration, changed.stream = packet.duration, stream
                out.mux(changed)
    found = read_clip(path)
    assert len(found) == 3
    assert (found == np.rot90(expected, turns, axes=(1, 2))).all()


@pytest.mark.parametrize("empty", [(6,), (6, 7), (18, 19)])
def test_an_empty_packet_is_no_damage_but_the_same_picture_again(tmp_path, make_video, empty):
    path = make_video("a.mov", codec="mjpeg", pix_fmt="yuvj420p", frames=20)
    times = shown(path)
    with av.open(str(path)) as container:
        sizes = [packet.size for packet in container.demux(video=0) if packet.size]
    for number in reversed(empty):  # the packet before gets its bytes, so that the others stay where they are
        sizes[number - 1] += sizes[number]
        sizes[number] = 0
    data = bytearray(path.read_bytes())
    table = data.index(b"stsz") + 16
    data[table : table + 80] = struct.pack(">20I", *sizes)
    path.write_bytes(data)
    assert shown(path) == [time for number, time in enumerate(times) if number not in empty]
    frames, length = measure(path)
    assert (frames, float(length)) == (20 - len(empty), pytest.approx(times[-1]))


def test_packets_before_the_first_picture_that_can_be_decoded_are_no_frames_of_info(tmp_path, synthetic_frames):
    path = tmp_path / "whole.ts"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=16, options={"g": "12", "bf": "0", "sc_threshold": "0"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for rgb in synthetic_frames(48):
            container.mux(video.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(video.encode(None))
    info = describe_file(begin_late(path, tmp_path, format="ts"))
    assert (info.frames, info.duration_s, info.rate) == (36, pytest.approx(36 / 16), 16)


@pytest.mark.parametrize("seconds", [(4, 2), (2, 4), (2, 2, 2)])
def test_recordings_joined_end_to_end_keep_picture_and_sound_together(tmp_path, synthetic_frames, seconds):
    path, lead = tmp_path / "joined.mpg", Fraction(1, 4)
    for number, length in enumerate(seconds):
        part = film(
            tmp_path / f"{number}.mpg", synthetic_frames(16 * length), codec="mp2", delay=lead * number, seconds=length
        )
        path.write_bytes((path.read_bytes() if path.exists() else b"") + part.read_bytes())
    whole = sum(seconds)
    times = shown(path)
    assert (len(times) - 1, times[-1]) == (16 * whole, pytest.approx(whole, abs=0.01))
    info = describe_file(path)
    assert (info.frames, info.duration_s) == (16 * whole, pytest.approx(whole, abs=0.01))
    with (
        open_video(path) as reader,
        VideoWriter(
            tmp_path / "a.mkv",
            width=64,
            height=48,
            time_base=reader.info.time_base,
            rate=Fraction(16),
            audio=read_audio(path),
        ) as writer,
    ):
        for frame in reader:
            writer.write(frame.rgb, frame.pts - reader.info.start, duration=frame.duration)
    after, _ = packets(tmp_path / "a.mkv")
    joins = list(itertools.accumulate(seconds))[:-1]
    for number, join in enumerate(joins, start=1):  # each sound begins as much later as it did in its own recording
        begins = min(float(time) for time, _ in after if time > join - 0.1 and time > join + 0.15 * number)
        assert begins == pytest.approx(join + float(lead) * number, abs=0.05)


def replace_once(path, old, new):
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))


def test_a_picture_of_an_unknown_codec_is_one_line(make_video):
    path = make_video()
    replace_once(path, b"avc1\0\0", b"zzz1\0\0")
    with pytest.raises(VideoError, match="coded in a way that FFmpeg can't decode"):
        open_video(path)


def test_sound_of_an_unknown_codec_is_left_out_and_said(tmp_path, synthetic_frames, caplog):
    path = film(tmp_path / "a.mp4", synthetic_frames(16))
    replace_once(path, b"mp4a\0\0", b"zzza\0\0")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"esds", b"zzds"))  # it names the codec, too
    with caplog.at_level(logging.WARNING):
        assert read_audio(path) is None
    assert "its sound is of a codec that FFmpeg doesn't know; it is left out" in caplog.text
    assert len(read_clip(path)) == 16


HARD_NAMES = [b"100%.%s", b"50%d.%s", b"%05d%%.%s", b"caf\xe9 \xff.%s", b"a*?[1]{x}.%s", b"-.%s", b"%s.%s"]


def hard(tmp_path, name, suffix):
    return tmp_path / os.fsdecode(name[:-2] + suffix.encode())


@pytest.mark.parametrize("name", HARD_NAMES)
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "gif"])
def test_any_name_of_a_video(tmp_path, synthetic_frames, name, suffix):
    path = hard(tmp_path, name, suffix)
    with VideoWriter(path, **SIXTEEN) as writer:
        for index, rgb in enumerate(synthetic_frames(3)):
            writer.write(rgb, index)
    assert path.is_file()
    assert len(read_clip(path)) == 3
    assert sum(1 for _ in tmp_path.iterdir()) == 1


@pytest.mark.parametrize("name", HARD_NAMES)
def test_any_name_of_pictures(tmp_path, synthetic_frames, name):
    rgb = synthetic_frames(1)[0]
    for suffix in ("png", "tga"):  # Pillow and FFmpeg
        path = hard(tmp_path, name, suffix)
        Image.fromarray(rgb).save(path)
        Image.fromarray(255 - rgb).save(tmp_path / f"501.{suffix}")  # what a pattern would find
        assert (read_clip(path) == rgb).all()
    folder = tmp_path / os.fsdecode(name[:-3])
    with VideoWriter(folder, **SIXTEEN) as writer:
        writer.write(rgb, 0)
    assert (read_clip(folder) == rgb).all()


@pytest.mark.parametrize(("default", "level"), [((0, 1), 1), ((1, 0), 0), ((0, 0), 0), ((1, 1), 0)])
def test_the_default_one_of_several_pictures(tmp_path, default, level):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        streams = []
        for flag in default:
            stream = container.add_stream("ffv1", rate=16)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
            stream.disposition = flag
            streams.append(stream)
        for number, stream in enumerate(streams):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number, np.uint8), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="bgr0")))
        for stream in streams:
            container.mux(stream.encode(None))
    assert (read_clip(path) == level).all()


@pytest.mark.parametrize("separate", [False, True])
def test_the_separate_default_image_of_an_animated_png_is_no_frame(tmp_path, synthetic_frames, separate):
    pictures = [Image.fromarray(rgb) for rgb in synthetic_frames(4)]
    first, durations = (1, [50, 50, 200]) if separate else (0, [50, 50, 200, 300])
    options = {"append_images": pictures[1:], "duration": durations, "default_image": separate}
    pictures[0].save(tmp_path / "a.png", save_all=True, **options)
    assert (read_clip(tmp_path / "a.png") == synthetic_frames(4)[first:]).all()
    with open_video(tmp_path / "a.png") as reader:
        assert reader.info.frames == 4 - first
    assert shown(tmp_path / "a.png")[-1] == pytest.approx(0.3 if separate else 0.6)


@pytest.mark.parametrize("box", [b"free", b"skip", b"udta", b"mdat"])
def test_a_last_box_that_claims_too_much(synthetic_frames, tmp_path, box):
    """All frames are there. B-frames wait in the decoder when the file ends."""
    path = tmp_path / "a.mp4"
    with VideoWriter(path, **SIXTEEN) as writer:
        for index, rgb in enumerate(synthetic_frames(24)):
            writer.write(rgb, index)
    data = path.read_bytes()
    if box == b"mdat":
        at = data.index(b"mdat") - 4
        size = int.from_bytes(data[at : at + 4], "big")
        path.write_bytes(data[:at] + (size + 5000).to_bytes(4, "big") + data[at + 4 :])
    else:
        path.write_bytes(data + (5000).to_bytes(4, "big") + box + bytes(20))
    assert len(read_clip(path)) == 24


@pytest.mark.parametrize("flags", ["frag_keyframe+empty_moov", "frag_keyframe+empty_moov+default_base_moof"])
def test_a_last_fragment_whose_box_claims_too_much(tmp_path, synthetic_frames, flags):
    whole = film(tmp_path / "a.mp4", synthetic_frames(32))
    path = tmp_path / "fragments.mp4"
    with av.open(str(whole)) as source, av.open(str(path), "w", options={"movflags": flags}) as out:
        streams = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                out.mux(packet)
    data = bytearray(path.read_bytes())
    box = data.rindex(b"mdat") - 4
    end = box + int.from_bytes(data[box : box + 4], "big")
    data[box : box + 4] = (end - box + 1000).to_bytes(4, "big")
    path.write_bytes(data[:end])
    assert missing_bytes(path) == 0
    assert len(read_clip(path)) == 32
    path.write_bytes(data[: end - 1])
    assert missing_bytes(path) == 1


def test_a_matroska_segment_that_claims_too_much(make_video):
    path = make_video("a.mkv", frames=24)
    data = path.read_bytes()
    at = data.index(b"\x18\x53\x80\x67") + 4
    assert data[at] == 1  # a size of eight bytes
    size = int.from_bytes(data[at + 1 : at + 8], "big")
    path.write_bytes(data[: at + 1] + (size + 5000).to_bytes(7, "big") + data[at + 8 :])
    assert missing_bytes(path) == 0
    assert len(read_clip(path)) == 24
