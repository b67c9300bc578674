"""The recipe of the 2-D baseline through the whole loop, at a toy width: its folder is a model that the codec loads."""

from __future__ import annotations

from pathlib import Path

import torch

from reducio_codec import ReducioCodec
from reducio_codec.train.recipe import read_recipe
from reducio_codec.train.task import train
from tests.helpers import moving_video

SMALL = [
    "model.channel_multipliers=[1, 1, 1, 1]",
    "run.minutes=0.0",
    "run.steps=3",
    "run.precision=float32",  # accelerate allows one precision in a process, and other tests have this one
    "data.workers=0",
    "validation.side=64",
    "validation.clips=2",
]


def test_it_trains_and_loads(videos: Path, tmp_path: Path) -> None:
    report = train(read_recipe("image-vae", changes=SMALL), data=videos, val=videos, out=tmp_path / "run")
    assert report.step == 3 and report.model == tmp_path / "run" / "model"
    assert report.validation is not None and list(report.validation.decoders) == ["none"]
    clip = moving_video(16, 64, 64, seed=0)
    for dtype in (torch.float32, torch.bfloat16):
        codec = ReducioCodec.from_pretrained(report.model, dtype=dtype)
        latent, keyframe = codec.encode(clip)
        assert latent.shape == (1, 4, 16, 8, 8)
        assert codec.decode(latent, keyframe, output="uint8").shape == (1, 16, 64, 64, 3)
