"""FVD (Unterthiner et al. 2018): Frechet distance between I3D features of two sets of clips; rFVD: clips and their
reconstructions.

The features are those of the TorchScript file that StyleGAN-V and its successors use (I3D, Kinetics-400, 400 logits).
FVD depends on the number of clips, their length and their size, so a result carries all three. The file is
read from a path, torch's cache or the hub's cache; it is downloaded only on demand, and its SHA-256 is checked before
it is opened, since a TorchScript file is a program.
"""

from __future__ import annotations

import importlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reducio_codec.errors import InputError, MissingDependencyError, WeightsError
from reducio_codec.metrics.frechet import frechet_distance
from reducio_codec.metrics.weights import NeedsFileError, checked, torch_cache

I3D_FILE = "i3d_torchscript.pt"
I3D_SHA256 = "bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2"
I3D_REPOSITORY = "flateon/FVD-I3D-torchscript"
I3D_REVISION = "1c2d61711c52571ad617a1063e6fa691b212e184"

PREPROCESSING = "uint8 to [-1, 1] and bilinear resize to 224x224, both inside the TorchScript file (rescale, resize)"
SHORTEST = 9
"""I3D halves time three times and then averages windows of two; fewer frames leave nothing."""


def find_i3d(path: Path | None = None, *, download: bool = False) -> Path:
    """The weight file: ``path``, else torch's cache, else the hub's cache, else (with ``download``) from the hub.

    Raises:
        NeedsFileError: it is nowhere. MissingDependencyError: a download without huggingface_hub.
    """
    if path is not None:
        if path.is_file():
            return path
        raise NeedsFileError(I3D_FILE, hint=f"{path} doesn't exist")
    cached = torch_cache(I3D_FILE)
    if cached.is_file():
        return cached
    try:
        hub: Any = importlib.import_module("huggingface_hub")
    except ImportError as error:
        if download:
            raise MissingDependencyError("the download needs: pip install 'reducio-codec[hub]'") from error
        raise _nowhere(cached) from error
    try:
        return Path(hub.hf_hub_download(I3D_REPOSITORY, I3D_FILE, revision=I3D_REVISION, local_files_only=not download))
    except Exception as error:  # the client's errors depend on its version and its HTTP library
        if download:
            raise WeightsError(f"the download of {I3D_REPOSITORY} failed: {error}") from error
        raise _nowhere(cached) from error


def _nowhere(cached: Path) -> NeedsFileError:
    return NeedsFileError(
        I3D_FILE,
        hint=f"give its path, put it at {cached}, or allow the download from {I3D_REPOSITORY} on the hub",
    )


class I3d:
    """The feature extractor.

    Args:
        path: see :func:`find_i3d`.
        sha256: hash that the file must have. Features of any other file are no FVD.
    """

    def __init__(self, path: Path, *, sha256: str = I3D_SHA256, device: str = "cpu") -> None:
        self.sha256 = checked(path, sha256=sha256)
        self.device = torch.device(device)
        self._model = torch.jit.load(str(path), map_location=self.device).eval()

    def __call__(self, clip: NDArray[np.uint8]) -> NDArray[np.float32]:
        """One clip ``(T, H, W, 3)`` uint8, T of 9 or more, to its features ``(400,)``."""
        if clip.dtype != np.uint8 or clip.ndim != 4 or clip.shape[-1] != 3 or len(clip) < SHORTEST:
            raise InputError(f"clip is {clip.dtype} {clip.shape}; allowed: uint8 (T, H, W, 3) with T of {SHORTEST}+")
        video = torch.from_numpy(np.ascontiguousarray(clip)).permute(3, 0, 1, 2)[None].float()  # (1, 3, T, H, W)
        with torch.inference_mode():
            features = self._model(video.to(self.device), rescale=True, resize=True, return_features=True)
        result: NDArray[np.float32] = features.flatten().float().cpu().numpy()
        return result


@dataclass(frozen=True, kw_only=True)
class Fvd:
    """A distance with everything that it depends on."""

    value: float
    clips: int
    frames: int
    height: int
    width: int
    i3d_sha256: str
    preprocessing: str = PREPROCESSING

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class FvdMeter:
    """Takes pairs of clips of one size; holds 2 x 400 numbers a clip."""

    i3d: I3d
    _reference: list[NDArray[np.float32]] = field(default_factory=list)
    _decoded: list[NDArray[np.float32]] = field(default_factory=list)
    _shape: tuple[int, ...] = ()

    def add(self, reference: NDArray[np.uint8], decoded: NDArray[np.uint8]) -> None:
        """One clip and its reconstruction, ``(T, H, W, 3)`` uint8 each; all clips have one shape."""
        self._shape = self._shape or reference.shape
        if not self._shape == reference.shape == decoded.shape:
            raise InputError(f"clips are {reference.shape} and {decoded.shape}; all must be {self._shape}")
        self._reference.append(self.i3d(reference))
        self._decoded.append(self.i3d(decoded))

    def result(self) -> Fvd:
        """The distance over the clips so far, at least two."""
        if len(self._reference) < 2:
            raise InputError(f"{len(self._reference)} clips were added; FVD needs at least two")
        frames, height, width, _ = self._shape
        return Fvd(
            value=frechet_distance(np.stack(self._reference), np.stack(self._decoded)),
            clips=len(self._reference),
            frames=frames,
            height=height,
            width=width,
            i3d_sha256=self.i3d.sha256,
        )
