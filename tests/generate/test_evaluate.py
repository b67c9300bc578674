"""Measures of generated clips, on clips whose motion and brightness are known; and the command as a whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from reducio_codec.generate import evaluate
from reducio_codec.generate.features import NAME, clip_features
from reducio_codec.generate.measure import brightness_drift, motion_magnitude
from tests.generate.conftest import SaveDit
from tests.train.conftest import write_video


def pan(speed: int, *, seed: int = 0) -> np.ndarray:
    """A window that moves over a picture by so many pixels a frame: (16, 96, 96, 3) uint8."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 216, (14, 40, 3))
    picture = np.kron(coarse, np.ones((8, 8, 1)))
    blurred = sum(np.roll(picture, (y, x), (0, 1)) for y in range(-3, 4) for x in range(-3, 4)) / 49
    return np.stack([blurred[8:104, 8 + speed * i : 104 + speed * i] for i in range(16)]).astype(np.uint8)


def test_motion_in_pixels() -> None:
    still, slow, fast = (motion_magnitude(pan(speed), keyframe_index=7) for speed in (0, 1, 2))
    assert still < 0.1
    mean_distance = np.mean([abs(i - 7) for i in range(16) if i != 7])
    assert slow == pytest.approx(mean_distance, rel=0.3)
    assert fast == pytest.approx(2 * mean_distance, rel=0.3)


def test_drift() -> None:
    clip = pan(1)
    assert abs(brightness_drift(np.repeat(clip[7:8], 16, 0))) < 1e-3
    brighter = np.clip(clip[7:8] + 2.0 * np.arange(16)[:, None, None, None], 0, 255).astype(np.uint8)
    assert brightness_drift(brighter) == pytest.approx(24, abs=1)


def test_the_distance_tells_stills_from_motion() -> None:
    """Other pans of the same speeds are nearer to the real ones than their key frames repeated are."""
    speeds = (1, 2, 3, 1, 2, 3, 1, 2)
    real = [pan(speed, seed=seed) for seed, speed in enumerate(speeds)]
    sets = {
        "real": real,
        "others": [pan(speed, seed=100 + seed) for seed, speed in enumerate(speeds)],
        "still": [np.repeat(clip[7:8], 16, 0) for clip in real],
    }
    found = evaluate.measure(
        sets, keyframe_index=7, features=lambda clip: clip_features(clip, keyframe_index=7), feature_name=NAME
    )
    assert found["others"]["frechet"] < 0.2 * found["still"]["frechet"]
    assert found["still"]["motion_over_real"] < 0.1 and 0.7 < found["others"]["motion_over_real"] < 1.4
    assert found["still"]["keyframe_psnr_least"] > 70 > 30 > found["others"]["keyframe_psnr_least"]
    assert "not FVD" in found["features"]["name"]


def test_the_command(dit_folder: SaveDit, codec_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "a.mkv", np.concatenate([pan(1), pan(1)[::-1], pan(1)]))
    words = [str(dit_folder()), "--codec", str(codec_folder), "--data", str(tmp_path / "videos"), "--side", "64"]
    words += ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out.json"), "--steps", "2"]
    result = CliRunner().invoke(evaluate.main, [*words, "--strips", str(tmp_path / "strips")])
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["clips"] == 3 and found["features"]["name"] == NAME
    assert found["generated"]["keyframe_psnr_least"] > 70  # the decoder shows the picture itself
    assert {"motion_over_real", "brightness_drift_abs", "frechet"} <= found["generated"].keys()
    assert found["keyframe_repeated"]["motion_over_real"] < 0.1
    assert len(list((tmp_path / "strips").glob("*.png"))) == 3
