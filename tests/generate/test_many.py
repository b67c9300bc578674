"""Many pictures with one model: a folder on the command line, and an iterator in Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reducio_codec.codec import ReducioCodec
from reducio_codec.errors import InputError
from reducio_codec.generate import ReducioDiTPipeline, generate_each, load_dit
from reducio_codec.io.video import open_video, read_clip
from tests.generate.conftest import SaveDit
from tests.generate.test_command import run
from tests.helpers import moving_video


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two pictures, one of them below, a broken one, and a file that is none."""
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    frames = moving_video(2, 48, 64)
    Image.fromarray(frames[0]).save(folder / "a.png")
    Image.fromarray(frames[1][:32]).save(folder / "below" / "b.jpg")
    (folder / "c.png").write_bytes(b"not a picture")
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_a_folder_becomes_a_folder(pictures: Path, dit_folder: SaveDit, codec_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "videos"
    same = ("-m", dit_folder(), "--codec", codec_folder, "--steps", 2, "--seed", 3, "--lossless")
    done = run("--image", pictures, "-o", out, *same, "--jobs", 1)
    assert done.exit_code == 1
    assert f"{out / 'a.mkv'}: 16 frames, 64x48, seed 3" in done.stdout and "2 written" in done.stdout
    assert "1 of 3 failed" in done.stderr and "c.png is not a picture" in done.stderr
    assert sorted(path.name for path in out.rglob("*") if path.is_file()) == ["a.mkv", "b.mkv"]
    with open_video(out / "below" / "b.mkv") as reader:
        assert (reader.info.width, reader.info.height) == (64, 32)
    (pictures / "c.png").unlink()
    again = run("--image", pictures, "-o", out, *same, "--jobs", 1)
    assert again.exit_code == 0 and "0 written, 2 were there already" in again.stdout
    alone = tmp_path / "alone.mkv"
    assert run("--image", pictures / "a.png", "-o", alone, *same).exit_code == 0
    assert (read_clip(alone) == read_clip(out / "a.mkv")).all()


def test_what_is_wrong_with_a_folder_is_said_first(
    pictures: Path, dit_folder: SaveDit, codec_folder: Path, tmp_path: Path
) -> None:
    model = ("-m", dit_folder(), "--codec", codec_folder)
    (tmp_path / "empty").mkdir()
    for arguments, words in (
        (("--image", tmp_path / "empty", "-o", tmp_path / "out"), "has no pictures; looked for .png"),
        (("--image", pictures, "-o", tmp_path / "out.mp4"), "-o has to name a folder"),
        (("--image", pictures / "a.png", "-o", tmp_path / "out.mp4", "--jobs", 2), "--jobs 2 has no effect"),
        (("--image", pictures, "-o", tmp_path / "out", "--steps", 3, "--sampler", "euler"), "predicts noise"),
    ):
        refused = run(*arguments, *model)
        assert refused.exit_code in (1, 2) and words in refused.stderr, refused.stderr
        assert not (tmp_path / "out.mp4").exists()


def test_each_picture_of_an_iterator(pictures: Path, dit_folder: SaveDit, codec: ReducioCodec, tmp_path: Path) -> None:
    pipeline = ReducioDiTPipeline(load_dit(dit_folder()), codec)
    given = [pictures / "a.png", pictures / "c.png", np.zeros((32, 32, 3), np.uint8)]
    found = list(generate_each(pipeline, iter(given), seed=3, steps=1))
    assert [made.image for made in found[:2]] == given[:2]
    assert [None if made.video is None else made.video.shape for made in found] == [
        (16, 48, 64, 3),
        None,
        (16, 32, 32, 3),
    ]
    assert "c.png" in str(found[1].error) and found[0].error is None
    with pytest.raises(InputError, match="steps is 0"):
        next(generate_each(pipeline, given, steps=0))
