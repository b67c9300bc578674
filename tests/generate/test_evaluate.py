"""Measures of generated clips, on clips whose motion and brightness are known; and the command as a whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from reducio_codec.codec import ReducioCodec
from reducio_codec.errors import InputError
from reducio_codec.generate import evaluate, latent_space_id
from reducio_codec.generate.features import NAME, clip_features
from reducio_codec.generate.measure import brightness_drift, distance_to_moved, motion_magnitude, outer_sharpness
from reducio_codec.metrics.lpips import Lpips
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


def soft(clip: np.ndarray) -> np.ndarray:
    """Every frame smeared along the line."""
    return np.mean([np.roll(clip, shift, 2) for shift in range(-2, 3)], axis=0).astype(np.uint8)


def test_sharpness_of_the_outer_frames() -> None:
    rng = np.random.default_rng(0)
    clip = np.clip(pan(1).astype(int) + rng.integers(-20, 21, (1, 96, 96, 1)), 0, 255).astype(np.uint8)
    assert outer_sharpness(clip, picture=clip[7]) == pytest.approx(1, abs=0.05)
    smeared = clip.copy()
    smeared[[0, 1, 14, 15]] = soft(clip)[[0, 1, 14, 15]]
    assert outer_sharpness(smeared, picture=clip[7]) < 0.6
    smeared = soft(clip)
    smeared[[0, 1, 14, 15]] = clip[[0, 1, 14, 15]]
    assert outer_sharpness(smeared, picture=clip[7]) == pytest.approx(1, abs=0.05), "the others don't count"


def test_what_has_changed_but_for_motion() -> None:
    """A pan is the picture moved; noise over it isn't."""
    metric, clip = Lpips(), pan(1)
    rng = np.random.default_rng(0)
    noisy = np.clip(clip.astype(int) + rng.integers(-40, 41, clip.shape), 0, 255).astype(np.uint8)
    moved, other = (distance_to_moved(each, picture=clip[7], perceptual=metric) for each in (clip, noisy))
    unmoved = float(metric(np.repeat(clip[7:8], 4, 0), clip[[0, 1, 14, 15]]).mean())
    assert moved < 0.7 * unmoved and moved < 0.5 * other


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
    tallies = {}
    for name, clips in sets.items():
        tallies[name] = evaluate.Tally(
            keyframe_index=7, features=partial(clip_features, keyframe_index=7), perceptual=Lpips()
        )
        for clip, source in zip(clips, real, strict=True):
            tallies[name].add(clip, source=source)
    found = {name: tally.summary(real=tallies["real"]) for name, tally in tallies.items()}
    assert found["others"]["frechet"] < 0.2 * found["still"]["frechet"]
    assert found["still"]["motion_over_real"] < 0.1 and 0.7 < found["others"]["motion_over_real"] < 1.4
    assert found["still"]["keyframe_psnr_least"] > 70 > 30 > found["others"]["keyframe_psnr_least"]
    assert found["real"]["frechet_between_halves"] > 0 and "not FVD" in NAME


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 frames: three clips of pans."""
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "a.mkv", np.concatenate([pan(1), pan(1)[::-1], pan(1)]))
    return folder


Run = Callable[..., Result]


@pytest.fixture
def run(videos: Path, codec_folder: Path, tmp_path: Path) -> Run:
    """``run(model, *words)`` on the videos, into out.json."""

    def call(model: Path, *words: str | Path) -> Result:
        same = [str(model), "--codec", str(codec_folder), "--data", str(videos), "--side", "64"]
        same += ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out.json")]
        return CliRunner().invoke(evaluate.main, [*same, *map(str, words)])

    return call


def test_the_command(dit_folder: SaveDit, run: Run, tmp_path: Path) -> None:
    result = run(dit_folder(), "--setting", "steps=2", "--strips", tmp_path / "strips")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["clips"] == 3 and found["features"] == {"name": NAME, "size": 48}
    assert (found["steps"], found["guidance"], found["cache_blocks"]) == (2, 2.5, 0)
    assert found["generated"]["keyframe_psnr_least"] > 70  # the decoder shows the picture itself
    assert {"motion_over_real", "outer_sharpness", "lpips_moved", "brightness_drift_abs", "frechet"} <= found[
        "generated"
    ].keys()
    assert found["keyframe_repeated"]["motion_over_real"] < 0.1
    (setting,) = found["settings"]
    assert found["generated"].items() <= setting.items()
    assert setting["seconds_per_clip"] > 0 and setting["frechet_over_first"] == 1
    assert found["environment"]["threads"] >= 1 and "torch" in found["environment"]["versions"]
    assert len(list((tmp_path / "strips").glob("*.png"))) == 3


def test_settings_beside_each_other(dit_folder: SaveDit, codec_folder: Path, run: Run, tmp_path: Path) -> None:
    """Each is what it is alone: a model with its own steps, with others, with resting blocks, and its student."""
    model = dit_folder(objective="flow")
    student = dit_folder("student", objective="flow", distilled_steps=3, distilled_guidance=2.0)
    texts = ["steps=4", "steps=2,guidance=1", "steps=4,cache_blocks=2", f"name=the student,model={student}"]
    result = run(model, *(word for text in texts for word in ("--setting", text)))
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out.json").read_text())
    rows = found["settings"]
    assert [{name: row[name] for name in ("model", "steps", "guidance", "cache_blocks")} for row in rows] == [
        {"model": str(model), "steps": 4, "guidance": 2.5, "cache_blocks": 0},
        {"model": str(model), "steps": 2, "guidance": 1.0, "cache_blocks": 0},
        {"model": str(model), "steps": 4, "guidance": 2.5, "cache_blocks": 2},
        {"model": "the student", "steps": 3, "guidance": 1.0, "cache_blocks": 0},
    ]
    assert [row.get("distilled_guidance") for row in rows] == [None, None, None, 2.0]
    assert len({row["frechet"] for row in rows}) == 4
    for row in rows:
        assert row["frechet_over_first"] == pytest.approx(row["frechet"] / rows[0]["frechet"], abs=2e-3)
    assert found["steps"] == 4 and found["generated"].items() <= rows[0].items()
    assert run(student).exit_code == 0
    alone = json.loads((tmp_path / "out.json").read_text())
    kept = [name for name in alone["generated"] if name != "frechet"]
    assert {name: alone["generated"][name] for name in kept} == {name: rows[3][name] for name in kept}
    assert (alone["real"], alone["codec"]) == (found["real"], found["codec"])


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (
            "step=4",
            "setting 'step=4' has 'step=4'; it must be NAME=VALUE, names: model, name, steps, guidance, cache_blocks, motion",
        ),
        ("steps=4,", "has ''; it must be NAME=VALUE"),
        ("steps", "has 'steps'; it must be NAME=VALUE"),
        ("steps=many", "steps is 'many'; it must be a number"),
        ("steps=0", "steps is 0; it must be at least 1"),
        ("guidance=-1", "guidance is -1.0; it must be a number of 0 or more"),
        ("motion=1", "motion is 1.0, but this model was trained without"),
        ("cache_blocks=9", "cache_blocks is 9; a model of 4 blocks allows 0"),
        ("cache_blocks=-1", "cache_blocks is -1; a model of 4 blocks allows 0"),
        ("model=STUDENT,steps=20", "steps is 20; this model was distilled for 4 and no other number"),
        ("model=STUDENT,guidance=2.5", "this model was distilled with guidance 2.5 inside"),
        ("model=OTHER", "this transformer makes latents of 0123456789abcdef"),
        ("model=nosuch", "no model 'nosuch'"),
    ],
)
def test_settings_that_are_refused(setting: str, words: str, dit_folder: SaveDit, run: Run, tmp_path: Path) -> None:
    """One line, before anything is made."""
    models = {
        "STUDENT": {"objective": "flow", "distilled_steps": 4, "distilled_guidance": 2.5},
        "OTHER": {"latent_space": "0123456789abcdef"},
    }
    for name, changes in models.items():
        if name in setting:
            setting = setting.replace(name, str(dit_folder(name, **changes)))
    result = run(dit_folder(), "--setting", "steps=2", "--setting", setting)
    assert result.exit_code in (1, 2) and result.stderr.count("\n") == 1, result.output
    assert words in result.stderr
    assert not (tmp_path / "out.json").exists() and not (tmp_path / "cache").exists()


def test_models_of_two_codecs_are_not_compared(
    dit_folder: SaveDit, codec_folder: Path, other_codec_folder: Path
) -> None:
    other = latent_space_id(ReducioCodec.from_pretrained(other_codec_folder).model)
    models = dit_folder(codec=str(codec_folder)), dit_folder("other", codec=str(other_codec_folder), latent_space=other)
    with pytest.raises(InputError, match=f"makes latents of {other}, .* models that are compared share a codec"):
        evaluate.open_subjects([evaluate.Setting(model=str(model)) for model in models], codec=None)
