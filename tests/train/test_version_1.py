"""Weights of the small model's first version, which this one was made from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from reducio_codec.config import LiteConfig
from reducio_codec.models.lite.model import ReducioLite
from reducio_codec.train.packed.parts import load_weights
from reducio_codec.train.packed.version_1 import from_version_1, is_version_1
from tests.models.test_lite import WIDTHS, moving_clip, references

GOLDEN = Path(__file__).parent / "golden" / "version_1.npz"
"""What that version's classes made of ``weights()`` and a moving clip: some pixels of ``warp`` from one reference (one), of
``bidirectional`` from three (two), of ``none``; the latent; and the names and shapes of its tensors."""


def weights() -> dict[str, Tensor]:
    """A state dict of that version, the same on every machine."""
    shapes: dict[str, list[int]] = json.loads(str(np.load(GOLDEN)["shapes"]))
    rng = np.random.RandomState(0)
    state = {}
    for key, shape in shapes.items():
        size = 0.5 * np.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.05
        values = rng.standard_normal(shape) * size
        state[key] = torch.from_numpy(np.abs(values) + 0.5 if key == "latent_std" else values).float()
    # what it searched in the second reference has no heir: left out
    added = "decoders.bidirectional."
    state[f"{added}in_8.weight"][:, [8 + 2, 8 + 3, 8 + 9]] = 0
    state[f"{added}flow_8.weight"][1] = 0
    state[f"{added}flow_8.bias"][1] = -1e4
    return state


@torch.no_grad()
def test_they_do_here_what_they_did_there() -> None:
    state = weights()
    model = ReducioLite(LiteConfig(**WIDTHS, decoders=("attention", "none"))).eval()
    model.load_state_dict(from_version_1(state, model))
    clip, golden = moving_clip(64, 64), np.load(GOLDEN)
    one, three = references(clip, (7,)), references(clip, (-9, 7, 23))
    latent = torch.from_numpy(golden["latent"])
    assert torch.allclose(model.latent(model.encode(clip, references=one).mode()), latent, atol=1e-3)
    for name, items, decoder in (("one", one, "attention"), ("two", three, "attention"), ("none", [], "none")):
        found = model.decode(latent, items, decoder=decoder)[..., 3::16, 3::16]
        assert torch.allclose(found, torch.from_numpy(golden[name]).float(), atol=2e-3), name
    assert np.abs(golden["two"].astype(float) - golden["one"]).max() > 0.1


def test_a_training_starts_from_their_folder(tmp_path: Path) -> None:
    save_file(weights(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "lite", **WIDTHS, "decoders": ["warp", "none"]}))
    (tmp_path / "entropy.json").write_text(json.dumps({"multipliers": [512] * 16}))
    model, widths = load_weights(tmp_path)
    assert model.decoder_names == ("attention", "add", "linear", "none", "sharp")
    assert widths.tolist() == [0.5] * 16
    state = weights()
    assert is_version_1(state) and not is_version_1(model.state_dict())
    for key, old in (
        ("encoder.fold.weight", "encoder.fold.weight"),
        ("code.flow_out.weight", "decoders.warp.flow_out.weight"),
        ("trunk.unfold.bias", "decoders.warp.trunk.unfold.bias"),
        ("decoders.attention.out_4.weight", "decoders.warp.out_4.weight"),
        ("decoders.add.second.out_4.weight", "decoders.bidirectional.out_4.weight"),
        ("decoders.none.in_8.weight", "decoders.none.in_8.weight"),
    ):
        assert torch.equal(model.state_dict()[key], state[old]), key
    assert not model.decoders["linear"].out_4.weight.any()  # that version had nothing like it


@pytest.mark.parametrize("key", ["encoder.fold.weight", "decoders.warp.flow_out.weight"])
def test_a_tensor_that_is_missing(key: str) -> None:
    state = weights()
    del state[key]
    with pytest.raises(KeyError, match=key):
        from_version_1(state, ReducioLite(LiteConfig(**WIDTHS)))
