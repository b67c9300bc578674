"""Neural video codec: a key frame and a motion latent with 4096 times fewer positions than the pixels (Reducio-VAE)."""

from __future__ import annotations

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

from reducio_codec.io.own_process import settle_in, started_as_module

if TYPE_CHECKING:
    from reducio_codec.clips.latent import Latent
    from reducio_codec.clips.streams import EncodedClip
    from reducio_codec.codec import ReducioCodec
    from reducio_codec.config import TilingConfig
    from reducio_codec.errors import ReducioError
    from reducio_codec.weights.zoo import list_models

__all__ = [
    "EncodedClip",
    "Latent",
    "ReducioCodec",
    "ReducioError",
    "TilingConfig",
    "__version__",
    "list_models",
]

# imported when they are first used: ``reducio-codec --help`` needn't wait for torch
_HOMES = {
    "EncodedClip": "reducio_codec.clips.streams",
    "Latent": "reducio_codec.clips.latent",
    "ReducioCodec": "reducio_codec.codec",
    "ReducioError": "reducio_codec.errors",
    "TilingConfig": "reducio_codec.config",
    "list_models": "reducio_codec.weights.zoo",
}

if started_as_module(__name__):  # by import alone nothing is changed
    settle_in()


def __getattr__(name: str) -> Any:
    if name == "__version__":
        try:
            return metadata.version("reducio-codec")
        except metadata.PackageNotFoundError:  # a source tree that isn't installed
            return "0+unknown"
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
