"""Files that a metric needs, most of which this package doesn't ship: found, checked, never fetched without being told to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from reducio_codec.errors import WeightsError


class NeedsFileError(WeightsError):
    """Weights of others are missing. A table shows ``not run: needs FILE`` instead of a number."""

    def __init__(self, file: str, *, hint: str) -> None:
        super().__init__(f"needs {file}: {hint}")
        self.file = file
        """The name to show."""


def torch_cache(name: str) -> Path:
    """Where torch keeps a downloaded file of this name."""
    return Path(torch.hub.get_dir()) / "checkpoints" / name


def checked(path: Path, *, sha256: str) -> str:
    """The file's SHA-256, which must begin with ``sha256`` (torchvision's file names carry the first eight digits)."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(sha256.lower()):
        raise WeightsError(f"{path} has SHA-256 {found}; it must begin with {sha256}, so this is another file")
    return found


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and values: the same however a file orders or packs them."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
