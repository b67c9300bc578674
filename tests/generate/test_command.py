"""``reducio-codec generate`` from its arguments to its file; what goes wrong is one line and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from reducio_codec.cli import main
from reducio_codec.cli.roundtrip import EXAMPLE
from reducio_codec.generate.measure import brightness_drift, motion_magnitude
from reducio_codec.io.video import open_video, read_clip
from reducio_codec.weights.zoo import load_pretrained
from tests.generate.conftest import SaveDit
from tests.helpers import moving_video


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(main, ["generate", *(str(argument) for argument in arguments)])


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(moving_video(1, 48, 64)[0]).save(path)
    return path


def test_picture_to_video(dit_folder: SaveDit, codec_folder: Path, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    same = ("--image", photo, "-m", dit_folder(), "--codec", codec_folder, "--steps", 2, "--seed", 3, "--lossless")
    done = run(*same, "--seconds", 1.5, "-o", out)
    assert done.exit_code == 0, done.stderr
    assert "24 frames, 64x48, seed 3" in done.stdout
    with open_video(out) as reader:
        assert (reader.info.width, reader.info.height, float(reader.info.rate)) == (64, 48, 16.0)
        assert len(list(reader)) == 24
    again = tmp_path / "again.mkv"
    assert run(*same, "--seconds", 1.5, "-o", again).exit_code == 0
    assert (read_clip(out) == read_clip(again)).all()
    for switch in ("--no-match-motion", "--no-match-colour", "--no-sharpen"):
        other = tmp_path / f"{switch}.mkv"
        assert run(*same, "--seconds", 1.5, switch, "-o", other).exit_code == 0
        one, two = read_clip(out, frames=24), read_clip(other, frames=24)
        assert (one[:16] == two[:16]).all()
    refused = run(*same, "-o", out)
    assert refused.exit_code == 2 and "--force" in refused.stderr
    assert run(*same, "-o", out, "--force", "--size", "96x32").exit_code == 0
    with open_video(out) as reader:
        assert (reader.info.width, reader.info.height) == (96, 32)


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (("--seconds", "3"), "neither --image nor --prompt", 2),
        (("--image", "none.png"), "none.png doesn't exist", 2),
        (("--image", "PHOTO", "--size", "0x3"), "'0x3' is not WIDTHxHEIGHT", 2),
        (("--image", "PHOTO", "--seconds", "0.5"), "seconds is 0.5", 2),
        (("--image", "PHOTO", "--sampler", "heun"), "this model predicts noise", 2),
        (("--prompt", "a boat"), "text-to-image stage", 2),
        (("--image", "PHOTO", "--picture-steps", "3"), "--picture-steps is 3, but the picture is given", 2),
        (("--image", "PHOTO", "--guidance-of", "text"), "--guidance-of is 'text', but the model is told no text", 2),
        (("--image", "PHOTO", "--model", "no-such-model"), "no model 'no-such-model'", 1),
        (("--image", "BROKEN"), "broken.png", 1),
    ],
    ids=str,
)
def test_what_goes_wrong(
    dit_folder: SaveDit, codec_folder: Path, photo: Path, tmp_path: Path, arguments: Any, words: str, code: int
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(photo.read_bytes()[:60])
    places = {"PHOTO": photo, "BROKEN": broken}
    folder = dit_folder()
    before = sorted(path.name for path in tmp_path.iterdir())
    done = run("--model", folder, "--codec", codec_folder, "-o", tmp_path / "out.mp4", "--steps", 2,
               *(places.get(argument, argument) for argument in arguments))  # fmt: skip
    assert done.exit_code == code, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and words in line
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_bundled_model_as_a_newcomer_runs_it(tmp_path: Path) -> None:
    """In a process of its own, by default names: the clip moves, keeps its picture, and doesn't change its brightness."""
    with open_video(EXAMPLE) as reader:
        picture = next(iter(reader)).rgb
    Image.fromarray(picture).save(tmp_path / "photo.png")
    words = ["generate", "--image", "photo.png", "--seed", "0", "--lossless", "-o", "out.mkv"]
    done = subprocess.run(
        [sys.executable, "-m", "reducio_codec", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("out.mkv"), done.stdout
    clip = read_clip(tmp_path / "out.mkv")
    index = load_pretrained("reducio-lite", decoders=("linear",))[0].default_keyframe_index
    height, width = clip.shape[1:3]
    wanted = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS), np.float32)
    assert 10 * np.log10(255**2 / np.square(clip[index] - wanted).mean()) > 30
    assert 0.2 < motion_magnitude(clip, keyframe_index=index) < 20
    assert abs(brightness_drift(clip)) < 6  # grey levels; the model has 2.8 in the mean
