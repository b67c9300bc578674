"""A sheet of generated clips: one command, one picture, a row for each key picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner, Result
from PIL import Image

from reducio_codec.generate.sheet import main
from tests.generate.conftest import SaveDit
from tests.helpers import moving_video


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_a_sheet(dit_folder: SaveDit, codec_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(4):
        Image.fromarray(moving_video(1, 80, 100, seed=number)[0]).save(folder / f"{number}.jpg")
    (folder / "notes.txt").write_text("no picture")
    (folder / "4.png").write_bytes(b"broken")
    same = ("-m", dit_folder(), "--codec", codec_folder, "--side", 64)
    done = run(folder, *same, "-o", tmp_path / "all.png")
    assert done.exit_code == 0, done.output
    assert "4 clips" in done.stdout and "left out" in done.stderr and "4.png" in done.stderr
    with Image.open(tmp_path / "all.png") as sheet:
        whole = np.asarray(sheet)
    row = 22 + 128  # a line of text, and clips enlarged to the narrowest panel
    assert whole.shape == (4 * row, 8 * 128, 3)
    done = run(folder / "0.jpg", folder / "1.jpg", *same, "--count", 2, "-o", tmp_path / "two.png")
    assert done.exit_code == 0, done.output
    with Image.open(tmp_path / "two.png") as sheet:
        assert np.array_equal(np.asarray(sheet), whole[: 2 * row]), "a row is the same in any sheet"


def test_what_gives_no_sheet(dit_folder: SaveDit, codec_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "broken.png").write_bytes(b"broken")
    out = tmp_path / "out.png"
    same = ("-m", dit_folder(), "--codec", codec_folder, "--side", 64)
    for source, target, words in (
        (tmp_path / "none", out, "has no picture"),
        (tmp_path / "broken.png", out, "none of 1 pictures can be read"),
        (tmp_path / "broken.png", tmp_path / "out.mp4", "it must end with .png"),
    ):
        done = run(source, *same, "-o", target)
        assert done.exit_code == 2 and words in done.stderr.splitlines()[-1], done.output
        assert not target.exists()
