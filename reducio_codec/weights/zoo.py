"""Names of models: what ships inside the package, and how a name, a folder or ``org/name`` becomes a folder.

This module does not import torch, so that listing models is instant.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from reducio_codec.errors import InputError, WeightsError
from reducio_codec.weights.hub import fetch
from reducio_codec.weights.layout import ModelSource, find_model, model_name

if TYPE_CHECKING:
    import torch

    from reducio_codec.models.contract import CodecModel
    from reducio_codec.models.precision import Dtype
    from reducio_codec.weights.io import ModelInfo

BUNDLED = Path(__file__).resolve().parent / "bundled"

DEFAULT_GENERATOR = "reducio-dit-small"
"""What ``generate`` and its pipeline take where none is named."""

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """A model that ships inside the package."""

    name: str
    summary: str
    licence: str
    """SPDX name."""
    paper: str
    sha256: str
    """Of model.safetensors; checked whenever the model is loaded."""
    version: int = 1
    """The newest takes the name and its folder over: ``name`` is that one, ``name@1`` the first, in a folder of this name."""
    kind: Literal["codec", "generator"] = "codec"
    """``ReducioCodec`` loads a codec, ``generate.ReducioDiTPipeline`` a generator."""

    @property
    def folder(self) -> Path:
        return BUNDLED / (self.name if self == find_entry(self.name) else f"{self.name}@{self.version}")


_ENTRIES = (
    ModelEntry(
        name="reducio-lite",
        summary="small motion-latent codec for CPUs: 4096 values a clip of 16x256x256, decoders sharp (default), "
        "attention (the best by PSNR), add, linear (the fastest), none",
        licence="MIT",
        paper="https://arxiv.org/abs/2411.13552",
        sha256="ba1fb747e9f159b5c5895c8bc5fa897c72173a8cf615f0596811f427a107a9fa",
        version=2,
    ),
    ModelEntry(
        name="reducio-test",
        summary="the same network with hardly any channels, 0.3 MB, for tests and examples: decoders attention (default), linear",
        licence="MIT",
        paper="https://arxiv.org/abs/2411.13552",
        sha256="3133c52019255f0065a67c9d22f6ac380b16075434102720337bcfc68f0123af",
        version=2,
    ),
    ModelEntry(
        name=DEFAULT_GENERATOR,
        summary="picture to video on reducio-lite's latents in 4 steps; motion and camera can be asked for (extra [generate])",
        licence="MIT",
        paper="https://arxiv.org/abs/2411.13552",
        sha256="fec90882031a80ef9e32e37f2bf849a3cfae2fc2d480adcdb7728395a13f36c1",
        kind="generator",
    ),
)


def list_models() -> list[ModelEntry]:
    """The models that ship inside the package, in the order in which they are recommended."""
    return list(_ENTRIES)


def find_entry(name: str) -> ModelEntry | None:
    """A bundled model by its name, the newest version of it, or by ``name@version``."""
    plain, _, version = name.partition("@")
    found = [entry for entry in _ENTRIES if entry.name == plain and version in ("", str(entry.version))]
    return max(found, key=lambda entry: entry.version, default=None)


def bundled_name(model: str, *, version: int) -> str | None:
    """The name of the bundled model that an ``.rdc`` file's header means, ``name@version`` for one that isn't the newest;
    None if it isn't bundled."""
    newest, exact = find_entry(model), find_entry(f"{model}@{version}")
    if newest is None:
        return None
    return model if exact is None or exact == newest else f"{model}@{version}"


def resolve(
    name_or_folder: str | Path,
    *,
    revision: str | None = None,
    sha256: str | None = None,
    offline: bool = False,
) -> ModelSource:
    """Find a model: a bundled name, a folder (a training run's stands for the model in it), or ``org/name`` on the Hugging Face
    hub, in this order.

    ``revision`` (a commit, tag or branch) and ``offline`` are for the hub only, ``sha256`` (hex, of model.safetensors)
    for a folder or the hub. Raises WeightsError, with the bundled names, for a name that is none of the three.
    """
    name = str(name_or_folder)
    entry = find_entry(name)
    folder = Path(name_or_folder)
    is_folder = bool(name) and folder.is_dir()  # Path("") would be the current one
    if entry is None and not is_folder and isinstance(name_or_folder, str) and _HUB_NAME.fullmatch(name):
        return fetch(name, revision=revision, sha256=sha256, offline=offline)
    if revision is not None:
        raise InputError(
            f"revision is {revision!r}, but {name!r} isn't an org/name on the hub; only those have revisions"
        )
    if entry is not None:
        if sha256 is not None and sha256.lower() != entry.sha256:
            raise InputError(f"sha256 is {sha256!r}; the bundled {name} has {entry.sha256!r}")
        return ModelSource(folder=entry.folder, id=entry.name, sha256=entry.sha256 or None)
    if is_folder:
        folder = find_model(folder)
        return ModelSource(folder=folder, id=model_name(folder), sha256=sha256)
    bundled = ", ".join(dict.fromkeys(entry.name for entry in _ENTRIES))
    raise WeightsError(f"no model {name!r}: not bundled ({bundled}), not a folder, and not an org/name on the hub")


def load_pretrained(
    name_or_folder: str | Path,
    *,
    decoders: Sequence[str] | str | None = None,
    device: torch.device | str = "cpu",
    dtype: Dtype | None = None,
    revision: str | None = None,
    sha256: str | None = None,
    offline: bool = False,
) -> tuple[CodecModel, ModelInfo]:
    """``resolve`` and ``weights.io.load_model`` in one: ``(model, where it came from)``."""
    from reducio_codec.weights.io import load_model

    source = resolve(name_or_folder, revision=revision, sha256=sha256, offline=offline)
    return load_model(
        source.folder,
        decoders=decoders,
        device=device,
        dtype=dtype,
        model_id=source.id,
        expected_sha256=source.sha256,
    )
