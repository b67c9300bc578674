"""The command behind a model card's figures."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from reducio_codec.measure.evaluate import main


def test_figures_of_a_model(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    command = ["reducio-test", "--data", str(videos), "--cache", str(tmp_path / "cache"), "--out", str(out)]
    done = CliRunner().invoke(main, [*command, "--step", "0.5", "--effort", "0", "--effort", "2"])
    assert done.exit_code == 0, done.output
    found = json.loads(out.read_text())
    assert found["clips"] > 0
    groups = found["psnr"]
    assert groups["hard"]["copy"] <= groups["middle"]["copy"] <= groups["easy"]["copy"]
    for name in (
        "attention",
        "linear",
        "coded key frame",
        "coded, step 0.5",
        "coded, step 0.5, effort 2",
        "key frame kbit",
    ):
        values = [groups[third][name] for third in ("hard", "middle", "easy")]
        assert min(values) <= groups["all"][name] <= max(values)
    assert groups["all"]["linear"] > groups["all"]["copy"] + 1
    gain = found["effort"]["step 0.5, effort 2"]
    assert 0.5 < gain["bits"] < 2 and -1 < gain["median gain"] < 5
