"""Reading videos: what is known beforehand, frames, rotation, pixel shape, resources."""

from __future__ import annotations

import gc
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from reducio_codec.errors import InputError, VideoError
from reducio_codec.io.orientation import orientation_of_matrix
from reducio_codec.io.video import open_video, read_clip
from reducio_codec.io.writer import VideoWriter


def test_info_of_a_real_clip(sample_video):
    with open_video(sample_video) as reader:
        info = reader.info
    assert (info.width, info.height, info.frames, info.rate) == (512, 288, 64, 16)
    assert (info.codec, info.duration_s, info.rotation, info.sample_aspect_ratio) == ("h264", 4.0, 0, 1)
    assert not info.has_audio


def test_frames_are_rgb_and_contiguous(sample_video):
    with open_video(sample_video) as reader:
        frame = next(iter(reader))
    assert frame.rgb.shape == (288, 512, 3)
    assert frame.rgb.dtype == np.uint8
    assert frame.rgb.flags.c_contiguous
    assert frame.rgb.flags.writeable


@pytest.mark.parametrize("split", ["val", "lowq_val", "hires_val"])
def test_real_clips_have_the_frames_the_manifest_says(corpus, split):
    rows = [line.split("\t") for line in (corpus / "MANIFEST.tsv").read_text().splitlines()]
    columns = {name: index for index, name in enumerate(rows[0])}
    chosen = [row for row in rows[1:] if row[0] == split][: 1 if split == "hires_val" else 3]
    assert chosen
    for row in chosen:
        with open_video(corpus / split / row[columns["file"]]) as reader:
            assert (reader.info.width, reader.info.height) == (int(row[columns["width"]]), int(row[columns["height"]]))
            assert sum(1 for _ in reader) == int(row[columns["frames"]])


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mov", "libx264", "yuv420p"),
        ("a.mkv", "libx264", "yuv420p10le"),
        ("a.webm", "libvpx-vp9", "yuv420p"),
        ("a.avi", "mpeg4", "yuv420p"),
        ("a.y4m", "wrapped_avframe", "yuv444p"),
        ("b.avi", "mjpeg", "yuvj420p"),
    ],
)
def test_containers_and_codecs(make_video, synthetic_frames, name, codec, pix_fmt):
    path = make_video(name, frames=6, codec=codec, pix_fmt=pix_fmt, options={"crf": "4", "b": "4000000"})
    clip = read_clip(path)
    assert clip.shape == (6, 48, 64, 3)
    assert np.abs(clip.astype(int) - synthetic_frames(6)).mean() < 8


def test_reading_twice_and_from_the_middle(make_video):
    path = make_video(frames=12)
    with open_video(path) as reader:
        first = [frame.rgb for frame in reader]
        second = [frame.rgb for frame in reader]
        tail = [frame for frame in reader.frames(start=9)]
    assert len(first) == 12
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    assert [frame.pts for frame in tail] == [
        9 * tail[0].pts // 9 + step * (tail[1].pts - tail[0].pts) for step in range(3)
    ]
    assert all((frame.rgb == rgb).all() for frame, rgb in zip(tail, first[9:], strict=True))


def test_read_clip(make_video):
    path = make_video(frames=8)
    whole = read_clip(path)
    assert (read_clip(path, start=3, frames=2) == whole[3:5]).all()
    assert (read_clip(path, start=3) == whole[3:]).all()
    with pytest.raises(InputError, match=r"has only 3 frames from number 5 on; 4 frames were asked for"):
        read_clip(path, start=5, frames=4)
    with pytest.raises(InputError, match="frames is 0"):
        read_clip(path, frames=0)
    with pytest.raises(InputError, match="start is -1"):
        read_clip(path, start=-1)


def test_wrong_options(make_video):
    path = make_video(frames=2)
    with pytest.raises(InputError, match="on_error is 'skip'; allowed: raise, stop"):
        open_video(path, on_error="skip")
    with pytest.raises(InputError, match="rate is for folders"):
        open_video(path, rate=16)
    reader = open_video(path)
    reader.close()
    with pytest.raises(InputError, match="is closed"):
        iter(reader)


