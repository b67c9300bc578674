"""What key frames cost: measured on small videos, and the stored measurements give the encoder's numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bench import keyframe_costs
from reducio_codec.coding.keyframes import Costs
from tests.helpers import moving_video
from tests.train.conftest import write_video

STORED = Path(__file__).parents[2] / "bench" / "results" / "keyframe-costs.json"


def test_the_encoder_has_what_was_fitted() -> None:
    """Within what one scene more or less changes: the stored rows lack one that the encoder's numbers had."""
    found = keyframe_costs.fit(json.loads(STORED.read_text(encoding="utf-8"))["videos"])
    for quality in (0, 25, 50):
        costs = Costs.of(quality)
        assert costs.error == pytest.approx(np.exp(found["error at 0"] + found["error fall"] * quality), rel=0.15)
        assert costs.bits == pytest.approx(np.exp(found["bits at 0"] + found["bits growth"] * quality), rel=0.15)
        assert costs.slope == pytest.approx(np.exp(found["slope at 0"] + found["slope fall"] * quality), rel=0.15)


def test_it_measures_and_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyframe_costs, "QUALITIES", (3, 60))
    data = tmp_path / "data"
    data.mkdir()
    write_video(data / "a.mkv", moving_video(16, 256, 256))
    done = CliRunner().invoke(
        keyframe_costs.main, ["--data", str(data), "--every", "1", "-o", str(tmp_path / "a.json")]
    )
    assert done.exit_code == 0, done.output
    (video,) = json.loads((tmp_path / "a.json").read_text())["videos"]
    assert len(video["rows"]) == 10 and len(video["motion"]) == 1
    assert "slope fall" in done.output
