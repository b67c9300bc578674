"""``reducio-codec train`` as a person meets it: one line for what is wrong, the right exit code, no traceback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from reducio_codec.cli import main
from reducio_codec.train.recipe import build_recipe, to_document
from reducio_codec.training import live, loop
from tests.helpers import moving_video
from tests.train.conftest import TINY, to_toml, write_video


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
        (["smoke", "--data", ".", "--out", "run", "--decoder", "sharp"], 2, "among the model's: linear"),
        (["smoke", "--data", ".", "--out", "run", "--freeze", "encoder"], 2, "give start.weights"),
    ],
)
def test_one_line_for_what_is_wrong(words: list[str], code: int, message: str, tmp_path: Path) -> None:
    done = call(*words, cwd=tmp_path)
    assert done.returncode == code
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.fixture
def place(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a command is called: a folder with good and bad videos, good and bad recipes, and what is no model."""
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "short", "junk", "notes", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "videos").symlink_to(videos)
    write_video(tmp_path / "short" / "a.mkv", moving_video(12, 48, 64))
    for name in ("a", "b"):
        (tmp_path / "junk" / f"{name}.mp4").write_text("no video")
    (tmp_path / "notes" / "README.md").write_text("no model")
    (tmp_path / "tiny.toml").write_text(to_toml(TINY))
    (tmp_path / "noweights.toml").write_text(to_toml({**TINY, "start": {}}))
    (tmp_path / "odd.toml").write_text("[model]\narchitecture = 'lite'\n[optimiser]\n[run]\nsteps = 1\n")
    (tmp_path / "latin.toml").write_bytes("# caf\xe9\n".encode("latin-1"))
    (tmp_path / "other" / "recipe.json").write_text(
        json.dumps(to_document(build_recipe({**TINY, "data": {"flip": 0}})))
    )
    (tmp_path / "other" / "checkpoints" / "step-00000001").mkdir(parents=True)
    (tmp_path / "other" / "checkpoints" / "step-00000001" / "state.json").write_text("{}")
    (tmp_path / "other" / "latest").write_text("step-00000001")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("tiny.toml --data empty", 2, "empty has no videos; looked for .3gp, "),
        ("tiny.toml --data junk", 2, "none of 2 videos can be used; the first, junk/a.mp4: can't be read as a video: "),
        ("tiny.toml --data short", 2, "short/a.mkv: its longest scene has 12 frames, a clip has 16"),
        ("tiny.toml --data videos --val empty", 2, "empty has no videos"),
        ("tiny.toml --data videos --val junk", 2, "none of 2 videos can be used; the first, junk/a.mp4: can't be read"),
        ("tiny.toml --data videos --val short", 2, "short/a.mkv: its longest scene has 12 frames, a clip has 16"),
        ("tiny.toml --data short --val videos", 2, "short/a.mkv: its longest scene has 12 frames, a clip has 16"),
        ("missing.toml --data videos", 2, "recipe 'missing.toml' is neither a file nor bundled; bundled: ablation, "),
        ("odd.toml --data videos", 2, "the recipe has the unknown option 'optimiser'; allowed: model, run, "),
        ("latin.toml --data videos", 2, "latin.toml can't be read: "),
        ("tiny.toml --data videos --set stages.side=96", 2, "[[stages]] is a list; only a recipe file can change it"),
        ("tiny.toml --data videos --out other", 2, "holds a run with another recipe (data.flip: 0.0 -> 0.5); choose"),
        ("tiny.toml --data videos --out notes", 2, "notes isn't empty and holds no run; choose another --out"),
        ("tiny.toml --data videos --out tiny.toml", 2, "tiny.toml is a file; --out must be a folder, a new one or"),
        ("tiny.toml --data videos --out notes --profile", 2, "needs a new --out; notes exists"),
        ("tiny.toml --data videos --export", 2, "run has no checkpoint that a model could be written from"),
        ("tiny.toml --data videos --export --profile", 2, "--profile saves no run; give one of them"),
        ("tiny.toml --data videos --cache tiny.toml", 2, "the cache tiny.toml is a file; it must be a folder"),
        ("noweights.toml --data videos --weights notes", 1, "notes has no config.json; a model folder holds"),
        ("noweights.toml --data videos --weights nosuch", 1, "no model 'nosuch': not bundled (reducio-lite"),
        ("noweights.toml --data videos --weights reducio-lite", 1, "'reducio-lite' doesn't fit the recipe's [model]: "),
    ],
)
def test_one_line_and_nothing_left(words: str, code: int, message: str, place: Path) -> None:
    before = everything(place)
    extra = [] if "--out" in words else ["--out", "run"]
    result = CliRunner().invoke(main, ["train", *words.split(), *extra])
    assert result.exit_code == code, result.output
    said = [line for line in result.stderr.splitlines() if line.startswith(("error", "warning"))]
    assert len(said) == 1 and message in said[0], result.stderr
    assert everything(place) == before


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_after_a_wrong_start_another_recipe_takes_the_folder(place: Path) -> None:
    words = ["--data", "videos", "--out", "run", "--set", "run.steps=1"]
    assert CliRunner().invoke(main, ["train", "tiny.toml", *words, "--val", "empty"]).exit_code == 2
    profiled = CliRunner().invoke(main, ["train", "tiny.toml", *words, "--profile"])
    assert profiled.exit_code == 0 and "forward" in profiled.stdout, profiled.output
    assert {path.name for path in (place / "run").iterdir()} == {"cache"}  # what the run will read
    again = CliRunner().invoke(main, ["train", "tiny.toml", *words, "--profile"])
    assert again.exit_code == 0, again.output
    done = CliRunner().invoke(main, ["train", "tiny.toml", *words, "--set", "data.flip=0.25"])
    assert done.exit_code == 0, done.output
    assert (place / "run" / "model" / "config.json").is_file()


