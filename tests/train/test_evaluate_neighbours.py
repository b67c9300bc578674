"""The command behind the figures of two references against one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from reducio_codec.config import LiteConfig
from reducio_codec.measure.evaluate_neighbours import join_summary, main
from reducio_codec.metrics.over_time import changes
from reducio_codec.models.lite.model import ReducioLite
from reducio_codec.weights.io import save_model
from tests.helpers import moving_video


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = LiteConfig(channels_4=8, channels_8=8, channels_16=4, channels_32=16, decoders=("linear", "attention"))
    model = ReducioLite(config)
    torch.nn.init.zeros_(model.code.flow_out.weight)
    return save_model(model, tmp_path / "model", card="---\nlicense: mit\n---\n")


def test_figures_of_two_references(model: Path, videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    command = [str(model), "--data", str(videos), "--cache", str(tmp_path / "cache"), "--out", str(out)]
    options = ["--clips", "2", "--side", "64", "--effort", "4", "--strips", str(tmp_path / "s")]
    done = CliRunner().invoke(main, [*command, *options])
    assert done.exit_code == 0, done.output
    pictures = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "s").iterdir())]
    assert len(pictures) == 3 and all(picture.shape == (3 * (22 + 128), 8 * 128, 3) for picture in pictures)
    found = json.loads(out.read_text())
    assert found["sequences"] == 3 and found["decoder"] == "attention"
    psnr = found["psnr between key frames"]["all"]
    assert psnr["raw, 2 references"] == psnr["raw, 1 reference"] == psnr["copy"]  # it repeats the key frame
    assert psnr["coded, 1 reference"] != psnr["raw, 1 reference"]
    assert psnr["coded, 2 references, effort 4"] == psnr["coded, 1 reference"]  # which no latent can change
    bits = found["latent kbit"]
    assert bits["coded, 2 references, effort 4"] < bits["coded, 2 references"] == bits["coded, 1 reference"] > 0
    source = found["joins"]["source"]
    assert source["at joins, over source"] == 1.0 and 0.5 < source["at joins"] / source["elsewhere"] < 2
    repeated = found["joins"]["raw, 1 reference"]
    assert repeated["at joins"] > source["at joins"] and repeated["elsewhere"] == 0.0  # it moves at joins alone
    done = CliRunner().invoke(main, [*command, "--clips", "4"])
    assert done.exit_code == 2 and "no scene" in done.output


def test_a_jump_at_a_join_is_seen() -> None:
    smooth = moving_video(32, 48, 64)
    jumping = smooth.copy()
    jumping[16:] = np.clip(jumping[16:].astype(int) + 20, 0, 255)
    joins, elsewhere = changes(jumping, joins=[16])
    assert joins > changes(smooth, joins=[16])[0] + 10 and elsewhere == pytest.approx(
        changes(smooth, joins=[16])[1], abs=0.5
    )
    table = join_summary([{"source": changes(smooth, joins=[16]), "jumping": (joins, elsewhere)}])
    assert table["jumping"]["at joins, over source"] > 1.5 and table["source"]["at joins, over source"] == 1.0
