"""Peers through their real loading code: tiny models of the same classes, saved on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bench.methods import NotRunError
from bench.peers.adapters import Peer
from bench.peers.registry import PEERS, peers
from reducio_codec.errors import MissingDependencyError
from reducio_codec.metrics.weights import NeedsFileError
from tests.helpers import moving_video

BY_NAME = {peer.name: peer for peer in PEERS}

SMALL = {
    "sd2.1-vae": {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "block_out_channels": (8, 8),
        "norm_num_groups": 4,
    },
    "sdxl-vae": {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "block_out_channels": (8, 8),
        "norm_num_groups": 4,
        "force_upcast": True,
    },
    "cosmos-8x8x8": {
        "encoder_block_out_channels": (8, 8, 8, 8),
        "decode_block_out_channels": (8, 8, 8, 8),
        "num_layers": 1,
        "attention_resolutions": (),
        "resolution": 64,
    },
    "dc-ae-f32c32": {
        "latent_channels": 4,
        "attention_head_dim": 4,
        "encoder_block_out_channels": (8, 8, 8),
        "decoder_block_out_channels": (8, 8, 8),
        "encoder_layers_per_block": (1, 1, 1),
        "decoder_layers_per_block": (1, 1, 1),
        "encoder_qkv_multiscales": ((), (), ()),
        "decoder_qkv_multiscales": ((), (), ()),
    },
    "wan2.1-vae": {"base_dim": 4, "z_dim": 16, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1},
    "wan2.2-vae": {  # works on 2x2 patches of pixels and has residual up- and downsampling, unlike 2.1
        "base_dim": 4,
        "decoder_base_dim": 4,
        "z_dim": 4,
        "dim_mult": [1, 1, 1, 1],
        "num_res_blocks": 1,
        "is_residual": True,
        "patch_size": 2,
        "in_channels": 12,
        "out_channels": 12,
        "scale_factor_spatial": 16,
        "latents_mean": [0.0] * 4,
        "latents_std": [1.0] * 4,
    },
    "ltx-video-vae": {
        "latent_channels": 8,
        "block_out_channels": (8, 8, 8, 8),
        "decoder_block_out_channels": (8, 8, 8, 8),
        "layers_per_block": (1, 1, 1, 1, 1),
        "decoder_layers_per_block": (1, 1, 1, 1, 1),
    },
    "cogvideox-vae": {"block_out_channels": (8, 8, 8, 8), "latent_channels": 4, "layers_per_block": 1, "norm_num_groups": 4},
}  # fmt: skip

LATENT_FRAMES = {"cosmos-8x8x8": 3, "wan2.1-vae": 5, "wan2.2-vae": 5, "ltx-video-vae": 3, "cogvideox-vae": 5}
"""Of 17 frames: the sixteen of a clip and the last one again."""


@pytest.fixture
def clip() -> np.ndarray:
    return moving_video(16, 64, 64, seed=3)


@pytest.mark.parametrize("name", SMALL)
def test_published_classes(name: str, clip: np.ndarray, tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers", reason="the peers need diffusers (extra [bench])")
    peer = BY_NAME[name]
    torch.manual_seed(0)
    model = getattr(diffusers, peer.diffusers_class)(**SMALL[name]).eval()
    model.save_pretrained(tmp_path / name)
    opened = peer.open(tmp_path, download=False)
    assert opened.settings["class"] == peer.diffusers_class
    found = opened(clip)
    assert found.frames.shape == clip.shape and found.frames.dtype == np.uint8
    assert np.array_equal(opened(clip).frames, found.frames), "the mode, not a sample"
    channels = model.config.get("z_dim") or model.config["latent_channels"]
    frames = 16 if peer.pictures else LATENT_FRAMES[name]
    assert found.latent["values"] == channels * found.latent["positions"]
    assert found.latent["positions"] % frames == 0
    assert opened.settings["frames_in"] == (16 if peer.pictures else 17)
    video = torch.from_numpy(clip).permute(0, 3, 1, 2) / 127.5 - 1
    if not peer.pictures:
        video = torch.cat([video, video[-1:]]).transpose(0, 1)[None]
    with torch.no_grad():
        encoded = model.encode(video)
        latent = encoded.latent if hasattr(encoded, "latent") else encoded.latent_dist.mode()
        direct = model.decode(latent).sample
    direct = direct if peer.pictures else direct[0].transpose(0, 1)[:16]
    expected = ((direct + 1) * 127.5).round().clamp(0, 255).permute(0, 2, 3, 1).numpy()
    assert np.abs(found.frames - expected).max() <= 1


def test_a_decoder_that_denoises_is_refused(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers", reason="the peers need diffusers (extra [bench])")
    model = diffusers.AutoencoderKLLTXVideo(**SMALL["ltx-video-vae"], timestep_conditioning=True)
    model.save_pretrained(tmp_path / "ltx-video-vae")
    with pytest.raises(NotRunError, match="denoiser"):
        BY_NAME["ltx-video-vae"].open(tmp_path, download=False)


def test_weights_that_are_not_here_are_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("diffusers", reason="the peers need diffusers (extra [bench])")
    monkeypatch.setattr(pytest.importorskip("huggingface_hub.constants"), "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    for candidate in peers(tmp_path, download=False):
        with pytest.raises((NeedsFileError, NotRunError), match="needs"):
            candidate.points["mode"]()


def test_without_diffusers(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(MissingDependencyError, match=r"\[bench\]"):
        BY_NAME["sdxl-vae"].open(None, download=False)


def test_a_class_that_diffusers_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    import types

    old = types.ModuleType("diffusers")
    old.__version__ = "0.1"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "diffusers", old)
    with pytest.raises(NotRunError, match="has no AutoencoderDC"):
        BY_NAME["dc-ae-f32c32"].open(None, download=False)


class Encoder(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        first = nn.functional.avg_pool3d(x[:, :, :1], (1, 16, 16))
        rest = nn.functional.avg_pool3d(x[:, :, 1:], (8, 16, 16))
        return (torch.cat([first, rest], 2),)


class Decoder(nn.Module):
    def forward(self, z: torch.Tensor) -> torch.Tensor:
        first = nn.functional.interpolate(z[:, :, :1], scale_factor=[1.0, 16.0, 16.0])
        rest = nn.functional.interpolate(z[:, :, 1:], scale_factor=[8.0, 16.0, 16.0])
        return torch.cat([first, rest], 2)


class Whole(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 0.5


def test_torchscript_halves(clip: np.ndarray, tmp_path: Path) -> None:
    folder = tmp_path / "cosmos-8x16x16"
    folder.mkdir()
    torch.jit.script(Encoder()).save(str(folder / "encoder.jit"))
    with pytest.raises(NeedsFileError, match=r"decoder\.jit"):
        BY_NAME["cosmos-8x16x16"].open(tmp_path, download=False)
    torch.jit.script(Decoder()).save(str(folder / "decoder.jit"))
    opened = BY_NAME["cosmos-8x16x16"].open(tmp_path, download=False)
    found = opened(clip)
    assert found.latent == {"pixels": 0, "positions": 3 * 4 * 4, "values": 3 * 3 * 4 * 4}
    block = clip[0, :16, :16].reshape(-1, 3).mean(0)
    assert np.abs(found.frames[0, 0, 0] - block).max() <= 1
    assert opened.settings["frames_in"] == 17


@pytest.mark.parametrize("name", ["omnitokenizer", "open-sora-1.2"])
def test_torchscript_whole(name: str, clip: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(NotRunError, match=r"needs a TorchScript trace as .*autoencoder\.jit"):
        BY_NAME[name].open(tmp_path, download=False)
    (tmp_path / name).mkdir()
    torch.jit.script(Whole()).save(str(tmp_path / name / "autoencoder.jit"))
    found = BY_NAME[name].open(tmp_path, download=False)(clip)
    assert np.abs(found.frames - (0.5 * clip.astype(float) + 63.75)).max() <= 1


def test_frames_that_an_encoder_gets() -> None:
    def opened(group: int, *, pictures: bool = False) -> int:
        from bench.peers.adapters import OpenPeer

        peer = Peer(name="x", source="a/b", group=group, pictures=pictures)
        return OpenPeer(peer=peer, place="", form="diffusers", coder=lambda x: (x, None)).frames_in(16)

    assert [opened(1), opened(4), opened(8), opened(8, pictures=True)] == [16, 17, 17, 16]


def test_every_peer_of_the_papers_tables() -> None:
    assert {"sd2.1-vae", "sdxl-vae", "omnitokenizer", "open-sora-1.2", "cosmos-8x8x8", "cosmos-8x16x16"} <= set(BY_NAME)
    assert {"dc-ae-f32c32", "wan2.1-vae", "wan2.2-vae", "ltx-video-vae", "cogvideox-vae"} <= set(BY_NAME)
