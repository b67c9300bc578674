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
from reducio_codec.generate.embeddings import first_place_codes, place_codes
from reducio_codec.generate.pixart_init import start_from_pixart
from tests.generate.conftest import MODEL, TEXT_CHANNELS

CONFIG = replace(MODEL, depth=2, width=48, heads=2, text_channels=TEXT_CHANNELS, text_tokens=8)


def save_transformer(folder: Path, *, sample_size: int = 32) -> Any:
    import diffusers

    torch.manual_seed(0)
    transformer = diffusers.PixArtTransformer2DModel(
        sample_size=sample_size,
        num_layers=3,
        patch_size=2,
        attention_head_dim=24,
        num_attention_heads=2,
        caption_channels=TEXT_CHANNELS,
        cross_attention_dim=48,
        in_channels=4,
        out_channels=8,
        use_additional_conditions=sample_size == 128,
    )
    transformer.save_pretrained(folder)
    return transformer.eval()


@pytest.fixture(scope="module")
def pixart(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("pixart") / "transformer"
    return save_transformer(folder), folder


def test_blocks_compute_what_pixarts_do(pixart: tuple[Any, Path]) -> None:
    reference, folder = pixart
    model = ReducioDiT(CONFIG).eval()
    untouched = model.patch_in.weight.clone()
    started = start_from_pixart(model, folder)
    assert {"offset_out", "modulation.1.weight", "text_in.0.weight", "blocks.1.cross.kv.weight"} <= set(started.taken)
    assert torch.equal(model.patch_in.weight, untouched)
    x, told = torch.randn(2, 6, 48), torch.randn(2, 5, TEXT_CHANNELS)
    step = torch.tensor([3.0, 700.0])
    with torch.no_grad():
        modulation, embedded = reference.adaln_single(
            step, {"resolution": None, "aspect_ratio": None}, batch_size=2, hidden_dtype=torch.float32
        )
        tokens = reference.caption_projection(told)
        wanted = reference.transformer_blocks[1](x, encoder_hidden_states=tokens, timestep=modulation)
        ours = model.time(step, torch.tensor([[64, 64], [64, 64]]))
        torch.testing.assert_close(ours, embedded, atol=1e-5, rtol=1e-4)  # the size says nothing yet
        ours_modulation = model.modulation(ours).unflatten(1, (6, 48))
        block = cast(Block, model.blocks[1])
        key_value = block.cross.project(model.text_in(told))
        mask = torch.ones(2, 5, dtype=torch.bool)
        torch.testing.assert_close(block(x, ours_modulation, key_value, mask, times=1), wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (16, 16), (8, 16), (5, 7)])
def test_places_are_pixarts(rows: int, columns: int) -> None:
    """Of latents and of content tokens, in any shape: its own code, not ours of the first models."""
    from diffusers.models.embeddings import get_2d_sincos_pos_embed

    wanted = get_2d_sincos_pos_embed(1152, (rows, columns), base_size=16, interpolation_scale=1.0, output_type="pt")
    codes = place_codes(rows, columns, reach=16, channels=1152, device=torch.device("cpu"))
    torch.testing.assert_close(codes.double(), wanted.double(), atol=1e-6, rtol=0)
    first = first_place_codes(rows, columns, spacing=8 / rows, channels=1152, device=torch.device("cpu"))
    assert (codes - first).abs().max() > 1


def test_a_new_models_tokens_have_pixarts_places_and_no_times(pixart: tuple[Any, Path]) -> None:
    """At 256 pixels the content tokens stand where PixArt-256 has its patches, 0 to 15."""
    reference, _ = pixart
    model = ReducioDiT(replace(CONFIG, sample_size=256))
    torch.testing.assert_close(model._places(16, 16, pixels=16), reference.pos_embed.pos_embed[0], atol=1e-6, rtol=0)
    places = model._positions(4, 8, 8).unflatten(0, (4, 64))
    assert torch.equal(places, model._places(8, 8, pixels=32).expand(4, -1, -1)), "the time's code starts at zero"
    assert model.time_code.requires_grad and model.time_code.shape == (4, 48)


def test_the_sizes_of_pixart_1024_are_taken(tmp_path: Path) -> None:
    reference = save_transformer(tmp_path / "large", sample_size=128)
    model = ReducioDiT(replace(CONFIG, place_reach=32)).eval()
    started = start_from_pixart(model, tmp_path / "large")
    assert {f"time.size.{kind}.2.bias" for kind in ("resolution", "aspect_ratio")} <= set(started.taken)
    step, size = torch.tensor([3.0, 700.0]), torch.tensor([[64, 96], [1024, 512]])
    conditions = {"resolution": size.float(), "aspect_ratio": (size[:, :1] / size[:, 1:]).float()}
    with torch.no_grad():
        _, embedded = reference.adaln_single(step, conditions, batch_size=2, hidden_dtype=torch.float32)
        torch.testing.assert_close(model.time(step, size), embedded, atol=1e-5, rtol=1e-4)
    with pytest.raises(InputError, match="counts places up to 32; the model has place_reach 16"):
        start_from_pixart(ReducioDiT(CONFIG), tmp_path / "large")


def test_the_log_names_every_tensor(pixart: tuple[Any, Path]) -> None:
    reference, folder = pixart
    model = ReducioDiT(CONFIG)
    started = start_from_pixart(model, folder)
    assert set(started.taken) | set(started.kept) == set(model.state_dict())
    assert not set(started.taken) & set(started.kept)
    assert {"patch_in.weight", "patch_out.bias", "null_text", "time_code"} <= set(started.kept)
    # the patches, and the output with its half for the noise's spread; blocks that the model hasn't got
    assert {"pos_embed.proj.weight", "proj_out.weight"} <= set(started.unused)
    of_blocks = [key for key in started.unused if key.startswith("transformer_blocks.")]
    assert of_blocks == [key for key in sorted(reference.state_dict()) if key.startswith("transformer_blocks.2.")]
    text = started.text("PixArt")
    assert text.startswith(f"{len(started.taken)} of {len(model.state_dict())} tensors start from PixArt: ")
    assert "blocks.{0-1}.attn.qkv.weight" in text and "proj_out.weight" in text and "patch_in.weight" in text


def test_the_first_models_cannot_start_so(pixart: tuple[Any, Path]) -> None:
    with pytest.raises(InputError, match="embeddings are 'first'; PixArt-alpha's weights need 'pixart'"):
        start_from_pixart(ReducioDiT(replace(CONFIG, embeddings="first")), pixart[1])


def test_a_pipeline_folder_and_what_does_not_fit(pixart: tuple[Any, Path], tmp_path: Path) -> None:
    _, folder = pixart
    assert start_from_pixart(ReducioDiT(CONFIG), folder.parent) == start_from_pixart(ReducioDiT(CONFIG), folder)
    with pytest.raises(InputError, match="has width 48 and 2 heads; the model has 24 and 2"):
        start_from_pixart(ReducioDiT(replace(CONFIG, width=24)), folder)
    with pytest.raises(InputError, match="has 3 blocks; the model has 4"):
        start_from_pixart(ReducioDiT(replace(CONFIG, depth=4)), folder)
    with pytest.raises(WeightsError, match="Fetch the folder transformer of PixArt-alpha"):
        start_from_pixart(ReducioDiT(CONFIG), tmp_path, offline=True)
