"""Every model of the paper's tables can be built; those with a published size have it."""

from __future__ import annotations

import pytest
import torch

from reducio_codec.models.reducio.presets import PRESETS, dead_parameters
from reducio_codec.models.reducio.vae import ReducioVAE
from tests.helpers import decode


def build(name: str) -> ReducioVAE:
    with torch.device("meta"):
        return ReducioVAE(PRESETS[name].config)


def millions(name: str) -> float:
    """Parameters as the paper counts them, content encoder and its unused tail included."""
    model = build(name)
    return (sum(p.numel() for p in model.parameters()) + dead_parameters(model.config)) / 1e6


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.parameters_m is not None])
def test_parameters_of_table_6(name: str) -> None:
    published = PRESETS[name].parameters_m
    assert published is not None
    assert millions(name) == pytest.approx(published, rel=0.01)


def test_table_6_has_four_rows_with_a_size() -> None:
    sizes = [preset.parameters_m for preset in PRESETS.values() if preset.parameters_m is not None]
    assert sorted(sizes) == [435, 437, 439, 450]


def test_the_published_models_have_their_exact_size() -> None:
    # reducio.md 2.2, less 14,336 (ft2: 16,384) fixed time embeddings, which are computed here
    assert round(millions("ft4-fs32") * 1e6) == 437_095_763 - 14_336
    assert round(millions("ft2-fs32") * 1e6) == 432_379_219 - 16_384


@pytest.mark.parametrize("name", PRESETS)
def test_shapes_on_the_meta_device(name: str) -> None:
    """Each model encodes and decodes a clip to the shapes that its compression ratios say."""
    model = build(name)
    config = model.config
    side = max(64, config.spatial_compression_ratio)
    video = torch.empty(1, 3, 16, side, side, device="meta")
    posterior = model.encode(video)
    frames, edge = 16 // config.temporal_compression_ratio, side // config.spatial_compression_ratio
    assert posterior.mean.shape == (1, config.latent_channels, frames, edge, edge)
    for decoder in model.decoder_names:
        decoded = decode(model, model.latent(posterior.mean), video[:, :, 0], decoder=decoder)
        assert decoded.shape == video.shape


def test_tables_are_covered() -> None:
    assert {table for preset in PRESETS.values() for table in preset.tables} >= {1, 4, 5, 6, 9, 10, 11}
