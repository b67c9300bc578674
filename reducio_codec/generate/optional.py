"""The only imports of optional packages (extra ``[generate]``), each made when it is first needed."""

from __future__ import annotations

import importlib
from typing import Any

from reducio_codec.errors import MissingDependencyError

_INSTALL = "pip install 'reducio-codec[generate]'"


def diffusers() -> Any:
    """Schedulers, text-to-image pipelines, image VAEs."""
    return _import("diffusers", use="generation")


def transformers() -> Any:
    """Text encoders and their tokenizers."""
    return _import("transformers", use="text encoders")


def open_clip() -> Any:
    """OpenCLIP image encoders."""
    return _import("open_clip", use="semantic tokens of pictures")


def _import(name: str, *, use: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependencyError(f"{use} needs {name} ({error}): {_INSTALL}") from error
