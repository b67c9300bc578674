"""Tiles of several sizes: a file's bytes, and PSNR of what is shown of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.summaries import summary
from bench.tile_sizes import main
from reducio_codec.cli.roundtrip import EXAMPLE
from reducio_codec.errors import InputError


def test_a_real_video_and_its_table(tmp_path: Path) -> None:
    out = tmp_path / "tiles.json"
    found = CliRunner().invoke(
        main, [str(EXAMPLE), "--tile-size", "96", "--tile-size", "1920", "--frames", "16", "-o", str(out)]
    )
    assert found.exit_code == 0, found.output
    said, (rows,) = summary(out)
    assert "first 16 frames" in said and len(rows) == 3
    small, whole = json.loads(out.read_text())["rows"]
    assert small["tile_size"] == 96 and whole["tile_size"] == 1920
    assert whole["linear"] > small["linear"] > 20 and whole["attention"] > small["attention"]
    decoded = [f"{whole[name]:.2f}" for name in ("linear", "attention")]
    assert rows[2] == [whole["video"], whole["size"], "1920", f"{whole['bytes']:,}", *decoded]
    data = json.loads(out.read_text())
    out.write_text(json.dumps({**data, "rows": [{}]}))
    with pytest.raises(InputError, match="damaged"):
        summary(out)
