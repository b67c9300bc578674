"""Every value of every choice that a transformer's recipe has is trained for a step and validated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reducio_codec.generate.config import DiTConfig
from reducio_codec.generate.extract.extraction import extract
from reducio_codec.generate.extract.maker import Encoders
from reducio_codec.generate.extract.options import ExtractOptions
from reducio_codec.generate.train.recipe import DitRecipe, build_dit_recipe
from reducio_codec.generate.train.task import train_dit
from tests.choices import Settings, choices, to_document, together
from tests.generate.conftest import SEMANTIC_CHANNELS
from tests.helpers import moving_video
from tests.train.conftest import write_video

BASE: Settings = {"model.preset": "lite", "model.depth": 1, "model.width": 24, "model.heads": 2, "model.sample_size": 64,
                  "model.codec": "", "extract.size": 64, "data.batch": 1, "run.steps": 1, "run.log_steps": 1,
                  "validation.clips": 1, "validation.samples": 1, "validation.steps": 1}  # fmt: skip

_SEEN: Settings = {"model.semantic_channels": SEMANTIC_CHANNELS}
NEEDS: dict[tuple[str, Any], Settings] = {
    ("model.image_condition", "both"): _SEEN,
    ("model.image_condition", "semantic"): _SEEN,
    ("model.objective", "noise"): {"loss.timesteps": "uniform"},
    ("loss.timesteps", "logit-normal"): {"model.objective": "flow"},
    ("loss.weighting", "min-snr"): {"model.objective": "noise", "loss.timesteps": "uniform"},
    **{("model.content", kind): {"model.image_condition": "content"} for kind in ("sd", "conv")},
    ("model.content", "alexnet"): {"model.image_condition": "content", "model.content_base": 128},
    ("model.content_at", "attention"): {"model.image_condition": "content"},
    ("model.content_at", "place"): {"model.image_condition": "content", "model.content_groups": 1},
    ("model.content_groups", 1): {"model.image_condition": "content"},
    ("model.content_groups", 4): {"model.image_condition": "content", "model.content_at": "attention"},
}
"""What a value needs beside itself."""

CHOICES = [
    {name: [value] if many else value, **NEEDS.get((name, value), {})}
    for name, value, many in choices(DitRecipe, DiTConfig, named={})
    if not name.startswith("extract.")  # how shards were made
]
RUNS = together(CHOICES)


def test_no_choice_is_left_out() -> None:
    assert len({name for one in CHOICES for name in one}) > 10
    for one in CHOICES:
        assert any(one.items() <= run.items() for run in RUNS), one


@pytest.fixture(scope="module")
def seen_shards(codec_folder: Path, clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards that hold semantic tokens, too."""
    folder = tmp_path_factory.mktemp("seen")
    (folder / "videos").mkdir()
    write_video(folder / "videos" / "a.mkv", moving_video(20, 64, 64, seed=1))
    extract(
        folder / "videos",
        out=folder / "shards",
        options=ExtractOptions(size=64, distance=4, shard_samples=4),
        encoders=Encoders(codec=str(codec_folder), image_encoder=str(clip_folder)),
        cache=folder / "cache",
    )
    return folder / "shards"


@pytest.mark.parametrize("run", RUNS, ids=range(len(RUNS)))
def test_a_step_and_a_validation(run: Settings, seen_shards: Path, tmp_path: Path) -> None:
    recipe = build_dit_recipe(to_document({**BASE, **run}))
    report = train_dit(recipe, latents=[seen_shards], val=[seen_shards], out=tmp_path / "run")
    assert report.finished and report.step == 1 and report.values is not None and "val/motion" in report.values
