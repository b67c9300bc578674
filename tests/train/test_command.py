"""``reducio-codec train`` as a person meets it: one line for what is wrong, the right exit code, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from reducio_codec.cli import main


def call(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, "-m", "reducio_codec", "train", *words]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=200, check=False)


def test_from_a_folder_of_videos_to_a_model(videos: Path, tmp_path: Path) -> None:
    changes = ["run.minutes=0.05", "start.flow_clips=8", "export.table_clips=2", "data.workers=0"]
    words = [word for change in changes for word in ("--set", change)]
    done = call("smoke", "--data", str(videos), "--val", str(videos), "--out", "run", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "over repeating the key frame" in done.stdout
    assert (tmp_path / "run" / "model" / "config.json").is_file()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nosuch", "--data", ".", "--out", "run"], 2, "neither a file nor bundled"),
        (["smoke", "--data", ".", "--out", "run"], 2, "has no videos"),
        (["smoke", "--data", "missing", "--out", "run"], 2, "neither a folder nor"),
        (["smoke", "--data", ".", "--out", "run", "--set", "run.minuts=1"], 2, "unknown option 'minuts'"),
        (["smoke", "--data", ".", "--out", "run", "--decoder", "sharp"], 2, "among the model's: warp"),
        (["smoke", "--data", ".", "--out", "run", "--freeze", "encoder"], 2, "give start.weights"),
        (["smoke", "--data", ".", "--out", ".", "--profile"], 2, "needs a new --out"),
    ],
)
def test_one_line_for_what_is_wrong(words: list[str], code: int, message: str, tmp_path: Path) -> None:
    done = call(*words, cwd=tmp_path)
    assert done.returncode == code
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_options_are_listed() -> None:
    result = CliRunner().invoke(main, ["train", "--options"])
    assert "recipes: ablation, image-vae, lite, lite-bidirectional, lite-decoders, paper, smoke" in result.output
    assert "optimizer.learning_rate = 4e-05" in result.output
