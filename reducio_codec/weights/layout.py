"""A model folder from outside: the names of its files, and where it came from. Apart from io, so that names can be resolved
without importing torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CONFIG_FILE = "config.json"
TENSOR_FILE = "model.safetensors"
ENTROPY_FILE = "entropy.json"
CARD_FILE = "README.md"


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """A folder to load from, and what is known about it."""

    folder: Path
    id: str
    """Bundled name, folder name, or ``org/name@commit``."""
    sha256: str | None = None
    """What model.safetensors must hash to, where that is known."""
