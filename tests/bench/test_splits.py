"""The test split: its own results folder, and one report a model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from bench.__main__ import main
from bench.splits import RECORD, is_test_split, record_report, results_folder
from bench.subjects import LITE_TINY
from reducio_codec.errors import InputError
from reducio_codec.models.lite.model import ReducioLite
from reducio_codec.weights.io import save_model
from tests.bench.fakes import video_folder


def test_only_the_test_split_is_apart(tmp_path: Path) -> None:
    assert is_test_split(Path("corpus/val2")) and not is_test_split(Path("corpus/val"))
    assert results_folder(Path("results"), data=Path("corpus/val2")) == Path("results/val2")
    assert results_folder(Path("results/val2"), data=Path("corpus/val2")) == Path("results/val2")
    assert results_folder(Path("results"), data=Path("corpus/val")) == Path("results")
    for digest in ("a", "b"):  # nothing is recorded elsewhere
        record_report(tmp_path, data=Path("corpus/val"), models={"m": digest})
    assert not (tmp_path / RECORD).exists()


def test_a_model_is_reported_once(tmp_path: Path) -> None:
    data = Path("corpus/val2")
    record_report(tmp_path, data=data, models={"lite-2": "aaaa"})
    record_report(tmp_path, data=data, models={"lite-2": "aaaa", "other": "bbbb"})  # going on, and another model
    with pytest.raises(InputError, match="lite-2 was reported on val2 with weights aaaa, these are cccc"):
        record_report(tmp_path, data=data, models={"new": "dddd", "lite-2": "cccc"})
    assert json.loads((tmp_path / RECORD).read_text()) == {"lite-2": "aaaa", "other": "bbbb"}


def test_by_command(tmp_path: Path) -> None:
    videos = video_folder(tmp_path / "val2", {"a.mp4": 16}, height=256, width=256)
    arguments = ["run", "rd", "--data", str(videos), "-o", str(tmp_path / "results"), "--model", str(tmp_path / "tiny"),
                 "--methods", "tiny-linear", "--qualities", "5", "--steps", "2", "--decoder", "linear",
                 "--perceptual", ""]  # fmt: skip
    for seed, (code, said) in enumerate([(0, "results/val2"), (1, "was reported on val2")]):
        torch.manual_seed(seed)
        shutil.rmtree(tmp_path / "tiny", ignore_errors=True)
        save_model(ReducioLite(LITE_TINY), tmp_path / "tiny", card="# tiny")
        done = CliRunner().invoke(main, arguments)
        assert (done.exit_code != 0) == bool(code) and said in done.output, done.output
    assert (tmp_path / "results" / "val2" / "rd").is_dir() and not (tmp_path / "results" / "rd").exists()
