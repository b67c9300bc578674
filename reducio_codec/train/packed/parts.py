"""Where a training starts: a model folder, or what an earlier training left."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from reducio_codec.config import LiteConfig, check_choice
from reducio_codec.errors import InputError
from reducio_codec.models.lite.model import ReducioLite

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


def load_weights(
    folder: Path,
    *,
    config: LiteConfig | None = None,
    fresh: Collection[str] = (),
    taken: Mapping[str, Path] = MappingProxyType({}),
) -> tuple[ReducioLite, Tensor]:
    """The model of a training, or of a model folder, and the quantiser's step (z,) of each channel.

    Args:
        config: of the model to be; None: the folder's own. A decoder that the folder doesn't have starts from ``attention``.
        fresh: decoders that start untrained, whatever the folder has of them.
        taken: decoders that come from another folder, whose shared parts must be the same.
    """
    model, found, widths = _read(folder, config)
    own = model.state_dict()
    anew = tuple(f"decoders.{_known(name, model)}." for name in (*fresh, *taken))
    state = {key: value if key.startswith(anew) else _found(key, found) for key, value in own.items()}
    for name, other in taken.items():
        _, theirs, _ = _read(other, model.config)
        for key, value in state.items():
            if key.startswith(f"decoders.{name}."):
                state[key] = _found(key, theirs)
            elif not key.startswith("decoders.") and not torch.equal(_found(key, theirs).half(), value.half()):
                raise InputError(f"{other} has another {key} than {folder}: its decoders don't fit here")
    model.load_state_dict({key: value.float() for key, value in state.items()})
    return model, widths


def _read(folder: Path, config: LiteConfig | None) -> tuple[ReducioLite, dict[str, Tensor], Tensor]:
    """A new model, the folder's weights for it, and the quantiser's steps."""
    if (folder / _SETTINGS).is_file():
        settings = json.loads((folder / _SETTINGS).read_text())
        model = ReducioLite(config or LiteConfig.from_json(settings["config"]))
        found = {key: value for name in PARTS for key, value in load_file(folder / name).items()}
        return model, found, torch.tensor(settings["widths"])
    if (folder / "model.safetensors").is_file():
        document = json.loads((folder / "config.json").read_text())
        found = load_file(folder / "model.safetensors")
        if config is None:
            sizes = {key: value for key, value in document.items() if key.startswith("channels_")}
            config = LiteConfig(decoders=tuple(document["decoders"]), **sizes)
        model = ReducioLite(config)
        return model, found, torch.tensor(json.loads((folder / "entropy.json").read_text())["multipliers"]) / 1024
    raise InputError(f"{folder} has neither {_SETTINGS} nor model.safetensors")


def folders_by_decoder(texts: Sequence[str]) -> dict[str, Path]:
    """``NAME=FOLDER`` as options give them."""
    found = {}
    for text in texts:
        name, _, folder = text.partition("=")
        if not name or not folder:
            raise InputError(f"{text!r} must be NAME=FOLDER, a decoder and where it comes from")
        found[name] = Path(folder)
    return found


def _known(name: str, model: ReducioLite) -> str:
    return check_choice(name, name="decoder", allowed=model.decoder_names)


def copy_decoder(model: ReducioLite, source: str, target: str) -> None:
    """``target`` starts as ``source`` is, where it has the same parts; others start as they were."""
    model.decoders[target].load_state_dict(model.decoders[source].state_dict(), strict=False)


def _found(key: str, state: Mapping[str, Tensor]) -> Tensor:
    parts = key.split(".", 2)
    other = f"decoders.attention.{parts[-1]}" if parts[0] == "decoders" else key
    for name in (key, other):
        if name in state:
            return state[name]
    hint = f"; a training can start without them (--fresh {parts[1]})" if parts[0] == "decoders" else ""
    raise InputError(f"the weights have no {key}{hint}")
