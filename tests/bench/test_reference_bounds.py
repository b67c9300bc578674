"""Bounds of two references: the oracle's choice, and that neither an untrained decoder nor refinement is miscounted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from bench.reference_bounds import best_of, main, measure, psnr
from bench.summaries import summary
from reducio_codec import ReducioCodec
from reducio_codec.config import LiteConfig
from reducio_codec.models.lite.model import ReducioLite
from reducio_codec.weights.io import save_model
from tests.bench.fakes import video_folder
from tests.helpers import moving_video


def tiny() -> ReducioLite:
    torch.manual_seed(0)
    config = LiteConfig(channels_4=8, channels_8=8, channels_16=4, channels_32=16, decoders=("attention",))
    return ReducioLite(config).eval().requires_grad_(False)


def test_the_oracle_takes_the_nearest_of_each_block() -> None:
    source = torch.zeros(1, 3, 16, 16)
    left, right = source.clone(), source.clone()
    left[..., :8] = 1
    right[..., 8:] = 1
    assert best_of([left, right], source, block=8) == pytest.approx(80)
    assert best_of([left, right], source, block=16) == pytest.approx(psnr(torch.tensor(0.5)))
    assert psnr(torch.tensor(4.0)) == pytest.approx(0, abs=1e-6)


def test_a_sequence() -> None:
    codec = ReducioCodec(tiny(), dtype=torch.float32)
    found = measure(codec, moving_video(48, 64, 64), quality=60, step=0.5, effort=2)
    assert found["2 references"] == found["1 reference"]  # untrained, it changes nothing
    for motion in ("found", "true"):
        values = [found[f"oracle, {motion} motion, blocks of {block}"] for block in (32, 16, 8)]
        assert found["1 reference"] <= values[0] <= values[1] <= values[2]
    assert found["1 reference, effort 2"] != found["1 reference"] and found["2 references, effort 2, latent kbit"] > 0


def test_as_a_command_and_a_table(tmp_path: Path) -> None:
    save_model(tiny(), tmp_path / "model", card="---\nlicense: mit\n---\n")
    video_folder(tmp_path / "videos", {"a.mp4": 48, "b.mp4": 48, "c.mp4": 48}, height=64, width=96)
    arguments = ["--model", str(tmp_path / "model"), "--data", str(tmp_path / "videos"), "--cache", str(tmp_path / "cache"),
                 "-o", str(tmp_path / "bounds.json"), "--side", "64", "--effort", "0"]  # fmt: skip
    done = CliRunner().invoke(main, [*arguments, "--every", "2"])
    assert done.exit_code == 2 and "at least 3 sequences, there are 2" in done.output
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    said, (rows,) = summary(tmp_path / "bounds.json")
    groups = json.loads((tmp_path / "bounds.json").read_text())["groups"]
    assert "3 sequences" in said and [row[0] for row in rows[1:4]] == [
        "repeat the key frame",
        "1 reference",
        "2 references",
    ]
    assert rows[2][1] == f"{groups['all']['1 reference']:.2f}" and rows[2][5] == f"{groups['all']['latent kbit']:.1f}"
