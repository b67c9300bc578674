"""The loop: it learns, it resumes to the bit, it never loses a run."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from reducio_codec import ReducioCodec
from reducio_codec.errors import InputError, ReducioError, WeightsError
from reducio_codec.train.clip_loss import ClipLoss
from reducio_codec.train.recipe import Recipe
from reducio_codec.train.task import CodecTask, train
from reducio_codec.training import loop
from reducio_codec.training.checkpoint import Checkpoints
from reducio_codec.training.run_log import read_log
from tests.train.conftest import TINY, terminated_step, to_toml

Make = Callable[..., Recipe]


def losses(out: Path) -> list[float]:
    return [line["loss"] for line in read_log(out / "log.jsonl") if "loss" in line]


def weights(out: Path) -> dict[str, torch.Tensor]:
    folder = Checkpoints(out).find()
    assert folder is not None
    return {
        **load_file(folder / "model.safetensors"),
        **{f"ema {k}": v for k, v in load_file(folder / "ema.safetensors").items()},
    }


def test_a_run_learns_and_leaves_a_model(recipe: Make, videos: Path, tmp_path: Path) -> None:
    report = train(recipe(run={"steps": 12}), data=videos, val=videos, out=tmp_path / "run", cache=tmp_path / "cache")
    assert report.step == 12 and report.validation is not None and report.model == tmp_path / "run" / "model"
    found = losses(tmp_path / "run")
    assert len(found) == 12 and sum(found[-4:]) < sum(found[:4])
    for name in ("curve.png", "strips/step-00000012.png", "log.jsonl", "best", "latest"):
        assert (tmp_path / "run" / name).stat().st_size > 0
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    codec = ReducioCodec.from_pretrained(tmp_path / "run" / "model")
    assert codec.decoders == ("linear", "none")
    latent, keyframe = codec.encode(torch.zeros(16, 64, 64, 3, dtype=torch.uint8))
    assert codec.decode(latent, keyframe).shape == (1, 3, 16, 64, 64)
    assert (report.model / "entropy.json").is_file()


def test_resume_gives_the_same_bits(recipe: Make, videos: Path, tmp_path: Path) -> None:
    """Interrupted after every second step, with everything random in it: noise, key frames through a codec, a GAN."""
    sections: dict[str, Any] = {
        "latent": {"noise": 0.1},
        "keyframe": {"coded": 0.5, "codec": "jpeg", "dropout": 0.1},
        "gan": {"weight": 0.05, "start": 1, "channels": 4},
        "loss": {"perceptual": "haar", "outliers": 1.0},
    }
    whole = recipe(run={"steps": 6, "checkpoint_steps": 0}, **sections)
    train(whole, data=videos, val=None, out=tmp_path / "whole", cache=tmp_path / "cache")
    for steps in (2, 4, 6):
        part = recipe(run={"steps": steps, "checkpoint_steps": 0}, **sections)
        train(part, data=videos, val=None, out=tmp_path / "parts", cache=tmp_path / "cache")
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    ours, theirs = weights(tmp_path / "parts"), weights(tmp_path / "whole")
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        assert torch.equal(value, theirs[key]), key


def test_sigterm_saves_first(videos: Path, tmp_path: Path) -> None:
    document = {**TINY, "run": {"steps": 100_000, "checkpoint_steps": 0, "checkpoint_minutes": 0.0, "log_steps": 1}}
    path = tmp_path / "recipe.toml"
    path.write_text(to_toml(document))
    command = [sys.executable, "-m", "reducio_codec", "train", str(path), "--data", str(videos), "--out", "run"]
    terminated_step(command, cwd=tmp_path)


def test_a_loss_that_is_not_finite_names_its_clips(
    recipe: Make, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ClipLoss.forward

    def broken(self: Any, batch: Any, *args: Any) -> Any:
        outcome = real(self, batch, *args)
        return outcome if batch.step < 3 else replace(outcome, loss=outcome.loss * float("nan"))

    monkeypatch.setattr(ClipLoss, "forward", broken)
    with pytest.raises(ReducioError, match=r"isn't finite at step 3; its clips: v\d\.mkv \(frame \d+\), v\d\.mkv"):
        train(recipe(run={"steps": 9}), data=videos, val=None, out=tmp_path / "run", cache=tmp_path / "cache")
    folder = Checkpoints(tmp_path / "run").find()
    assert folder is not None and folder.name == "step-00000002"


def test_a_full_disk_keeps_the_last_good_checkpoint(
    recipe: Make, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = loop.write_state

    def full(session: Any, folder: Path) -> None:
        real(session, folder)
        if session.position.step > 2:
            raise OSError(28, "No space left on device", str(folder))

    monkeypatch.setattr(loop, "write_state", full)
    with pytest.raises(ReducioError, match=r"no space left.*step-00000002 is kept"):
        train(recipe(run={"steps": 6}), data=videos, val=None, out=tmp_path / "run", cache=tmp_path / "cache")
    monkeypatch.setattr(loop, "write_state", real)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000002"]
    report = train(recipe(run={"steps": 6}), data=videos, val=None, out=tmp_path / "run", cache=tmp_path / "cache")
    assert report.step == 6


def test_a_frozen_encoder_keeps_its_latents(recipe: Make, videos: Path, tmp_path: Path) -> None:
    """Decoder "none" is added to a model that has none: same latents to the bit, and only it has changed."""
    cache = tmp_path / "cache"
    first = recipe(model={"decoders": ["linear"]}, export={"dtype": "float32"})
    train(first, data=videos, val=None, out=tmp_path / "a", cache=cache)
    second = recipe(
        start={"flow": False, "flow_clips": 288, "weights": str(tmp_path / "a")},
        loss={"rate": 0.0},  # nothing that learns could lower it
        train={"freeze": ["encoder"], "decoders": ["none"]},
        export={"dtype": "float32"},
    )
    train(second, data=videos, val=None, out=tmp_path / "b", cache=cache)
    before, after = (ReducioCodec.from_pretrained(tmp_path / name / "model") for name in ("a", "b"))
    clip = torch.randint(0, 255, (16, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(before.encode(clip)[0], after.encode(clip)[0])
    old, new = before.model.state_dict(), after.model.state_dict()  # type: ignore[attr-defined]
    assert all(torch.equal(old[key], new[key]) for key in old)
    assert after.decoders == ("linear", "none")
    assert after.latent_hash == before.latent_hash  # files of the one are files of the other


def test_another_recipe_in_the_same_folder_is_refused(recipe: Make, videos: Path, tmp_path: Path) -> None:
    out, cache = tmp_path / "run", tmp_path / "cache"
    train(recipe(run={"steps": 1}), data=videos, val=None, out=out, cache=cache)
    with pytest.raises(InputError, match=r"another recipe \(optimizer\.learning_rate: 0\.001 -> 0\.5\)"):
        train(recipe(optimizer={"learning_rate": 0.5}), data=videos, val=None, out=out, cache=cache)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="isn't empty and holds no run"):
        train(recipe(), data=videos, val=None, out=tmp_path / "other", cache=cache)


def test_profile_saves_nothing(recipe: Make, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CodecTask, "profile_steps", 2)
    report = train(recipe(), data=videos, val=None, out=tmp_path / "run", cache=tmp_path / "cache", profile=True)
    assert {"wait for clips", "forward", "backward", "update"} <= report.profile.keys()
    assert not (tmp_path / "run").exists()


def test_an_interrupted_run_gives_its_model(recipe: Make, videos: Path, tmp_path: Path) -> None:
    out, cache = tmp_path / "first", tmp_path / "cache"
    with pytest.raises(InputError, match="first has no checkpoint"):
        train(recipe(), data=videos, val=None, out=out, cache=cache, export=True)
    assert not out.exists()
    train(recipe(run={"steps": 2}), data=videos, val=None, out=out, cache=cache)
    shutil.rmtree(out / "model")  # as if it were interrupted there
    with pytest.raises(WeightsError, match=r"first holds a run that isn't finished; .*--export"):
        ReducioCodec.from_pretrained(out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    report = train(recipe(run={"steps": 6}), data=videos, val=None, out=out, cache=cache, export=True)
    assert report.model == out / "model" and report.step == 2
    assert {path: path.read_bytes() for path in before} == before
    codec = ReducioCodec.from_pretrained(out)
    assert codec.model_id == "first" and codec.decoders == ("linear", "none")
    assert "# first\n" in (out / "model" / "README.md").read_text()
    average = load_file(next((out / "checkpoints").iterdir()) / "ema.safetensors")
    found = {key: torch.allclose(value, average[key], atol=1e-3) for key, value in codec.model.state_dict().items()}
    assert sum(found.values()) > 0.8 * len(found)  # around the latent they are scaled, to unit variance
    assert train(recipe(run={"steps": 6}), data=videos, val=None, out=out, cache=cache).step == 6
