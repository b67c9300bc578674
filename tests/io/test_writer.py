"""Writing videos: formats, sizes, what is refused, and that nothing half-written stays."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from reducio_codec.errors import InputError, VideoError
from reducio_codec.io.video import open_video, read_clip
from reducio_codec.io.writer import VideoWriter

SIXTEEN = {"time_base": Fraction(1, 16), "rate": Fraction(16)}


def write(path, content, **options) -> Path:
    with VideoWriter(path, width=content.shape[2], height=content.shape[1], **SIXTEEN, **options) as writer:
        for index, rgb in enumerate(content):
            writer.write(rgb, index)
    return path


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("a.mp4", "h264", "yuv420p"),
        ("a.mov", "h264", "yuv420p"),
        ("a.mkv", "h264", "yuv420p"),
        ("a.webm", "vp9", "yuv420p"),
    ],
)
def test_formats(tmp_path, synthetic_frames, name, codec, pixel_format):
    content = synthetic_frames(8)
    with open_video(write(tmp_path / name, content)) as reader:
        info = reader.info
        clip = np.stack([frame.rgb for frame in reader])
    assert (info.codec, info.colour.pixel_format, info.rate) == (codec, pixel_format, 16)
    assert (info.colour.matrix, info.colour.range) == ("bt709", "limited")
    assert np.abs(clip.astype(int) - content).mean() < 2.5  # sharp edges in 4:2:0
    assert [item.name for item in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (2, 2), (15, 33), (47, 63), (48, 64)])
@pytest.mark.parametrize(
    ("name", "options"), [("a.mp4", {}), ("a.webm", {}), ("a.gif", {}), ("a.mkv", {"lossless": True})]
)
def test_every_size_comes_back(tmp_path, size, name, options):
    height, width = size
    content = np.zeros((3, height, width, 3), np.uint8)
    content[:] = np.array([10, 120, 200])
    content[1] //= 2
    clip = read_clip(write(tmp_path / name, content, **options))
    assert clip.shape == content.shape
    assert np.abs(clip.astype(int) - content).mean() < 4


def test_lossless_is_exact(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (4, 33, 47, 3), dtype=np.uint8)
    assert (read_clip(write(tmp_path / "a.mkv", noise, lossless=True)) == noise).all()


def test_better_quality_costs_more(tmp_path, synthetic_frames):
    content = synthetic_frames(8)
    small, large = (write(tmp_path / f"{crf}.mp4", content, crf=crf).stat().st_size for crf in (40, 2))
    assert large > small


def test_frame_rate_stays_a_fraction(tmp_path, synthetic_frames):
    rate = Fraction(30000, 1001)
    for name in ("a.mp4", "a.mkv"):
        with VideoWriter(tmp_path / name, width=64, height=48, time_base=1 / rate, rate=rate) as writer:
            for index, rgb in enumerate(synthetic_frames(5)):
                writer.write(rgb, index)
        with open_video(tmp_path / name) as reader:
            assert reader.info.rate == rate


def test_tensors_are_frames_too(tmp_path, synthetic_frames):
    content = torch.from_numpy(synthetic_frames(2))
    assert (read_clip(write(tmp_path / "a.mkv", content, lossless=True)) == content.numpy()).all()


def test_the_file_plays_while_it_is_still_arriving(tmp_path, synthetic_frames):
    """The index comes first (fast start)."""
    data = write(tmp_path / "a.mp4", synthetic_frames(4)).read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.avi", {}, r"suffix '\.avi' isn't a video format that can be written; allowed: \.mp4"),
        ("a.mp4", {"lossless": True}, r"lossless video can't be written to 'a\.mp4'; allowed: \.mkv"),
        ("a.mp4", {"crf": 52}, r"crf is 52; for a\.mp4 \(libx264\) it must be from 0 to 51"),
        ("a.gif", {"crf": 5}, r"crf is 5; for a\.gif \(gif\) it must be left out"),
        ("a.mkv", {"crf": 5, "lossless": True}, r"\(ffv1\) it must be left out"),
        ("a.mp4", {"width": 0}, r"size is 0x48; both sides must be at least 1"),
        ("a.mp4", {"time_base": Fraction(0)}, r"time_base is 0; it must be positive"),
        ("a.mp4", {"rate": Fraction(-1)}, r"rate is -1; it must be positive"),
        ("no/a.mp4", {}, r"the folder .*no of the output .* doesn't exist"),
    ],
)
def test_wrong_arguments(tmp_path, name, options, message):
    with pytest.raises(InputError, match=message):
        VideoWriter(tmp_path / name, **{"width": 64, "height": 48, **SIXTEEN, **options})
    assert not list(tmp_path.iterdir())


def test_wrong_frames(tmp_path, synthetic_frames):
    rgb = synthetic_frames(1)[0]
    with VideoWriter(tmp_path / "a.mp4", width=64, height=48, **SIXTEEN) as writer:
        with pytest.raises(InputError, match=r"the frame is float64 \(48, 64, 3\); it must be uint8 \(48, 64, 3\)"):
            writer.write(rgb / 255.0, 0)
        with pytest.raises(InputError, match=r"uint8 \(64, 48, 3\); it must be uint8 \(48, 64, 3\)"):
            writer.write(rgb.transpose(1, 0, 2), 0)
        writer.write(rgb, 5)
        with pytest.raises(InputError, match="pts is 5, the frame before had 5; times must increase"):
            writer.write(rgb, 5)
    with pytest.raises(InputError, match="is closed"):
        writer.write(rgb, 6)


def test_the_output_must_not_be_an_input(tmp_path, make_video):
    source = make_video("in.mp4", frames=2)
    (tmp_path / "link.mp4").symlink_to(source)
    for name in ("in.mp4", "link.mp4"):
        with pytest.raises(InputError, match="is the input"):
            VideoWriter(tmp_path / name, width=64, height=48, inputs=(source,), **SIXTEEN)
    assert len(read_clip(source)) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.gif"])
def test_an_interrupted_run_leaves_the_old_file(tmp_path, synthetic_frames, error, name):
    (tmp_path / name).write_bytes(b"old")
    with pytest.raises(error), VideoWriter(tmp_path / name, width=64, height=48, **SIXTEEN) as writer:
        writer.write(synthetic_frames(1)[0], 0)
        raise error
    assert (tmp_path / name).read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == [name]


def test_nothing_is_there_before_close(tmp_path, synthetic_frames):
    writer = VideoWriter(tmp_path / "a.mp4", width=64, height=48, **SIXTEEN)
    writer.write(synthetic_frames(1)[0], 0)
    assert not (tmp_path / "a.mp4").exists()
    writer.close()
    writer.close()
    writer.abort()
    assert len(read_clip(tmp_path / "a.mp4")) == 1


def test_no_frames_no_file(tmp_path):
    with pytest.raises(VideoError, match="no frames were written"):
        VideoWriter(tmp_path / "a.mp4", width=64, height=48, **SIXTEEN).close()
    assert not list(tmp_path.iterdir())


def test_what_the_encoder_refuses_is_told(tmp_path):
    """H.264 ends at 16384 pixels a side."""
    with (
        pytest.raises(VideoError, match=r"a\.mp4 can't be encoded"),
        VideoWriter(tmp_path / "a.mp4", width=20000, height=2, **SIXTEEN) as writer,
    ):
        writer.write(np.zeros((2, 20000, 3), np.uint8), 0)
    assert not list(tmp_path.iterdir())


def test_pixel_shape_that_a_format_cannot_hold_is_told(tmp_path, caplog):
    writer = VideoWriter(tmp_path / "a.webm", width=64, height=48, sample_aspect_ratio=Fraction(4, 3), **SIXTEEN)
    writer.abort()
    assert "can't say that its pixels have the shape 4/3" in caplog.text


def test_other_programs_read_the_tags(tmp_path, synthetic_frames):
    path = write(tmp_path / "a.webm", synthetic_frames(2))
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_range) == (1, 1)
