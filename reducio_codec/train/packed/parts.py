"""Where a training starts: a model folder, the first version's too, or what an earlier training left."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from reducio_codec.config import LiteConfig
from reducio_codec.errors import InputError
from reducio_codec.models.lite.model import ReducioLite
from reducio_codec.train.packed.version_1 import from_version_1, is_version_1

PARTS = {"decoders.safetensors": True, "shared.safetensors": False}
"""Files of a model, and whether they hold its decoders: two, since what comes back from some machines is limited by file."""

_SETTINGS = "training.json"


def save_weights(folder: Path, model: ReducioLite, state: dict[str, Tensor], *, widths: Tensor, step: int) -> None:
    """The weights as float16, and the quantiser's steps."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, decoders in PARTS.items():
        part = {key: value for key, value in state.items() if key.startswith("decoders.") == decoders}
        temporary = folder / f"{name}.part"
        save_file({key: value.detach().cpu().half().contiguous() for key, value in part.items()}, temporary)
        temporary.rename(folder / name)
    settings = {"config": model.config.to_json(), "widths": widths.flatten().tolist(), "step": step}
    (folder / _SETTINGS).write_text(json.dumps(settings, indent=2) + "\n")


def load_weights(folder: Path, *, config: LiteConfig | None = None) -> tuple[ReducioLite, Tensor]:
    """The model of a training, or of a model folder, and the quantiser's step (z,) of each channel.

    Args:
        config: of the model to be; None: the training's own, or all decoders at the folder's widths. A decoder that the
            folder doesn't have starts from ``attention``.
    """
    if (folder / _SETTINGS).is_file():
        settings = json.loads((folder / _SETTINGS).read_text())
        model = ReducioLite(config or LiteConfig.from_json(settings["config"]))
        found = {key: value for name in PARTS for key, value in load_file(folder / name).items()}
        state = {key: _found(key, found) for key in model.state_dict()}
        widths = torch.tensor(settings["widths"])
    elif (folder / "model.safetensors").is_file():
        document = json.loads((folder / "config.json").read_text())
        if config is None:
            sizes = {key: value for key, value in document.items() if key.startswith("channels_")}
            config = LiteConfig(decoders=("attention", "add", "linear", "none", "sharp"), **sizes)
        model = ReducioLite(config)
        found = load_file(folder / "model.safetensors")
        state = (
            from_version_1(found, model)
            if is_version_1(found)
            else {key: _found(key, found) for key in model.state_dict()}
        )
        widths = torch.tensor(json.loads((folder / "entropy.json").read_text())["multipliers"]) / 1024
    else:
        raise InputError(f"{folder} has neither {_SETTINGS} nor model.safetensors")
    model.load_state_dict({key: value.float() for key, value in state.items()})
    return model, widths


def copy_decoder(model: ReducioLite, source: str, target: str) -> None:
    """``target`` starts as ``source`` is; both must be built alike."""
    model.decoders[target].load_state_dict(model.decoders[source].state_dict())


def _found(key: str, state: dict[str, Tensor]) -> Tensor:
    if key not in state and key.startswith("decoders."):
        _, _, rest = key.split(".", 2)
        key = f"decoders.attention.{rest}"
    if key not in state:
        raise InputError(f"the weights have no {key}")
    return state[key]
