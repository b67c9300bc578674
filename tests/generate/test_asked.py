"""Correlation of what is asked for with what is made, with a pipeline that does exactly that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from reducio_codec.codec import ReducioCodec
from reducio_codec.generate import Camera, DiTConfig, ReducioDiTPipeline
from reducio_codec.generate.asked import asked_against_made
from reducio_codec.generate.measure import Clip
from tests.generate.conftest import SaveDit
from tests.generate.test_controls import PLACED, filmed
from tests.generate.test_evaluate import Run, run, videos

__all__ = ["run", "videos"]


class Obedient:
    """Pans as fast as it is asked to move, and films as it is asked to; or does always the same."""

    config: DiTConfig = PLACED

    def __init__(self, *, deaf: bool) -> None:
        self._deaf = deaf

    def __call__(self, *, image: Any, seed: int, motion: float = 1.0, camera: Camera | None = None) -> Clip:
        if self._deaf:
            motion, camera = 1.0, None
        return np.asarray(filmed(Camera(pan_x=0.1 * motion) if camera is None else camera))


@pytest.mark.parametrize("deaf", [False, True])
def test_what_is_done_as_asked_correlates(deaf: bool) -> None:
    codec = ReducioCodec.from_pretrained("reducio-lite")
    pipeline = cast(ReducioDiTPipeline, Obedient(deaf=deaf))
    calls: list[int] = []
    pictures = [np.zeros((256, 256, 3), np.uint8)] * 4
    found = asked_against_made(pipeline, codec, pictures, done=lambda: calls.append(1))
    assert list(found) == ["motion", "pan_x", "pan_y", "zoom", "roll"] and len(calls) == 4
    if deaf:
        assert all(value == pytest.approx(0, abs=1e-6) for value in found.values())
    else:
        assert all(value > 0.9 for value in found.values()), found


def test_a_model_that_cant_be_asked_is_refused(dit_folder: SaveDit, run: Run) -> None:
    refused = run(dit_folder(), "--controls", "2")
    assert refused.exit_code == 2 and "trained without motion and camera" in refused.output


def test_the_command_asks(dit_folder: SaveDit, run: Run, tmp_path: Path) -> None:
    done = run(dit_folder(motion_unit=5.0, default_steps=1), "--controls", "2")
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "out.json").read_text())["asked_against_made"]
    assert list(found) == ["motion", "pan_x", "pan_y", "zoom", "roll"]
    assert all(-1 <= value <= 1 for value in found.values())
