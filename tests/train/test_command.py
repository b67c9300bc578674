"""``reducio-codec train`` as a person meets it: one line for what is wrong, the right exit code, no traceback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from reducio_codec.cli import main
from reducio_codec.train import live, loop
from tests.train.conftest import TINY, to_toml


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


def test_where_it_is_while_it_runs(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal: validations and a message now and then, as they come."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(live, "MESSAGE_SECONDS", 0.0)
    told: list[int] = []
    real = loop.take_step

    def watched(*args: Any, **more: Any) -> None:
        told.append(sys.stderr.buffer.getvalue().count(b"step "))  # type: ignore[attr-defined]
        real(*args, **more)

    monkeypatch.setattr(loop, "take_step", watched)
    (tmp_path / "recipe.toml").write_text(to_toml({**TINY, "run": {**TINY["run"], "validate_steps": 3}}))
    result = CliRunner().invoke(
        main, ["train", "recipe.toml", "--data", str(videos), "--val", str(videos), "--out", "run"]
    )
    assert result.exit_code == 0, result.output
    assert told == [1, 2, 3, 5]  # validated before steps 1 and 4
    lines = [line for line in result.stderr.splitlines() if line.startswith("step ")]
    psnr = r"\d\d\.\d\d dB \([+-]\d\.\d\d\)"
    validation = rf"step \d, 0\.\d min: warp {psnr}, add {psnr}; repeating the key frame \d\d\.\d\d dB"
    assert [line[5] for line in lines if re.fullmatch(validation, line)] == ["0", "3", "4"], lines
    progress = r"step \d, 0\.\d min: (\d+)% done(, \d+ s left)?, \d+\.\d clips/s, loss -?\d\.\d+"
    found = [match for line in lines if (match := re.fullmatch(progress, line))]
    assert [match[1] for match in found] == ["25", "50", "75", "100"], lines
    assert [match[2] is None for match in found] == [True, False, False, False]  # one step says nothing of the speed


def test_a_message_a_minute(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="reducio_codec")
    clock = 1000.0
    monkeypatch.setattr(live.time, "monotonic", lambda: clock)
    show = live.Messages()
    for step in range(301, 601):  # it goes on at step 300 of 1000; 12 s a step
        clock += 12
        show(
            live.Standing(
                step=step, seconds=12.0 * step, share=step / 1000, clips_per_second=2.5, losses={"loss": -6.25}
            )
        )
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 60
    assert messages[0] == "step 305, 61.0 min: 30% done, 2 h 19 min left, 2.5 clips/s, loss -6.25"
    assert messages[-1] == "step 600, 120.0 min: 60% done, 80 min left, 2.5 clips/s, loss -6.25"


def test_options_are_listed() -> None:
    result = CliRunner().invoke(main, ["train", "--options"])
    assert "recipes: ablation, image-vae, lite, lite-bidirectional, lite-decoders, paper, smoke" in result.output
    assert "optimizer.learning_rate = 4e-05" in result.output
