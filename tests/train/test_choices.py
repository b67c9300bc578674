"""Every value of every choice that a recipe has is trained for a step and validated.

Choices are read from the dataclasses, so that a new one is tried without a line here. A run tries as many as go together.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from reducio_codec.config import LiteConfig, ReducioConfig
from reducio_codec.metrics import lpips
from reducio_codec.models.factory import describe_decoder
from reducio_codec.train.recipe import Recipe, build_recipe
from reducio_codec.train.task import train
from reducio_codec.training.run_log import read_log
from tests.choices import Settings, choices, to_document, together

ALL: Settings = {"run.steps": 1, "run.log_steps": 1, "data.workers": 0, "stages.side": 32, "stages.batch": 1,
                 "validation.side": 32, "validation.clips": 1, "export.table_clips": 1}  # fmt: skip
LITE: Settings = {**ALL, "model.architecture": "lite", "model.channels_4": 4, "model.channels_8": 4,
                  "model.channels_16": 4, "model.channels_32": 4, "model.decoders": ["linear", "none"],
                  "loss.kl": 0.0}  # fmt: skip
PAPER: Settings = {**ALL, "model.architecture": "reducio", "model.base_channels": 8, "model.depth": 1,
                   "model.channel_multipliers": [1] * 6, "model.content_channels": 8, "model.content_depth": 1,
                   "model.content_multipliers": [1] * 4, "model.norm_groups": 2}  # fmt: skip

NAMED: dict[type[Any], dict[str, tuple[Any, ...]]] = {
    LiteConfig: {"model.decoders": (*LiteConfig().decoders, "sharp")},
    ReducioConfig: {
        "model.temporal_compression_ratio": (1, 2, 4, 8, 16),
        "model.spatial_compression_ratio": (8, 16, 32, 64),
    },
}
"""Choices that a configuration checks by itself."""

NEEDS: dict[tuple[str, Any], Settings] = {
    ("data.crop", "area"): {"data.crop_range": [0.5, 1.0]},
    ("model.content_frame", "none"): {"model.decoders": ["none"]},
    ("model.conv", "2d"): {"model.temporal_compression_ratio": 1},
    ("model.conv", "image"): {"model.temporal_compression_ratio": 1, "model.content_frame": "none",
                              "model.decoders": ["none"]},
    ("train.freeze", "content"): {"model.content_frame": "middle"},
    ("train.freeze", "encoder"): {"start.weights": "reducio-test", "model.decoders": ["attention", "linear"],
                                   "keyframe.neighbours": True},
    **{("keyframe.codec", codec): {"keyframe.coded": 1.0} for codec in ("avif", "webp", "jpeg")},
    **{("model.spatial_compression_ratio", ratio): {"model.channel_multipliers": [1] * levels,
                                                    "stages.side": max(32, ratio), "validation.side": max(32, ratio)}
       for ratio, levels in ((8, 4), (16, 5), (32, 6), (64, 7))},
}  # fmt: skip
"""What a value needs beside itself."""


def settings(name: str, value: Any, many: bool, *, model: Any = LiteConfig) -> Settings:
    found = {name: [value] if many else value, **NEEDS.get((name, value), {})}
    for option in ("perceptual", "reconstruction"):  # a stage replaces the run's
        if name == f"loss.{option}":
            found[f"stages.{option}"] = ""
        elif name == f"stages.{option}" and value:
            found[f"loss.{option}"] = "none" if option == "perceptual" else "l1"
    if value == "lpips":
        found["loss.lpips_trunk"] = "TRUNK"
    if name == "model.decoders":
        found["keyframe.neighbours"] = describe_decoder(model(), value).uses_neighbours
    return found


def for_lite(name: str, value: Any) -> bool:
    return (name, value) != ("train.freeze", "content")  # its decoders have a content encoder each


OF_LITE = [
    settings(*choice) for choice in choices(Recipe, LiteConfig, named=NAMED[LiteConfig]) if for_lite(*choice[:2])
]
OF_PAPER = [
    settings(*choice, model=ReducioConfig)
    for choice in choices(Recipe, ReducioConfig, named=NAMED[ReducioConfig])
    if choice[0].startswith("model.") or not for_lite(*choice[:2])
]
RUNS = [{**LITE, **run} for run in together(OF_LITE)] + [{**PAPER, **run} for run in together(OF_PAPER)]


def test_no_choice_is_left_out() -> None:
    tried = {(key, str(value)) for run in RUNS for key, value in run.items()}
    for model in (LiteConfig, ReducioConfig):
        for name, value, many in choices(Recipe, model, named=NAMED[model]):
            wanted = settings(name, value, many, model=model)[name]
            assert (name, str(wanted)) in tried, f"{name} = {value!r} is tried by no run"
    assert len({name for name, _ in tried}) > 30


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("choices")


@pytest.fixture
def trunk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """VGG's layers with random weights: the real ones aren't needed to see that a step goes through."""
    path = tmp_path / "vgg16-397923af.pth"
    layers = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"])
    torch.save(layers.state_dict(prefix="features."), path)
    monkeypatch.setitem(lpips.TRUNKS, "vgg", (path.name, hashlib.sha256(path.read_bytes()).hexdigest()))
    return path


@pytest.mark.parametrize("run", RUNS, ids=[f"{run['model.architecture']}-{number}" for number, run in enumerate(RUNS)])
def test_a_step_and_a_validation(run: Settings, videos: Path, cache: Path, tmp_path: Path, request: Any) -> None:
    given = {key: str(request.getfixturevalue("trunk")) if value == "TRUNK" else value for key, value in run.items()}
    document = to_document(given)
    recipe = build_recipe({**document, "stages": [document["stages"]]})
    report = train(recipe, data=videos, val=videos, out=tmp_path / "run", cache=cache)
    assert report.finished and report.step == 1 and report.validation is not None
    logged = read_log(tmp_path / "run" / "log.jsonl")
    assert any("loss" in line for line in logged) and any("val/copy" in line for line in logged)
