"""Key frames side by side: the right frame of each clip is the key frame, and all bytes are counted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.sparse_keyframes import code
from bench.summaries import summary
from reducio_codec import ReducioCodec
from reducio_codec.config import LiteConfig
from reducio_codec.errors import InputError
from reducio_codec.metrics.psnr import psnr
from reducio_codec.models.lite.model import ReducioLite
from reducio_codec.rdc.keyframe import code_keyframes
from tests.helpers import moving_video


@pytest.mark.parametrize("places", [(7, 7), (15, 0)])
def test_a_model_that_repeats_key_frames(places: tuple[int, int]) -> None:
    torch.manual_seed(0)
    config = LiteConfig(channels_4=8, channels_8=8, channels_16=4, channels_32=16, decoders=("attention",))
    model = ReducioLite(config)
    torch.nn.init.zeros_(model.code.flow_out.weight)
    frames = moving_video(32, 64, 64)
    codec = ReducioCodec(model.eval().requires_grad_(False), dtype=torch.float32)
    found = code(codec, frames, places=places, quality=60, step=0.5)
    coded, seen = code_keyframes([frames[places[0]], frames[16 + places[1]]], codec="avif", quality=60)
    assert found["psnr"] == pytest.approx(psnr(frames, np.repeat(np.stack(seen), 16, 0)), abs=1e-6)
    assert found["key frame kbit"] == pytest.approx(sum(map(len, coded)) * 8 / 1000 / 2)
    assert found["latent kbit"] > 0


def test_as_a_table(tmp_path: Path) -> None:
    point = {
        "layout": "every 16 frames",
        "quality": 20,
        "psnr": 28.7,
        "key frame kbit": 5.5,
        "latent kbit": 7.8,
        "bpp": 0.0127,
    }
    data = {"protocol": "sparse-keyframes/1", "model": "abc", "sequences": 9, "clips of a sequence": 4, "side": 256,
            "step": 0.5, "points": [point]}  # fmt: skip
    path = tmp_path / "sparse.json"
    path.write_text(json.dumps(data))
    said, (rows,) = summary(path)
    assert "9 sequences of 4 clips" in said
    assert rows[1] == ["every 16 frames", "20", "28.70", "5.5", "7.8", "0.0127"]
    path.write_text(json.dumps({**data, "points": [{}]}))
    with pytest.raises(InputError, match="damaged"):
        summary(path)
