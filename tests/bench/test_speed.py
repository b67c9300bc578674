"""The speed measurement at toy width: what it writes, that it goes on where it stopped, its table. Nothing is timed."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from rich.console import Console

from bench.__main__ import main
from bench.memory import CASES, measure
from bench.speed.comparison import OPTIMISED, REFERENCE, SpeedConfig, SpeedResult, run, tables
from bench.subjects import same_video

TINY = SpeedConfig(size=64, paper_decodes=1, paper_encodes=1, lite_repeats=2, compile=False, tiny=True)


@pytest.fixture(scope="module")
def result_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "results" / "speed.json"
    run(TINY, path=path, memory=False)
    return path


def test_every_subject_is_timed_as_often_as_asked(result_file: Path) -> None:
    data = json.loads(result_file.read_text())
    counts = {
        name: {operation: len(values) for operation, values in operations.items()}
        for name, operations in data["samples"].items()
    }
    assert counts == {
        REFERENCE: {"decode": 1, "encode": 1},
        OPTIMISED: {"decode": 1, "encode": 1},
        "lite, eager": {"decode": 2, "encode": 2},
    }
    assert data["config"]["seed"] == 0
    assert data["machine"]["versions"]["torch"] == torch.__version__.split("+")[0]
    assert data["machine"]["threads"] >= 1
    assert data["weights"]["lite"].startswith("random, ")


def test_optimised_and_plain_agree(result_file: Path) -> None:
    result = SpeedResult.read(result_file)
    assert result is not None and result.agreement_db is not None
    assert result.agreement_db > 30  # bfloat16 at a toy width; an optimisation gone wrong gives far less


def test_a_finished_run_measures_nothing_again(result_file: Path) -> None:
    before = json.loads(result_file.read_text())["samples"]
    run(TINY, path=result_file, memory=False)
    assert json.loads(result_file.read_text())["samples"] == before


def test_a_cut_off_run_goes_on(result_file: Path, tmp_path: Path) -> None:
    data = json.loads(result_file.read_text())
    kept = data["samples"][REFERENCE]["decode"]
    data["samples"]["lite, eager"]["decode"] = []
    path = tmp_path / "speed.json"
    path.write_text(json.dumps(data))
    result = run(TINY, path=path, memory=False)
    assert result.count("lite, eager", "decode") == 2
    assert result.samples[REFERENCE]["decode"] == kept


def test_the_committed_result_is_readable() -> None:
    result = SpeedResult.read(Path(__file__).resolve().parents[2] / "bench" / "results" / "speed.json")
    once = replace(SpeedConfig(), paper_decodes=1, paper_encodes=1, compile=False)  # as the README says
    assert result is not None and result.config == once


def test_another_protocol_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "speed.json"
    path.write_text(json.dumps({"protocol": "speed/0", "anything": 1}))
    assert SpeedResult.read(path) is None


def test_table_shows_each_subject(result_file: Path) -> None:
    result = SpeedResult.read(result_file)
    assert result is not None
    result.memory = [{"case": "lite decode 16x256x256", "growth_bytes": 123_000_000, "seconds": 1.5}]
    out = StringIO()
    for table in tables(result):
        Console(file=out, width=140).print(table)
    for word in (REFERENCE, OPTIMISED, "lite, eager", "123", "frames/s"):
        assert word in out.getvalue()


def test_every_memory_case_has_its_own_name() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("operation", ["decode", "encode"])
def test_memory_is_measured_in_a_child_and_counts_what_a_case_adds(operation: str) -> None:
    case = next(case for case in CASES if (case.model, case.operation, case.size) == ("lite", operation, 256))
    row = measure(case, tiny=True)
    assert row["case"] == f"lite {operation} 16x256x256"
    assert row["seconds"] > 0
    assert row["growth_bytes"] > 3 * 16 * 256 * 256  # the clip as bytes is the least that either way makes


def test_same_clip_for_everybody() -> None:
    video = same_video(size=64, seed=3)
    assert video.shape == (1, 3, 16, 64, 64)
    assert torch.equal(video, same_video(size=64, seed=3))
    assert video.min() >= -1 and video.max() <= 1
    assert (video[:, :, 0] - video[:, :, 15]).abs().mean() > 0.05, "the clip must move"


def test_wrong_size_is_refused() -> None:
    done = CliRunner().invoke(main, ["speed", "--size", "100"])
    assert done.exit_code == 2
    assert "multiple of 32" in done.output