def test_what_a_run_learns_from(place: Path) -> None:
    (place / "junk" / "c.mkv").symlink_to(place / "videos" / "v0.mkv")
    words = ["train", "tiny.toml", "--data", "junk", "--val", "videos", "--out", "run", "--set", "run.steps=1"]
    first = CliRunner().invoke(main, words)
    assert first.exit_code == 0, first.output
    lines = first.stderr.splitlines()
    assert "warning: skipped junk/a.mp4: can't be read as a video: Invalid data found when processing input" in lines
    assert (
        "warning: 1 of the 3 videos of --val is in --data too: validation also measures what was learned by heart"
        in lines
    )
    assert "learns from 1 video, validates on 2 clips of 3 videos" in lines
    words[-1] = "run.steps=2"
    assert "goes on after step 1" in CliRunner().invoke(main, words).stderr.splitlines()


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
    validation = rf"step \d, 0\.\d min: linear {psnr}, none {psnr}; repeating the key frame \d\d\.\d\d dB"
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
                step=step, seconds=12.0 * step, share=step / 1000, clips_per_second=2.5, mean_loss=lambda: -6.25
            )
        )
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 60
    assert messages[0] == "step 305, 61.0 min: 30% done, 2 h 19 min left, 2.5 clips/s, loss -6.25"
    assert messages[-1] == "step 600, 120.0 min: 60% done, 80 min left, 2.5 clips/s, loss -6.25"


def test_options_are_listed() -> None:
    result = CliRunner().invoke(main, ["train", "--options"])
    assert "recipes: ablation, image-vae, lite, lite-decoders, lite-sharp, paper, smoke" in result.output
    lines = result.output.splitlines()
    assert "optimizer.learning_rate = 4e-05" in lines
    assert "data.crop_range = [0.95, 1.6]" in lines and "run.channels_last = false" in lines
    assert 'run.precision = "float32"    one of "float32", "bf16"' in lines
    assert 'train.freeze = []    any of "encoder", "content"' in lines
