"""A model folder from outside: the names of its files, what their JSON says, and where it came from. Apart from io, so that
names can be resolved without importing torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reducio_codec.errors import WeightsError

CONFIG_FILE = "config.json"
TENSOR_FILE = "model.safetensors"
ENTROPY_FILE = "entropy.json"
CARD_FILE = "README.md"

MODEL_FOLDER = "model"
"""Where a training run writes its model, inside its own folder."""
RECIPE_FILE = "recipe.json"
"""What a training run's folder has from its beginning."""


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """A folder to load from, and what is known about it."""

    folder: Path
    id: str
    """Bundled name, folder name, or ``org/name@commit``."""
    sha256: str | None = None
    """What model.safetensors must hash to, where that is known."""


def find_model(folder: Path) -> Path:
    """The model folder that a folder stands for: a training run's is the one inside it. WeightsError for a run that has none."""
    inside = folder / MODEL_FOLDER
    if (folder / CONFIG_FILE).is_file():
        return folder
    if (inside / CONFIG_FILE).is_file():
        return inside
    if (folder / RECIPE_FILE).is_file():
        raise WeightsError(
            f"{folder} holds a run that isn't finished; its command goes on with it, and with --export writes the model of the "
            "last checkpoint"
        )
    return folder


def model_name(folder: Path) -> str:
    """What a model in a folder is called: the folder's name, and ``first`` for ``runs/first/model``."""
    real = folder.resolve()
    return next((path.name for path in (real, *real.parents) if path.name not in ("", MODEL_FOLDER)), real.name)


def read_document(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds; WeightsError if it is damaged or holds something else."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} isn't readable JSON: {error}") from error
    if not isinstance(document, dict):
        raise WeightsError(f"{path} holds a {type(document).__name__}; it must hold an object")
    return document