def set_matrix(path: Path, matrix: tuple[int, ...]) -> None:
    """Writes a display matrix into the track header of an MP4 file."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = np.array(matrix, ">i4").tobytes()
    path.write_bytes(data)


ONE = 65536


@pytest.mark.parametrize(
    ("matrix", "turn", "degrees"),
    [
        ((ONE, 0, 0, 0, ONE, 0, 0, 0, 2**30), lambda clip: clip, 0),
        ((0, ONE, 0, -ONE, 0, 0, 48 * ONE, 0, 2**30), lambda clip: np.rot90(clip, -1, axes=(1, 2)), 90),
        ((-ONE, 0, 0, 0, -ONE, 0, 64 * ONE, 48 * ONE, 2**30), lambda clip: clip[:, ::-1, ::-1], 180),
        ((0, -ONE, 0, ONE, 0, 0, 0, 64 * ONE, 2**30), lambda clip: np.rot90(clip, 1, axes=(1, 2)), 270),
        ((-ONE, 0, 0, 0, ONE, 0, 64 * ONE, 0, 2**30), lambda clip: clip[:, :, ::-1], 0),
    ],
)
def test_rotation_turns_the_pixels(make_video, matrix, turn, degrees):
    path = make_video(frames=3)
    upright = read_clip(path)
    set_matrix(path, matrix)
    with open_video(path) as reader:
        assert reader.info.rotation == degrees
        expected = turn(upright)
        assert (reader.info.height, reader.info.width) == expected.shape[1:3]
    turned = read_clip(path)
    assert (turned == expected).all()
    assert turned[0].flags.c_contiguous


def test_all_eight_orientations_are_the_map_they_claim():
    """Every pixel goes where x' = a x + c y, y' = b x + d y sends it."""
    picture = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    for a, b, c, d in [(s, 0, 0, t) for s in (1, -1) for t in (1, -1)] + [
        (0, s, t, 0) for s in (1, -1) for t in (1, -1)
    ]:
        shown = orientation_of_matrix((a, b, 0, c, d, 0, 0, 0, 1)).apply(picture)
        places = {(x, y): (a * x + c * y, b * x + d * y) for x in range(3) for y in range(2)}
        left = min(place[0] for place in places.values())
        top = min(place[1] for place in places.values())
        for (x, y), (to_x, to_y) in places.items():
            assert (shown[to_y - top, to_x - left] == picture[y, x]).all()


def test_an_odd_angle_is_ignored_and_said(make_video, caplog):
    path = make_video(frames=2)
    upright = read_clip(path)
    set_matrix(path, (56756, 32768, 0, -32768, 56756, 0, 0, 0, 2**30))  # 30 degrees
    assert (read_clip(path) == upright).all()
    assert "multiple of 90" in caplog.text


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_pixel_shape_goes_through(tmp_path, synthetic_frames, name):
    path = tmp_path / name
    shape = Fraction(4, 3)
    with VideoWriter(
        path, width=64, height=48, time_base=Fraction(1, 16), rate=Fraction(16), sample_aspect_ratio=shape
    ) as writer:
        writer.write(synthetic_frames(1)[0], 0)
    with open_video(path) as reader:
        assert reader.info.sample_aspect_ratio == shape
        assert (reader.info.width, reader.info.height) == (64, 48)
    if name == "a.mp4":
        set_matrix(path, (0, ONE, 0, -ONE, 0, 0, 48 * ONE, 0, 2**30))
        with open_video(path) as reader:
            assert reader.info.sample_aspect_ratio == 1 / shape


def test_cover_art_is_not_a_video(tmp_path, make_video):
    """Nothing but sound and a picture of the album."""
    with av.open(str(tmp_path / "a.mka"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(VideoError, match="has only sound; a video is needed"):
        open_video(tmp_path / "a.mka")


def open_files() -> int:
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("counting open files needs /proc")
    return len(list(folder.iterdir()))


def test_nothing_stays_open(make_video):
    path = make_video(frames=12)
    list(open_video(path))
    files, threads = open_files(), threading.active_count()
    for _ in range(20):
        with open_video(path) as reader:
            next(iter(reader))  # abandoned in the middle
    for _ in range(20):
        list(open_video(path))  # never closed, read to the end
    assert open_files() <= files + 1
    assert threading.active_count() <= threads
    gc.collect()  # PyAV 19 has a reference cycle around a stream's decoder and its threads
    if Path("/proc/self/task").is_dir():
        assert len(list(Path("/proc/self/task").iterdir())) < 64
