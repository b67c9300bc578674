"""The example runs as it is written."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

SCRIPT = Path(__file__).parents[2] / "examples" / "train_dit_on_latents.py"


def test_trains_and_makes_a_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], make_video: Callable[..., Path]
) -> None:
    make_video("one.mp4", frames=35)
    out = tmp_path / "motion.webp"
    for videos, clips in ((), 4), ((str(tmp_path),), 2):
        arguments = [str(SCRIPT), *videos, "--steps", "3", "--size", "64", "--batch", "2", "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", [*arguments, "--out", str(out)])
        runpy.run_path(str(SCRIPT), run_name="__main__")
        printed = capsys.readouterr().out.splitlines()
        assert printed[0].startswith(f"{clips} clips") and printed[-1] == str(out)
        losses = [float(line.rsplit(" ", 1)[1]) for line in printed[1:-1]]
        assert len(losses) == 2 and all(0 < loss < 10 for loss in losses)
        with Image.open(out) as made:
            assert made.size == (64, 64) and getattr(made, "n_frames", 1) == 16
        out.unlink()


def test_a_folder_without_videos_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(tmp_path)])
    with pytest.raises(SystemExit, match=r"no \.mp4 file with 16 frames"):
        runpy.run_path(str(SCRIPT), run_name="__main__")
