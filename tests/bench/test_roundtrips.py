"""The README's first table: one command makes rows and strips, and the table is the rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from bench.roundtrips import main, name_of
from bench.summaries import summary


def test_the_readmes_rows_are_replaced_only_where_that_is_said(
    make_video: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "bench" / "results" / "roundtrips.json"
    rows.parent.mkdir(parents=True)
    rows.write_text("the readme's")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, [str(make_video(frames=3)), "--model", "reducio-test"])
    assert done.exit_code == 2 and "--results" in done.stderr
    assert rows.read_text() == "the readme's"


def test_rows_and_strips(make_video: Callable[..., Path], tmp_path: Path) -> None:
    video = tmp_path / "val" / "0012_moving_000000.mp4"
    video.parent.mkdir()
    make_video(frames=20, height=64, width=96).rename(video)
    assert name_of(video) == "val/moving_000000"
    done = CliRunner().invoke(main, [str(video), "--model", "reducio-test", "-o", str(tmp_path / "results")])
    assert done.exit_code == 0, done.output
    _, (rows,) = summary(tmp_path / "results" / "roundtrips.json")
    assert [row[0] for row in rows] == ["video", "val/moving_000000"] and rows[1][1] == "96x64"
    assert float(rows[1][2]) > 0 and 10 < float(rows[1][4]) < 80
    with Image.open(tmp_path / "results" / "strips" / "val-moving_000000.webp") as picture:
        assert picture.width == 1280
