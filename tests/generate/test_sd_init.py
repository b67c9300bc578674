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
    vae = toy_vae()
    vae.save_pretrained(tmp_path / "vae")
    picture = torch.rand(1, 3, 32, 64) * 2 - 1
    features: list[torch.Tensor] = []
    vae.encoder.mid_block.resnets[0].register_forward_hook(lambda _module, _inputs, out: features.append(out))
    vae.encode(picture)
    for folder in (tmp_path / "vae", tmp_path):  # the VAE alone, and a pipeline with a VAE in it
        model = ReducioDiT(replace(MODEL, content="sd"))
        start_from_image_vae(model, folder, offline=True)
        found: list[torch.Tensor] = []
        model.content.trunk.mid.block_1.register_forward_hook(
            lambda _module, _inputs, out, found=found: found.append(out)
        )
        with torch.no_grad():
            model.content(picture)
        torch.testing.assert_close(found[0], features[0], atol=1e-4, rtol=1e-4)
        query = vae.encoder.mid_block.attentions[0].to_q.weight
        assert torch.equal(model.content.trunk.mid.attn_1.q.weight[..., 0, 0], query)


def test_what_does_not_fit(tmp_path: Path) -> None:
    model = ReducioDiT(replace(MODEL, content="sd"))
    with pytest.raises(WeightsError, match="stabilityai/stable-diffusion-2-1"):
        start_from_image_vae(model, tmp_path, offline=True)
    toy_vae(base=64).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match=r"conv_in\.weight needs \(32, 3, 3, 3\), and the VAE has \(64, 3, 3, 3\)"):
        start_from_image_vae(model, tmp_path, offline=True)
    with pytest.raises(InputError, match="no content encoder of the kind 'sd'"):
        start_from_image_vae(ReducioDiT(MODEL), tmp_path)
