"""Starting from PixArt-alpha: a tiny transformer of diffusers, saved and loaded as a real one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from reducio_codec.errors import InputError, WeightsError
from reducio_codec.generate import ReducioDiT
from reducio_codec.generate.blocks import Block
from reducio_codec.generate.pixart_init import start_from_pixart
from tests.generate.conftest import MODEL, TEXT_CHANNELS

CONFIG = replace(MODEL, depth=2, width=32, heads=2, text_channels=TEXT_CHANNELS, text_tokens=8)


@pytest.fixture(scope="module")
def pixart(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    import diffusers

    torch.manual_seed(0)
    transformer = diffusers.PixArtTransformer2DModel(
        sample_size=32,
        num_layers=3,
        patch_size=2,
        attention_head_dim=16,
        num_attention_heads=2,
        caption_channels=TEXT_CHANNELS,
        cross_attention_dim=32,
        in_channels=4,
        out_channels=8,
        use_additional_conditions=False,
    )
    folder = tmp_path_factory.mktemp("pixart") / "transformer"
    transformer.save_pretrained(folder)
    return transformer.eval(), folder


def test_blocks_compute_what_pixarts_do(pixart: tuple[Any, Path]) -> None:
    reference, folder = pixart
    model = ReducioDiT(CONFIG).eval()
    untouched = model.patch_in.weight.clone()
    taken = start_from_pixart(model, folder)
    assert {"offset_out", "modulation.1.weight", "text_in.0.weight", "blocks.1.cross.kv.weight"} <= set(taken)
    assert torch.equal(model.patch_in.weight, untouched) and not any(key.startswith("content") for key in taken)
    x, told = torch.randn(2, 6, 32), torch.randn(2, 5, TEXT_CHANNELS)
    step = torch.tensor([3.0, 700.0])
    with torch.no_grad():
        modulation, embedded = reference.adaln_single(
            step, {"resolution": None, "aspect_ratio": None}, batch_size=2, hidden_dtype=torch.float32
        )
        tokens = reference.caption_projection(told)
        wanted = reference.transformer_blocks[1](x, encoder_hidden_states=tokens, timestep=modulation)
        ours = model.time(step, torch.tensor([[64, 64], [64, 64]]))
        torch.testing.assert_close(ours, embedded, atol=1e-5, rtol=1e-4)  # the size says nothing yet
        ours_modulation = model.modulation(ours).unflatten(1, (6, 32))
        block = cast(Block, model.blocks[1])
        key_value = block.cross.project(model.text_in(told))
        mask = torch.ones(2, 5, dtype=torch.bool)
        torch.testing.assert_close(block(x, ours_modulation, key_value, mask, times=1), wanted, atol=1e-5, rtol=1e-4)


def test_a_pipeline_folder_and_what_does_not_fit(pixart: tuple[Any, Path], tmp_path: Path) -> None:
    _, folder = pixart
    assert start_from_pixart(ReducioDiT(CONFIG), folder.parent) == start_from_pixart(ReducioDiT(CONFIG), folder)
    with pytest.raises(InputError, match="has width 32 and 2 heads; the model has 48 and 2"):
        start_from_pixart(ReducioDiT(replace(CONFIG, width=48)), folder)
    with pytest.raises(InputError, match="has 3 blocks; the model has 4"):
        start_from_pixart(ReducioDiT(replace(CONFIG, depth=4)), folder)
    with pytest.raises(WeightsError, match="Fetch the folder transformer of PixArt-alpha"):
        start_from_pixart(ReducioDiT(CONFIG), tmp_path, offline=True)
