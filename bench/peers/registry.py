"""The autoencoders of the paper's tables 1 and 12, and three that people ask for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench.methods import Candidate, Reconstructor
from bench.peers.adapters import Peer

PEERS = (
    Peer(
        name="sd2.1-vae",
        source="stabilityai/stable-diffusion-2-1",
        subfolder="vae",
        diffusers_class="AutoencoderKL",
        pictures=True,
    ),
    Peer(name="sdxl-vae", source="stabilityai/sdxl-vae", diffusers_class="AutoencoderKL", pictures=True),
    Peer(
        name="omnitokenizer",
        source="FoundationVision/OmniTokenizer",
        group=4,
        torchscript=True,
        no_code="its code is no installable package and its weights are a pickle",
    ),
    Peer(
        name="open-sora-1.2",
        source="hpcai-tech/OpenSora-VAE-v1.2",
        group=1,
        torchscript=True,
        no_code="diffusers has no class for it and its own package can't be installed beside current versions",
    ),
    Peer(
        name="cosmos-8x8x8",
        source="nvidia/Cosmos-1.0-Diffusion-7B-Text2World",
        subfolder="vae",
        diffusers_class="AutoencoderKLCosmos",
        group=8,
        torchscript=True,
    ),
    Peer(name="cosmos-8x16x16", source="nvidia/Cosmos-0.1-Tokenizer-CV8x16x16", group=8, torchscript=True),
    Peer(
        name="dc-ae-f32c32",
        source="mit-han-lab/dc-ae-f32c32-in-1.0-diffusers",
        diffusers_class="AutoencoderDC",
        pictures=True,
    ),
    Peer(
        name="wan2.1-vae",
        source="Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
        subfolder="vae",
        diffusers_class="AutoencoderKLWan",
        group=4,
    ),
    Peer(
        name="wan2.2-vae",
        source="Wan-AI/Wan2.2-TI2V-5B-Diffusers",
        subfolder="vae",
        diffusers_class="AutoencoderKLWan",
        group=4,
    ),
    Peer(
        name="ltx-video-vae",
        source="Lightricks/LTX-Video",
        subfolder="vae",
        diffusers_class="AutoencoderKLLTXVideo",
        group=8,
    ),
    Peer(
        name="cogvideox-vae",
        source="THUDM/CogVideoX-2b",
        subfolder="vae",
        diffusers_class="AutoencoderKLCogVideoX",
        group=4,
    ),
)


def peers(folder: Path | None, *, download: bool) -> list[Candidate[Reconstructor]]:
    """Each peer, its weights in ``FOLDER/NAME`` or in the hub's cache."""
    return [Candidate(name=peer.name, points={"mode": _opener(peer, folder, download=download)}) for peer in PEERS]


def _opener(peer: Peer, folder: Path | None, *, download: bool) -> Callable[[], Reconstructor]:
    return lambda: peer.open(folder, download=download)
