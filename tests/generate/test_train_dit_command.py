"""``reducio-codec train-dit`` as a person meets it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from reducio_codec.cli import main
from reducio_codec.training import live
from tests.generate.test_train_dit import TINY, shards
from tests.train.conftest import terminated_step, to_toml

__all__ = ["shards"]


def test_sigterm_saves_first_and_the_same_command_goes_on(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(to_toml({**TINY, "run": {**TINY["run"], "steps": 100_000}}))
    command = [sys.executable, "-m", "reducio_codec", "train-dit", "recipe.toml", "--latents", str(shards)]
    command += ["--out", "run"]
    step = terminated_step(command, cwd=tmp_path)
    env = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        [*command, "--set", f"run.steps={step + 2}"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"run/model: written after {step + 2} steps" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ["nosuch", "--latents", ".", "--out", "run"],
            2,
            "bundled: dit-1024, dit-256, dit-512, dit-lite, dit-lite-student, dit-small, dit-smoke",
        ),
        (["dit-smoke", "--latents", ".", "--out", "run"], 2, "has no shards.json"),
        (["dit-smoke", "--latents", ".", "--out", "run", "--set", "data.batches=1"], 2, "unknown option 'batches'"),
        (["dit-smoke", "--latents", ".", "--out", "run", "--weights", "x", "--set", "start.pixart=y"], 2, "go with it"),
    ],
)
def test_one_line_for_what_is_wrong(
    words: list[str], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["train-dit", *words])
    assert result.exit_code == code
    assert message in result.output and len(result.output.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--out", "tiny.toml"], 2, "tiny.toml is a file; --out must be a folder, a new one or"),
        (["--weights", "notes"], 2, "'notes', which has neither config.json nor model/config.json"),
        (["--weights", "nosuch"], 2, "'nosuch', which isn't there or is no folder; bundled: 'reducio-dit-small'"),
        (["--weights", "reducio-dit-small"], 2, "the shards hold those of"),
        (["--val", "notes"], 2, "notes has no shards.json"),
        (["--out", "notes"], 2, "isn't empty and holds no run"),
        (["--out", "notes", "--profile"], 2, "needs a new --out; notes exists"),
    ],
)
def test_one_line_and_nothing_left(
    words: list[str], code: int, message: str, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "README.md").write_text("no model")
    (tmp_path / "tiny.toml").write_text(to_toml(TINY))
    extra = [] if "--out" in words else ["--out", "run"]
    result = CliRunner().invoke(main, ["train-dit", "tiny.toml", "--latents", str(shards), *words, *extra])
    assert result.exit_code == code, result.output
    (said,) = (line for line in result.stderr.splitlines() if not line.startswith("warning: the shards"))
    assert message in said
    assert {path.name for path in tmp_path.iterdir()} == {"notes", "tiny.toml"}


def test_profile_saves_nothing(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.toml").write_text(to_toml(TINY))
    words = ["train-dit", "recipe.toml", "--latents", str(shards), "--out", "run", "--profile"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert {"forward", "backward", "update"} <= set(result.output.split())
    assert not (tmp_path / "run").exists()


def test_where_it_is_while_it_runs(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(live, "MESSAGE_SECONDS", 0.0)
    (tmp_path / "recipe.toml").write_text(to_toml(TINY))
    words = ["train-dit", "recipe.toml", "--latents", str(shards), "--val", str(shards), "--out", "run"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    number = r"-?\d+\.\d+"
    for pattern in (
        rf"step 0, 0\.0 min: validation loss {number}, motion {number} of the real clips'",
        rf"step 2, 0\.\d min: 50% done, \d+ s left, {number} clips/s, loss {number}",
        rf"step 4, 0\.\d min: validation loss {number}, motion {number} of the real clips'",
    ):
        assert any(re.fullmatch(pattern, line) for line in result.stderr.splitlines()), result.stderr


def test_options_are_listed() -> None:
    result = CliRunner().invoke(main, ["train-dit", "--options"])
    assert "bundled recipes: dit-1024, dit-256" in result.output
    assert "data.motion_power = 0.5" in result.output and "extract.distance = 8" in result.output
