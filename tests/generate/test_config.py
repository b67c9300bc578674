"""Configurations: the presets' sizes, and values that are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from reducio_codec.errors import InputError
from reducio_codec.generate import PRESETS, DiTConfig, ReducioDiT, preset
from reducio_codec.generate.buckets import buckets, nearest_bucket
from reducio_codec.generate.train.task import PICTURE_ENCODER_M, parameters_in_words


def test_dit_xl_has_the_papers_size_and_its_card_says_so() -> None:
    """Counted on the meta device, the picture encoder beside it, too. Flan-T5-XXL (4.8 B) can't be in the paper's number."""
    open_clip = pytest.importorskip("open_clip", reason="open_clip_torch isn't installed (extra [generate])")
    with torch.device("meta"):
        model = ReducioDiT(PRESETS["256"])
        pictures = open_clip.model.CLIP(**_arguments(open_clip.get_model_config("ViT-H-14"))).visual
    config = model.config
    assert (config.depth, config.width, config.heads, config.patch_space) == (28, 1152, 16, 1)
    parts = model.parameter_counts()
    assert {name: round(count / 1e6, 1) for name, count in parts.items()} == {
        "transformer": 605.3,
        "content_encoder": 35.2,
        "condition_layers": 9.9,
    }
    total = sum(parameter.numel() for parameter in model.parameters())
    assert sum(parts.values()) == total
    encoder = sum(parameter.numel() for parameter in pictures.parameters())
    assert round(encoder / 1e6) == PICTURE_ENCODER_M
    words = parameters_in_words(model)
    assert f"{total / 1e6:.1f} M parameters: transformer 605.3, content encoder 35.2, condition layers 9.9" in words
    assert "1.2 B in total" in words and f"are {(total + encoder) / 1e9:.2f} B" in words
    with torch.device("meta"):
        assert "1.2 B" not in parameters_in_words(ReducioDiT(PRESETS["lite"]))


def _arguments(config: dict[str, Any]) -> dict[str, Any]:
    return {name: config[name] for name in ("embed_dim", "vision_cfg", "text_cfg")}


def test_stages_share_their_weights() -> None:
    """A stage of training goes on from the one before: the same keys and shapes."""
    with torch.device("meta"):
        shapes = [
            {key: value.shape for key, value in ReducioDiT(PRESETS[name]).state_dict().items()}
            for name in ("256", "512", "1024")
        ]
    assert shapes[0] == shapes[1] == shapes[2]


def test_lite_is_small_enough_to_ship() -> None:
    with torch.device("meta"):
        count = sum(ReducioDiT(PRESETS["lite"]).parameter_counts().values())
        small = sum(ReducioDiT(PRESETS["small"]).parameter_counts().values())
    assert 20e6 < count < 30e6  # at most 60 MB as float16
    assert not PRESETS["lite"].text_channels and not PRESETS["lite"].uses_semantic
    assert small < 15e6  # at most 30 MB


@pytest.mark.parametrize("name", PRESETS)
def test_json_both_ways(name: str) -> None:
    assert DiTConfig.from_json(PRESETS[name].to_json()) == PRESETS[name]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"depth": 0}, "depth is 0"),
        ({"width": 100}, "width is 100"),
        ({"width": 128}, "width is 128; with embeddings 'pixart' it must be a multiple of 3"),
        ({"embeddings": "learned"}, "embeddings is 'learned'; allowed: pixart, first"),
        ({"embeddings": "first", "place_reach": 32}, "place_reach is 32; with embeddings 'first' it has no effect"),
        ({"attention": "axial"}, "attention is 'axial'; allowed: joint, factorised"),
        ({"image_condition": "none"}, "image_condition is 'none'; allowed: both, semantic, content"),
        ({"objective": "v"}, "objective is 'v'; allowed: noise, flow"),
        ({"content_groups": 2}, "content_groups is 2; allowed: 1, 4"),
        ({"patch_time": 3}, "patch_time is 3"),
        ({"sample_size": 250}, "sample_size is 250"),
        ({"semantic_channels": 0}, "semantic_channels is 0"),
        ({"text_tokens": 0}, "text_tokens is 0"),
        ({"content_base": 33}, "content_base is 33"),
        ({"condition_dropout": 1.0}, "condition_dropout is 1.0"),
        ({"temporal_compression_ratio": 3}, "temporal_compression_ratio is 3"),
        ({"content_at": "place"}, "content_at is 'place'; image_condition is 'both' and text_channels 4096"),
        ({"content": "alexnet", "content_base": 64}, "content_base is 64; with content 'alexnet' it has no effect"),
        ({"motion_unit": -1.0}, "motion_unit is -1.0"),
        ({"control_dropout": 0.1}, "control_dropout is 0.1, but motion_unit is 0; it has no effect"),
        ({"default_steps": 0}, "default_steps is 0"),
        ({"default_guidance": -1.0}, "default_guidance is -1.0"),
        (
            {"motion_quantiles": (0.1, 9.0), "motion_unit": 5.0},
            "motion_quantiles is (0.1, 9.0); allowed: two numbers or more",
        ),
        ({"motion_quantiles": (0.5, 0.1), "motion_unit": 5.0}, "in ascending order"),
        ({"motion_quantiles": (0.5,), "motion_unit": 5.0}, "two numbers or more"),
        ({"motion_quantiles": ("a", "b"), "motion_unit": 5.0}, "two numbers or more"),
        ({"motion_quantiles": (0.1, 1.0), "motion_unit": 0.0}, "but motion_unit is 0"),
        ({"shift": 3.0}, "shift is 3.0; it must be 1 unless objective is 'flow'"),
        ({"channel_gain": (1.0,)}, "channel_gain has 1 numbers; it must be empty, or have 16"),
        ({"channel_gain": ("1",) * 16}, "channel_gain has '1'; it must be numbers"),
        ({"colour": 3}, "colour"),
    ],
)
def test_wrong_values_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError) as caught:
        preset("256", **changes)
    assert words in str(caught.value)


def test_unknown_preset() -> None:
    with pytest.raises(InputError, match="allowed: 256, 512, 1024, lite, small"):
        preset("2048")


def test_buckets() -> None:
    large = buckets(1024)
    assert len(large) == 40 and (1024, 1024) in large and (512, 2048) in large and (1664, 576) in large
    assert buckets(512) == tuple((height // 2, width // 2) for height, width in large)
    for size in (256, 512, 1024):
        assert all(height % 32 == width % 32 == 0 for height, width in buckets(size))
    assert nearest_bucket(1080, 1920, sample_size=1024) == (768, 1344)
    assert nearest_bucket(100, 100, sample_size=512) == (512, 512)
    assert nearest_bucket(9000, 1, sample_size=1024) == (2048, 512)
    with pytest.raises(InputError, match="sample_size is 100"):
        buckets(100)
