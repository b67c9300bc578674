"""The paper's model started from an image VAE treats every frame as that VAE would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from reducio_codec.config import ReducioConfig
from reducio_codec.errors import WeightsError
from reducio_codec.models.reducio.vae import ReducioVAE
from reducio_codec.weights.sd_init import WEIGHT_FILE, start_from_image_vae

CONFIG = ReducioConfig(base_channels=32, content_channels=32, depth=1, decoders=("attention", "none"))


def toy_vae(folder: Path, *, base: int = 32) -> Any:
    import diffusers

    torch.manual_seed(0)
    vae = diffusers.AutoencoderKL(
        block_out_channels=(base, 2 * base, 4 * base, 4 * base),
        layers_per_block=2,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    ).eval()
    vae.save_pretrained(folder)
    return vae


def test_content_features_are_the_vaes(tmp_path: Path) -> None:
    vae, model = toy_vae(tmp_path / "vae"), ReducioVAE(CONFIG)
    start_from_image_vae(model, tmp_path)  # a pipeline's folder
    picture = torch.rand(1, 3, 64, 32) * 2 - 1
    expected: list[torch.Tensor] = []
    for level in (2, 3):
        vae.encoder.down_blocks[level].resnets[-1].register_forward_hook(lambda _m, _i, out: expected.append(out))
    vae.encode(picture)
    assert model.content is not None
    with torch.no_grad():
        pyramid = model.content(picture)
    torch.testing.assert_close(pyramid.levels[2], expected[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(pyramid.levels[3], expected[1], atol=1e-4, rtol=1e-4)


def test_the_motion_encoder_sees_each_frame_as_a_picture(tmp_path: Path) -> None:
    """The first level is the VAE's: same features for a frame alone and within the clip, but for the norm's statistics."""
    vae, model = toy_vae(tmp_path), ReducioVAE(CONFIG)
    start_from_image_vae(model, tmp_path)
    picture = torch.rand(1, 3, 1, 32, 32).mul(2).sub(1).expand(1, 3, 16, 32, 32)  # equal frames: equal statistics
    with torch.no_grad():
        ours = model.encoder.down[0](model.encoder.conv_in(picture))
        theirs = vae.encoder.down_blocks[0].resnets[0](vae.encoder.conv_in(picture[:, :, 0]), None)
    for frame in range(16):
        torch.testing.assert_close(ours[:, :, frame], theirs, atol=1e-4, rtol=1e-4)


def test_what_is_started_and_what_is_not(tmp_path: Path) -> None:
    toy_vae(tmp_path)
    model = ReducioVAE(CONFIG)
    before = {key: value.clone() for key, value in model.named_parameters()}
    started = start_from_image_vae(model, tmp_path)
    assert len(started) == len(set(started))
    for key, value in model.named_parameters():
        if key not in started:
            assert torch.equal(value, before[key]), key
    kinds = {key.rpartition(".")[0] for key in started}
    assert {"encoder.conv_in", "encoder.mid.attn_1.q", "encoder.down.5.block.0.conv1"} <= kinds
    assert {"decoders.attention.conv_out", "decoders.none.up.1.upsample.conv"} <= kinds
    # another latent, or nothing of the kind in an image VAE
    assert not kinds & {"encoder.conv_out", "decoders.none.conv_in", "quant_conv", "decoders.attention.up.2.fuse.to_q"}
    # in the middle of time, nothing elsewhere
    weight = model.encoder.down[0].block[0].conv1.weight
    assert weight[:, :, 1].abs().sum() > 0
    assert weight[:, :, [0, 2]].abs().sum() == 0


def test_older_files_name_their_attention_otherwise(tmp_path: Path) -> None:
    toy_vae(tmp_path)
    new, old = ReducioVAE(CONFIG), ReducioVAE(CONFIG)
    start_from_image_vae(new, tmp_path)
    tensors = load_file(tmp_path / WEIGHT_FILE)
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for after, before in older.items():
        tensors = {key.replace(f"attentions.0.{after}.", f"attentions.0.{before}."): v for key, v in tensors.items()}
    save_file(tensors, tmp_path / WEIGHT_FILE)
    start_from_image_vae(old, tmp_path)
    name = "content.mid.attn_1.q.weight"
    assert torch.equal(old.state_dict()[name], new.state_dict()[name])


def test_what_does_not_fit(tmp_path: Path) -> None:
    model = ReducioVAE(CONFIG)
    with pytest.raises(WeightsError, match=f"has no {WEIGHT_FILE}"):
        start_from_image_vae(model, tmp_path)
    (tmp_path / WEIGHT_FILE).write_bytes(b"no tensors")
    with pytest.raises(WeightsError, match="can't be read"):
        start_from_image_vae(model, tmp_path)
    toy_vae(tmp_path, base=64)
    with pytest.raises(WeightsError, match=r"conv_in\.weight needs \(32, 3, 3, 3\), and the VAE has \(64, 3, 3, 3\)"):
        start_from_image_vae(model, tmp_path)
