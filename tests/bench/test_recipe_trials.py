"""Trials of the recipe at toy size: trained, measured, skipped when done, shown as a table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench import recipe_trials
from bench.recipe_trials import TRIALS, main
from bench.summaries import summary
from reducio_codec.train.recipe import read_recipe
from tests.bench.fakes import video_folder

SMALL = (
    *(f"model.channels_{level}=8" for level in (4, 8, 16, 32)),
    "start.flow_clips=2",
    "export.table_clips=1",
    "run.precision='float32'",
)


def test_every_trial_is_a_recipe() -> None:
    for changes in TRIALS.values():
        read_recipe(recipe_trials.RECIPE, changes=["run.minutes=1", *recipe_trials.COMMON, *changes])


def test_trials_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe_trials, "TRIALS", {"the recipe": SMALL, "other": (*SMALL, "latent.quantize=[]")})
    for name in ("train", "val"):
        video_folder(tmp_path / name, {f"{name}{i}.mp4": 40 for i in range(2)}, height=64, width=96)
    out = tmp_path / "trials.json"
    arguments = ["--data", str(tmp_path / "train"), "--val", str(tmp_path / "val"), "--cache", str(tmp_path / "cache"),
                 "--runs", str(tmp_path / "runs"), "-o", str(out), "--minutes", "0.01", "--every", "1"]  # fmt: skip
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    first = out.read_text()
    trials = json.loads(first)["trials"]
    assert list(trials) == ["the recipe", "other"] and trials["other"]["changes"] == [*SMALL, "latent.quantize=[]"]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    assert out.read_text() == first, "what is measured isn't trained again"
    said, (rows,) = summary(out)
    psnr = trials["other"]["psnr"]
    assert "0.01 minutes each" in said and rows[2][0] == "other" and rows[2][3] == f"{psnr['raw']:.2f}"
    done = CliRunner().invoke(main, [*arguments, "--quality", "30"])
    assert done.exit_code == 2 and "results of other settings" in done.output
