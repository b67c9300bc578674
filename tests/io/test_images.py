"""Pictures as video, both ways."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from reducio_codec.errors import InputError, VideoError
from reducio_codec.io.video import open_video, read_clip
from reducio_codec.io.writer import VideoWriter


def save(folder, names, content):
    folder.mkdir(exist_ok=True)
    for name, rgb in zip(names, content, strict=True):
        Image.fromarray(rgb).save(folder / name)
    return folder


def test_folder_in_natural_order(tmp_path, synthetic_frames):
    content = synthetic_frames(4)
    folder = save(tmp_path / "f", ["f1.png", "f2.png", "f10.png", "F11.png"], content)
    (folder / "notes.txt").write_text("not a picture")
    (folder / ".hidden.png").write_text("not a picture either")
    with open_video(folder) as reader:
        assert (reader.info.frames, reader.info.rate, reader.info.time_base) == (4, 16, Fraction(1, 16))
        frames = list(reader)
    assert [frame.pts for frame in frames] == [0, 1, 2, 3]
    assert (np.stack([frame.rgb for frame in frames]) == content).all()


def test_rate_of_a_folder(tmp_path, synthetic_frames):
    folder = save(tmp_path / "f", ["a.png"], synthetic_frames(1))
    with open_video(folder, rate=Fraction(30000, 1001)) as reader:
        assert reader.info.time_base == Fraction(1001, 30000)
    with open_video(folder, rate=12.5) as reader:
        assert reader.info.rate == Fraction(25, 2)
    with pytest.raises(InputError, match="rate is 0; it must be a positive"):
        open_video(folder, rate=0)


@pytest.mark.parametrize("suffix", ["jpg", "webp", "bmp", "tiff", "avif", "ppm"])
def test_kinds_of_pictures(tmp_path, synthetic_frames, suffix):
    content = synthetic_frames(1)
    Image.fromarray(content[0]).save(tmp_path / f"a.{suffix}")
    clip = read_clip(tmp_path / f"a.{suffix}")
    assert clip.shape == (1, 48, 64, 3)
    assert np.abs(clip.astype(int) - content).mean() < 6


def test_a_single_picture_is_one_frame(tmp_path, synthetic_frames):
    Image.fromarray(synthetic_frames(1)[0]).save(tmp_path / "a.png")
    with open_video(tmp_path / "a.png") as reader:
        assert (reader.info.frames, reader.info.has_audio, reader.info.codec) == (1, False, "png")
        assert [frame.pts for frame in reader] == [0]


def test_transparent_grey_deep_and_turned_pictures(tmp_path):
    rgba = np.full((4, 6, 4), 200, np.uint8)
    rgba[:, :3, 3], rgba[:, 3:, 3] = 255, 51
    Image.fromarray(rgba).save(tmp_path / "a.png")
    assert read_clip(tmp_path / "a.png")[0, 0, :, 0].tolist() == [200] * 3 + [40] * 3
    Image.fromarray(np.array([[0, 257 * 7, 65535]], np.uint16)).save(tmp_path / "deep.png")
    assert read_clip(tmp_path / "deep.png")[0, 0].tolist() == [[0] * 3, [7] * 3, [255] * 3]
    Image.fromarray(np.array([[3, 250]], np.uint8)).save(tmp_path / "grey.png")
    assert read_clip(tmp_path / "grey.png")[0, 0].tolist() == [[3] * 3, [250] * 3]
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise by 90 degrees
    picture = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    Image.fromarray(picture).save(tmp_path / "turned.png", exif=exif)
    assert (read_clip(tmp_path / "turned.png")[0] == np.rot90(picture, -1)).all()


def test_animated_webp_keeps_its_times(tmp_path, synthetic_frames):
    pictures = [Image.fromarray(rgb) for rgb in synthetic_frames(3)]
    pictures[0].save(
        tmp_path / "a.webp", save_all=True, append_images=pictures[1:], duration=[40, 100, 60], lossless=True
    )
    with open_video(tmp_path / "a.webp") as reader:
        assert (reader.info.frames, reader.info.duration_s, reader.info.rate) == (3, 0.2, 15)
        frames = list(reader)
    assert [frame.pts * reader.info.time_base for frame in frames] == [0, Fraction(40, 1000), Fraction(140, 1000)]
    assert (np.stack([frame.rgb for frame in frames]) == synthetic_frames(3)).all()


def test_gif_both_ways(tmp_path, synthetic_frames):
    content = synthetic_frames(5)
    with VideoWriter(tmp_path / "a.gif", width=64, height=48, time_base=Fraction(1, 20), rate=Fraction(20)) as writer:
        for index, rgb in enumerate(content):
            writer.write(rgb, 7 + index)
    with open_video(tmp_path / "a.gif") as reader:
        frames = list(reader)
        assert [frame.pts * reader.info.time_base for frame in frames] == [Fraction(index, 20) for index in range(5)]
    assert np.abs(np.stack([frame.rgb for frame in frames]).astype(int) - content).mean() < 5


def test_transparent_gif_is_put_on_black(tmp_path):
    rgba = np.full((8, 8, 4), 255, np.uint8)
    rgba[:, 4:, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "a.gif")
    got = read_clip(tmp_path / "a.gif")[0]
    assert (got[:, :4] == 255).all()
    assert (got[:, 4:] == 0).all()


@pytest.mark.parametrize("target", ["new", "made", "new/%03d.png", "made/frame%d.png"])
def test_pictures_out(tmp_path, synthetic_frames, target):
    (tmp_path / "made").mkdir()
    content = synthetic_frames(3)
    with VideoWriter(tmp_path / target, width=64, height=48, time_base=Fraction(1, 16), rate=Fraction(16)) as writer:
        for index, rgb in enumerate(content):
            writer.write(rgb, index)
        assert not list(tmp_path.glob("*/*.png")) or writer.frames == 3
    folder = tmp_path / target.split("/")[0]
    assert (read_clip(folder) == content).all()
    assert sorted(item.name for item in tmp_path.iterdir()) == sorted({"made", folder.name})


def test_pictures_out_wants_an_empty_place(tmp_path, synthetic_frames):
    folder = save(tmp_path / "f", ["a.png"], synthetic_frames(1))
    options = {"width": 64, "height": 48, "time_base": Fraction(1, 16), "rate": Fraction(16)}
    with pytest.raises(InputError, match="already has pictures"):
        VideoWriter(folder, **options)
    with pytest.raises(InputError, match="doesn't exist"):
        VideoWriter(tmp_path / "no" / "deeper", **options)
    with pytest.raises(InputError, match=r"write it like frames/%05d.png"):
        VideoWriter(tmp_path / "%s.png", **options)
    with pytest.raises(InputError, match="crf=3 has no effect on PNG pictures"):
        VideoWriter(tmp_path / "new", crf=3, **options)


def test_aborted_pictures_leave_nothing(tmp_path, synthetic_frames):
    with (
        pytest.raises(KeyboardInterrupt),
        VideoWriter(tmp_path / "f", width=64, height=48, time_base=Fraction(1, 16), rate=Fraction(16)) as writer,
    ):
        writer.write(synthetic_frames(1)[0], 0)
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_uneven_times_are_said_when_pictures_lose_them(tmp_path, synthetic_frames, caplog):
    with VideoWriter(tmp_path / "f", width=64, height=48, time_base=Fraction(1, 16), rate=Fraction(16)) as writer:
        for rgb, pts in zip(synthetic_frames(3), (0, 1, 5), strict=True):
            writer.write(rgb, pts)
    assert "not evenly spaced" in caplog.text


def test_bad_folders(tmp_path, synthetic_frames):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"has no pictures; allowed: \.png"):
        open_video(tmp_path / "empty")
    folder = save(tmp_path / "f", ["1.png", "2.png"], synthetic_frames(2))
    Image.fromarray(synthetic_frames(1, width=32)[0]).save(folder / "3.png")
    with pytest.raises(VideoError, match=r"3\.png is 32x48, but 1\.png is 64x48; all pictures"):
        read_clip(folder)
    (folder / "3.png").write_bytes((folder / "1.png").read_bytes()[:200])
    with pytest.raises(VideoError, match=r"3\.png can't be read as a picture"):
        read_clip(folder)
    (folder / "1.png").write_text("hello")
    with pytest.raises(VideoError, match=r"1\.png is not a picture"):
        open_video(folder)
