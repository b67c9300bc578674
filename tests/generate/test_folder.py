"""A transformer's folder, and which codec it belongs to."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from reducio_codec.codec import ReducioCodec
from reducio_codec.errors import InputError, WeightsError
from reducio_codec.generate import (
    ReducioDiT,
    ReducioDiTPipeline,
    latent_space_id,
    load_dit,
    save_dit,
)
from reducio_codec.weights.io import load_model, save_model
from tests.generate.conftest import CARD, MODEL, SaveDit, awake, toy_codec


def test_a_saved_transformer_comes_back(tmp_path: Path) -> None:
    model = awake(ReducioDiT(MODEL))
    loaded = load_dit(save_dit(model, tmp_path / "a", card=CARD))
    assert loaded.config == MODEL and not loaded.training
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    half = load_dit(save_dit(model, tmp_path / "b", card=CARD, dtype=torch.float16), dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16


def test_a_folder_that_does_not_say_is_of_the_first_models(tmp_path: Path) -> None:
    folder = save_dit(awake(ReducioDiT(replace(MODEL, embeddings="first"))), tmp_path / "a", card=CARD)
    document = json.loads((folder / "config.json").read_text())
    del document["embeddings"], document["place_reach"]
    (folder / "config.json").write_text(json.dumps(document))
    assert load_dit(folder).config.embeddings == "first"


def test_damaged_folders(dit_folder: SaveDit, tmp_path: Path) -> None:
    folder = dit_folder()
    config, weights = folder / "config.json", folder / "model.safetensors"
    good_config, good = config.read_text(), load_file(weights)
    for change, words in (
        ({"architecture": "lite"}, "a codec (lite)"),
        ({"architecture": "unet"}, "'unet'"),
        ({"format": 99}, "format is 99"),
        ({"depth": 0}, "depth is 0"),
        ({"colour": 1}, "unknown key 'colour'"),
        ({"depth": 5}, "blocks.4."),
    ):
        config.write_text(json.dumps({**json.loads(good_config), **change}))
        with pytest.raises(WeightsError) as caught:
            load_dit(folder)
        assert words in str(caught.value)
    config.write_text(good_config)
    save_file({**good, "more": torch.zeros(1)}, weights)
    with pytest.raises(WeightsError, match="more isn't part"):
        load_dit(folder)
    save_file({**good, "patch_in.bias": torch.zeros(3)}, weights)
    with pytest.raises(WeightsError, match=r"patch_in.bias has shape \(3,\)"):
        load_dit(folder)
    weights.write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="damaged"):
        load_dit(folder)
    with pytest.raises(WeightsError, match="sha256"):
        load_dit(folder, expected_sha256="0" * 64)
    weights.unlink()
    with pytest.raises(WeightsError, match=r"has no model\.safetensors"):
        load_dit(folder)
    with pytest.raises(WeightsError, match=r"has no config\.json"):
        load_dit(tmp_path)


def test_latent_space_is_the_encoders(tmp_path: Path, codec: ReducioCodec) -> None:
    """Other decoders, or fewer, share it; another encoder doesn't."""
    network = toy_codec(0)
    own = latent_space_id(network)
    assert own == latent_space_id(codec.model) and len(own) == 16
    with torch.no_grad():
        for parameter in network.decoders.parameters():
            parameter.add_(1)
    assert latent_space_id(network) == own
    fewer, _ = load_model(save_model(network, tmp_path / "codec", card=CARD), decoders=("none",))
    assert latent_space_id(fewer) == own  # type: ignore[arg-type]
    with torch.no_grad():
        next(network.encoder.parameters()).view(-1)[0] += 1e-3
    assert latent_space_id(network) != own
    assert latent_space_id(toy_codec(1)) != own


def test_a_codec_for_reduced_precision_cannot_be_identified() -> None:
    network = toy_codec(0)
    network.optimized_dtype = torch.bfloat16  # type: ignore[assignment]
    with pytest.raises(InputError, match="reduced precision"):
        latent_space_id(network)


def test_a_codec_that_does_not_belong(dit_folder: SaveDit, other_codec_folder: Path, codec_folder: Path) -> None:
    folder = dit_folder(codec="reducio-lite")
    with pytest.raises(WeightsError, match="They don't belong together") as caught:
        ReducioDiTPipeline.from_pretrained(folder, codec=other_codec_folder)
    assert "of the codec 'reducio-lite'" in str(caught.value)
    with pytest.raises(WeightsError, match="They don't belong together"):
        ReducioDiTPipeline(load_dit(folder), ReducioCodec.from_pretrained(other_codec_folder))
    with pytest.raises(WeightsError, match="has latent_channels 16; this transformer was made for 8"):
        ReducioDiTPipeline.from_pretrained(dit_folder("eight", latent_channels=8), codec=codec_folder)
    with pytest.raises(InputError, match="names no codec"):
        ReducioDiTPipeline.from_pretrained(dit_folder("nameless", codec=""))


def test_names() -> None:
    with pytest.raises(WeightsError, match="no model 'reducio-dit-tiny'"):
        ReducioDiTPipeline.from_pretrained("reducio-dit-tiny")
    with pytest.raises(WeightsError, match=r"a codec \(lite\)"):
        ReducioDiTPipeline.from_pretrained("reducio-lite")
