"""Quality over time of files: the right frames are key frames, rows, a plot, and its place in the report."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from bench.__main__ import main
from bench.over_time import PROTOCOL, Decoded, File, OverTime, table, words
from bench.report.page import build
from reducio_codec import ReducioCodec
from reducio_codec.errors import InputError
from reducio_codec.metrics.lpips import Lpips
from tests.helpers import TinyModel, moving_video


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    """Files of a model that repeats its key frame."""
    frames = moving_video(48, 64, 64)
    codec = ReducioCodec(TinyModel(), model_id="tiny", model_hash="0011223344556677")
    decoded = File(quality=90, step=0.5, group=2)(codec, frames, rate=Fraction(16), decoder="copy")
    assert decoded.keyframes == (7, 23, 39) and decoded.joins == (16, 32)
    assert np.array_equal(decoded.frames[0], decoded.frames[15]) and decoded.bytes > 500
    found = OverTime(lpips=Lpips())
    found.add(frames, decoded)
    data = found.to_json()
    assert data["bpp"] == pytest.approx(8 * decoded.bytes / (48 * 64 * 64))
    config = {"quality": 90, "step": 0.5, "group": 2, "size": 64}
    return {"protocol": PROTOCOL, "model": "0011", "decoder": "copy", "videos": ["a.mp4"], "config": config, **data}


def test_the_key_frame_is_best_and_joins_jump(measured: dict[str, Any]) -> None:
    rows = {row["distance"]: row for row in measured["distances"]}
    assert set(rows) == set(range(-7, 9)) and all(row["frames"] == 3 for row in rows.values())
    assert rows[0]["psnr"] == max(row["psnr"] for row in rows.values())
    assert rows[0]["lpips"] == min(row["lpips"] for row in rows.values())
    assert measured["saw tooth"]["psnr"] > 1 and measured["saw tooth"]["lpips"] < 0
    assert measured["joins"]["at joins, over source"] > 2 and measured["joins"]["elsewhere, over source"] == 0


def test_rows_plot_and_report(measured: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "ours.json").write_text(json.dumps(measured))
    assert [row[0] for row in table(measured)[1:]] == [f"{distance:+d}" for distance in range(-7, 9)]
    assert "decoder `copy`" in words(measured) and "where clips meet" in words(measured)
    shown = CliRunner().invoke(main, ["table", str(tmp_path)])
    assert shown.exit_code == 0 and "| frames from the key frame |" in shown.output, shown.output
    drawn = CliRunner().invoke(main, ["plot", str(tmp_path)])
    assert drawn.exit_code == 0 and (tmp_path / "over-time.svg").is_file() and (tmp_path / "over-time.png").is_file()
    page = build(tmp_path, players=[], no_players="none asked for")
    assert '<section id="over-time">' in page and "PSNR and LPIPS by distance from the key frame" in page


def test_a_single_clip_has_no_join() -> None:
    frames = moving_video(16, 64, 64)
    found = OverTime(lpips=Lpips())
    found.add(frames, Decoded(frames=frames, keyframes=(7,), joins=(), bytes=100))
    data = found.to_json()
    assert data["joins"] is None and data["saw tooth"]["psnr"] == 0
    with pytest.raises(InputError, match="must be equal"):
        found.add(frames, Decoded(frames=frames[:8], keyframes=(7,), joins=(), bytes=100))
