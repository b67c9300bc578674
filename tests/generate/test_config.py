"""Configurations: the presets' sizes, and values that are refused."""

from __future__ import annotations

import pytest
import torch

from reducio_codec.errors import InputError
from reducio_codec.generate import PRESETS, DiTConfig, ReducioDiT, preset
from reducio_codec.generate.buckets import buckets, nearest_bucket


def test_dit_xl_has_the_papers_size() -> None:
    # The paper says 1.2 B "in total", not what is in it. These parts and OpenCLIP's ViT-H picture half (632 M) come to
    # 1.28 B; Flan-T5-XXL can't be in it.
    with torch.device("meta"):
        model = ReducioDiT(PRESETS["256"])
    config = model.config
    assert (config.depth, config.width, config.heads, config.patch_space) == (28, 1152, 16, 1)
    parts = model.parameter_counts()
    assert {name: round(count / 1e6, 1) for name, count in parts.items()} == {
        "transformer": 607.0,
        "content_encoder": 30.5,
        "condition_layers": 9.4,
    }
    assert sum(parts.values()) == sum(parameter.numel() for parameter in model.parameters())


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
    assert 20e6 < count < 30e6  # at most 60 MB as float16
    assert not PRESETS["lite"].text_channels and not PRESETS["lite"].uses_semantic


@pytest.mark.parametrize("name", PRESETS)
def test_json_both_ways(name: str) -> None:
    assert DiTConfig.from_json(PRESETS[name].to_json()) == PRESETS[name]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"depth": 0}, "depth is 0"),
        ({"width": 100}, "width is 100"),
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
        ({"colour": 3}, "colour"),
    ],
)
def test_wrong_values_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError) as caught:
        preset("256", **changes)
    assert words in str(caught.value)


def test_unknown_preset() -> None:
    with pytest.raises(InputError, match="allowed: 256, 512, 1024, lite"):
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
