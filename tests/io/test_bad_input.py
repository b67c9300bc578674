"""Files that aren't videos, or are broken: one clear line each, and the good part is kept."""

from __future__ import annotations

import logging
from fractions import Fraction

import av
import numpy as np
import pytest

from reducio_codec.errors import InputError, ReducioError, VideoError
from reducio_codec.io.truncation import missing_bytes
from reducio_codec.io.video import open_video, read_clip
from reducio_codec.io.writer import VideoWriter


def one_line(error: ReducioError) -> str:
    text = str(error)
    assert "\n" not in text
    assert "Errno" not in text
    return text


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.gif", "a.avi", "a.txt"])
@pytest.mark.parametrize("content", [b"This is a plain text file.\n" * 50, bytes(range(256)) * 40, b"\0" * 5000])
def test_not_a_video(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(VideoError) as caught:
        read_clip(path)
    assert name in one_line(caught.value)


def test_missing_empty_and_wrong_paths(tmp_path):
    with pytest.raises(InputError, match="doesn't exist"):
        open_video(tmp_path / "no.mp4")
    (tmp_path / "a.mp4").touch()
    with pytest.raises(VideoError, match=r"is empty \(0 bytes\)"):
        open_video(tmp_path / "a.mp4")
    (tmp_path / "a.png").write_text("not a picture")
    with pytest.raises(VideoError, match="is not a picture that can be read"):
        open_video(tmp_path / "a.png")


def test_a_playlist_opens_nothing_else(tmp_path, make_video):
    (tmp_path / "a.m3u8").write_text("#EXTM3U\n#EXTINF:10,\nhttp://192.0.2.1/a.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(VideoError):
        read_clip(tmp_path / "a.m3u8")


def test_a_name_like_an_address_is_a_file(tmp_path, make_video):
    path = make_video("http:a%d:b.mp4", frames=2)
    assert len(read_clip(path)) == 2


def test_a_header_without_frames(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=16)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "bgr0"
        container.start_encoding()
    (tmp_path / "a.y4m").write_bytes(b"YUV4MPEG2 W16 H16 F16:1 Ip A1:1 C420jpeg\n")
    for name in ("a.mkv", "a.y4m"):
        with pytest.raises(VideoError, match=f"{name} has no frames that can be decoded"):
            open_video(tmp_path / name)


def test_one_pixel(tmp_path):
    """1x1, through a picture and a video."""
    content = np.full((1, 1, 1, 3), 77, np.uint8)
    with VideoWriter(
        tmp_path / "a.mkv", width=1, height=1, time_base=Fraction(1, 16), rate=Fraction(16), lossless=True
    ) as writer:
        writer.write(content[0], 0)
    assert (read_clip(tmp_path / "a.mkv") == content).all()


@pytest.fixture
def long_video(tmp_path, synthetic_frames):
    """40 frames; the index of the MP4 comes first, so that a cut file can still be opened."""

    def write(name, **options):
        path = tmp_path / name
        options = {"time_base": Fraction(1, 16), "rate": Fraction(16), **options}
        with VideoWriter(path, width=160, height=120, **options) as writer:
            noise = np.random.default_rng(0)  # so that every frame has about the same number of bytes
            for index, rgb in enumerate(synthetic_frames(40, width=160, height=120) // 2):
                writer.write(rgb + noise.integers(0, 60, rgb.shape, dtype=np.uint8), index)
        return path

    return write


def read_until_error(path, **options):
    frames = []
    with open_video(path, **options) as reader:
        try:
            for frame in reader:
                frames.append(frame.rgb)
        except VideoError as error:
            return frames, one_line(error)
    return frames, None


@pytest.mark.parametrize(
    ("name", "options"), [("a.mp4", {}), ("a.mkv", {}), ("a.webm", {}), ("b.mkv", {"lossless": True})]
)
@pytest.mark.parametrize("part", [0.35, 0.6, 0.9])
def test_a_truncated_video_gives_its_beginning(long_video, name, options, part, caplog):
    path = long_video(name, **options)
    whole = read_clip(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    frames, message = read_until_error(path)
    assert message is not None
    assert f"{path}: only the first {len(frames)} frames can be read: " in message
    assert 0 < len(frames) < 40
    assert (np.stack(frames) == whole[: len(frames)]).all()
    with caplog.at_level(logging.WARNING):
        kept, message = read_until_error(path, on_error="stop")
    assert message is None
    assert len(kept) == len(frames)
    assert f"only the first {len(frames)} frames can be read" in caplog.text


def test_an_mp4_without_its_index(make_video):
    """Most cameras write the index last: nothing can be read when it is missing, and the line says why."""
    path = make_video("a.mp4")
    path.write_bytes(path.read_bytes()[:1200])
    with pytest.raises(
        VideoError, match=r"a\.mp4 can't be read as a video: Invalid data .*; the file is cut off"
    ) as caught:
        open_video(path)
    one_line(caught.value)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.webm", "a.avi"])
def test_length_is_known_from_the_structure(make_video, name):
    path = make_video(name, codec="libvpx-vp9" if name == "a.webm" else "mpeg4", frames=4)
    assert missing_bytes(path) == 0
    data = path.read_bytes()
    for cut in (2, 100, len(data) // 2, len(data) - 200):
        path.write_bytes(data[:-cut])
        assert missing_bytes(path) > 0
    path.write_bytes(data + b"appended")
    assert missing_bytes(path) == 0


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_any_beginning_of_a_file_has_a_length(make_video, name):
    path = make_video(name, codec="mpeg4", frames=2)
    data = path.read_bytes()
    for length in range(0, min(len(data), 200)):
        path.write_bytes(data[:length])
        assert missing_bytes(path) >= 0


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_damaged_video_is_reported(long_video, name):
    """A hole of zeros, as a failing disk leaves: what is given before the error is unharmed."""
    path = long_video(name)
    whole = read_clip(path)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 20_000] = bytes(20_000)
    path.write_bytes(data)
    frames, message = read_until_error(path)
    assert message is not None
    assert (np.stack(frames[:5]) == whole[:5]).all()
    # A decoder may notice damage a few frames late; it must not go on to the end.
    assert len(frames) < 40


@pytest.mark.parametrize("seed", range(12))
def test_flipped_bytes_end_in_frames_or_our_error(long_video, seed):
    path = long_video("a.mp4")
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    for place in rng.integers(0, len(data), 20):
        data[place] = rng.integers(0, 256)
    path.write_bytes(data)
    try:
        read_until_error(path)
    except (VideoError, InputError) as error:
        one_line(error)


def test_a_size_that_changes_on_the_way(make_video, tmp_path, caplog):
    first = make_video("1.h264", frames=8)
    second = make_video("2.h264", frames=8, width=32, height=32)
    path = tmp_path / "both.h264"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    frames, message = read_until_error(path)
    assert len(frames) == 8
    assert "only the first 8 frames can be read: the next is 32x32, the first was 64x48" in message
    frames, message = read_until_error(path, on_error="stop")
    assert (len(frames), message) == (8, None)


def test_a_stream_that_begins_in_the_middle(make_video, caplog):
    """Cut from a broadcast: the packets before the first key frame refer to nothing."""
    path = make_video("a.ts", frames=48, options={"g": "12", "keyint_min": "12", "sc_threshold": "0", "bf": "0"})
    data = path.read_bytes()
    path.write_bytes(data[188 * (len(data) // 188 // 5) :])
    clip = read_clip(path)
    assert 20 < len(clip) < 48


def test_readers_are_lazy(long_video):
    """A broken end does no harm to who reads the beginning only."""
    path = long_video("a.mp4")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.6)])
    assert len(read_clip(path, frames=3)) == 3
