"""The content encoder started from an image VAE computes what that VAE computes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from reducio_codec.errors import InputError, WeightsError
from reducio_codec.generate import ReducioDiT
from reducio_codec.generate.sd_init import start_from_image_vae
from tests.generate.conftest import MODEL


def toy_vae(*, base: int = 32) -> Any:
    import diffusers

    torch.manual_seed(0)
    return diffusers.AutoencoderKL(
        block_out_channels=(base, 2 * base, 4 * base, 4 * base),
        layers_per_block=2,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    ).eval()


def test_features_are_the_vaes(tmp_path: Path) -> None:
    """All that the VAE's encoder computes, up to the convolution that makes its latent."""
    vae = toy_vae()
    with torch.no_grad():
        for parameter in vae.parameters():  # norms and biases, too, have values of their own
            parameter.add_(0.05 * torch.randn_like(parameter))
    vae.save_pretrained(tmp_path / "vae")
    picture = torch.rand(1, 3, 32, 64) * 2 - 1
    seen: list[torch.Tensor] = []
    vae.encoder.conv_out.register_forward_hook(lambda _module, inputs, _out: seen.append(inputs[0]))
    with torch.no_grad():
        vae.encode(picture)
    for folder in (tmp_path / "vae", tmp_path):  # the VAE alone, and a pipeline with a VAE in it
        model = ReducioDiT(replace(MODEL, content="sd"))
        down = model.content.down.weight.clone()
        started = start_from_image_vae(model, folder, offline=True)
        with torch.no_grad():
            found = model.content.trunk(picture).top
        torch.testing.assert_close(found, seen[0], atol=1e-5, rtol=1e-4)
        assert torch.equal(model.content.down.weight, down)
        assert set(started.kept) == {"content.down.weight", "content.down.bias"}
        assert set(started.unused) == {"encoder.conv_out.weight", "encoder.conv_out.bias", "decoder"}
        assert len(started.taken) == len(vae.encoder.state_dict()) - 2


def test_what_does_not_fit(tmp_path: Path) -> None:
    model = ReducioDiT(replace(MODEL, content="sd"))
    with pytest.raises(WeightsError, match="stabilityai/stable-diffusion-2-1"):
        start_from_image_vae(model, tmp_path, offline=True)
    toy_vae(base=64).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match=r"conv_in\.weight needs \(32, 3, 3, 3\), and the VAE has \(64, 3, 3, 3\)"):
        start_from_image_vae(model, tmp_path, offline=True)
    with pytest.raises(InputError, match="no content encoder of the kind 'sd'"):
        start_from_image_vae(ReducioDiT(MODEL), tmp_path)
