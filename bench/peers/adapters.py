"""A peer's published weights behind one call: 16 frames in, 16 frames out.

Weights come from ``FOLDER/NAME`` or the hub's cache; they are downloaded only with ``download=True``. Encoders that
want 1 + 4k or 1 + 8k frames get the last frame repeated, and the extra frames are dropped again; the latent is counted
as they made it. The latent's mode is taken, never a sample. Everything runs in float32.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from bench.methods import Frames, NotRunError, Reconstruction
from reducio_codec.errors import MissingDependencyError
from reducio_codec.io.pixels import to_bytes, to_unit
from reducio_codec.metrics.weights import NeedsFileError

ENCODER, DECODER, WHOLE = "encoder.jit", "decoder.jit", "autoencoder.jit"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Where a peer's weights are and how they want to be called."""

    name: str
    source: str
    """``org/name`` on the hub."""
    subfolder: str = ""
    diffusers_class: str = ""
    """Class in diffusers, or nothing where there is none."""
    pictures: bool = False
    """Codes single pictures: the frames go in as a batch."""
    group: int = 1
    """Frames must be 1 + a multiple of this; 1 takes any number."""
    torchscript: bool = False
    """Published (or traced by the user) as TorchScript: encoder.jit and decoder.jit, or autoencoder.jit."""
    no_code: str = ""
    """Why nothing but TorchScript can be loaded, where that is so."""

    def open(self, folder: Path | None, *, download: bool) -> OpenPeer:
        """Load the weights.

        Raises:
            NeedsFileError: they aren't here. MissingDependencyError: diffusers isn't. NotRunError: neither would help.
        """
        own = None if folder is None else folder / self.name
        if own is not None and self.torchscript and ((own / ENCODER).is_file() or (own / WHOLE).is_file()):
            return OpenPeer(peer=self, place=str(own), form="torchscript", coder=_torchscript(own))
        if not self.diffusers_class:
            where = f"{self.name}/{ENCODER} and {DECODER}, or {WHOLE}"
            if self.no_code:
                raise NotRunError(f"{self.no_code}; needs a TorchScript trace as {where}")
            raise NeedsFileError(where, hint=f"from {self.source} on the hub")
        module = _load(self, own, download=download)
        if getattr(module.config, "timestep_conditioning", False):
            raise NotRunError("this version's decoder is itself a denoiser; only versions without that are supported")
        return OpenPeer(peer=self, place=str(own) if own and own.is_dir() else self.source, form="diffusers",
                        coder=_diffusers(module))  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class OpenPeer:
    """A peer with its weights."""

    peer: Peer
    place: str
    form: Literal["diffusers", "torchscript"]
    coder: Callable[[Tensor], tuple[Tensor, Tensor | None]]
    """Unit range video or pictures to (the same shape back, latent or None if it isn't shown)."""

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "source": self.peer.source,
            "form": self.form,
            "class": self.peer.diffusers_class if self.form == "diffusers" else "TorchScript",
            "frames_in": self.frames_in(16),
            "dtype": "float32",
        }

    def frames_in(self, frames: int) -> int:
        """Frames that the encoder gets for a clip of ``frames``."""
        return frames if self.peer.pictures else frames + (1 - frames) % self.peer.group

    def __call__(self, clip: Frames) -> Reconstruction:
        video = to_unit(torch.from_numpy(np.ascontiguousarray(clip))).permute(0, 3, 1, 2)  # (16, 3, H, W)
        if not self.peer.pictures:
            extra = self.frames_in(len(clip)) - len(clip)
            video = torch.cat([video, video[-1:].expand(extra, -1, -1, -1)])  # (T, 3, H, W)
            video = video.transpose(0, 1)[None].contiguous()  # (1, 3, T, H, W)
        with torch.inference_mode():
            decoded, latent = self.coder(video)
        if not self.peer.pictures:
            decoded = decoded[0].transpose(0, 1)  # (T, 3, H, W)
        frames = to_bytes(decoded[: len(clip)]).permute(0, 2, 3, 1).contiguous().numpy()
        if frames.shape != clip.shape:
            raise NotRunError(f"{self.peer.name} gave {frames.shape} for a clip of {clip.shape}")
        sizes = {"pixels": 0}
        if latent is not None:
            sizes |= {"positions": latent.numel() // latent.shape[1], "values": latent.numel()}
        return Reconstruction(frames=frames, latent=sizes)


def _load(peer: Peer, own: Path | None, *, download: bool) -> Any:
    try:
        diffusers = importlib.import_module("diffusers")
        build = getattr(diffusers, peer.diffusers_class)
    except ImportError as error:
        raise MissingDependencyError("needs diffusers: pip install 'reducio-codec[bench]'") from error
    except AttributeError as error:
        raise NotRunError(f"diffusers {diffusers.__version__} has no {peer.diffusers_class}") from error
    place, local = (own, True) if own is not None and (own / "config.json").is_file() else (peer.source, not download)
    subfolder = {"subfolder": peer.subfolder} if peer.subfolder and place is not own else {}
    try:
        model = build.from_pretrained(place, local_files_only=local, torch_dtype=torch.float32, **subfolder)
    except OSError as error:
        at = f"{peer.source} ({peer.subfolder})" if peer.subfolder else peer.source
        raise NeedsFileError(
            f"the weights of {at}", hint=f"put them into {own or peer.name}, or allow the download"
        ) from error
    return model.eval().requires_grad_(False)


def _diffusers(model: Any) -> Callable[[Tensor], tuple[Tensor, Tensor | None]]:
    def code(video: Tensor) -> tuple[Tensor, Tensor | None]:
        encoded = model.encode(video)
        latent = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latent
        return model.decode(latent).sample, latent

    return code


def _torchscript(folder: Path) -> Callable[[Tensor], tuple[Tensor, Tensor | None]]:
    """``encoder.jit`` gives the latent, alone or first in a tuple; ``autoencoder.jit`` gives the video."""
    names = (WHOLE,) if not (folder / ENCODER).is_file() else (ENCODER, DECODER)
    for name in names:
        if not (folder / name).is_file():
            raise NeedsFileError(f"{folder.name}/{name}", hint=f"{folder} has only {ENCODER}")
    modules = [torch.jit.load(str(folder / name), map_location="cpu").eval() for name in names]

    def code(video: Tensor) -> tuple[Tensor, Tensor | None]:
        if len(modules) == 1:
            return _first(modules[0](video)), None
        latent = _first(modules[0](video))
        return _first(modules[1](latent)), latent

    return code


def _first(output: Any) -> Tensor:
    value = output[0] if isinstance(output, tuple | list) else output
    if not isinstance(value, Tensor):
        raise NotRunError(f"the TorchScript file gave a {type(value).__name__}, not a tensor")
    return value
