"""A transformer as a folder: config.json and model.safetensors, as every model of this package (``weights.io``)."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from reducio_codec.errors import InputError, WeightsError
from reducio_codec.generate.config import DiTConfig
from reducio_codec.generate.dit import ReducioDiT
from reducio_codec.models.precision import Dtype, as_dtype
from reducio_codec.weights.io import FORMAT, aligned, check_kinds, file_sha256, save_model
from reducio_codec.weights.layout import CONFIG_FILE, TENSOR_FILE, read_document


def save_dit(model: ReducioDiT, folder: str | Path, *, card: str, dtype: Dtype | None = None) -> Path:
    """Write ``model`` into ``folder`` (made if missing); ``dtype`` is what floats are stored as. Returns the folder."""
    return save_model(model, folder, card=card, dtype=dtype)


def read_config(folder: str | Path) -> DiTConfig:
    """The configuration of a transformer's folder.

    Raises:
        WeightsError: there is none, it is damaged, or it is another kind of model's.
    """
    path = Path(folder) / CONFIG_FILE
    if not path.is_file():
        raise WeightsError(f"{folder} has no {CONFIG_FILE}; a model folder holds {CONFIG_FILE} and {TENSOR_FILE}")
    document = read_document(path)
    architecture, layout = document.pop("architecture", None), document.pop("format", None)
    document.pop("version", None)  # it says which of several the model is, and not what it is made of
    if architecture != DiTConfig.architecture:
        what = f"a codec ({architecture})" if architecture in ("lite", "reducio") else f"{architecture!r:.60}"
        raise WeightsError(f"{path}: architecture is {what}; a transformer's is {DiTConfig.architecture!r}")
    if layout != FORMAT:
        raise WeightsError(f"{path}: format is {layout!r:.60}; this version reads {FORMAT}")
    document.setdefault("embeddings", "first")  # a folder that doesn't say is of the first models
    try:
        return DiTConfig.from_json(document)
    except (InputError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: {error}") from error


def load_dit(
    folder: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: Dtype = torch.float32,
    expected_sha256: str | None = None,
) -> ReducioDiT:
    """The transformer of a folder, in eval mode. Every key and shape must be what its configuration builds.

    Raises:
        WeightsError: a file is missing or damaged; the message names the first key that doesn't fit.
    """
    path, kind = Path(folder) / TENSOR_FILE, as_dtype(dtype)
    config = read_config(folder)
    if not path.is_file():
        raise WeightsError(f"{folder} has no {TENSOR_FILE}; a model folder holds {CONFIG_FILE} and {TENSOR_FILE}")
    digest = file_sha256(path) if expected_sha256 is not None else None
    if expected_sha256 is not None and digest != expected_sha256.lower():
        raise WeightsError(f"{path} is damaged or another file: sha256 {digest}, not {expected_sha256}")
    with torch.device("meta"):  # random values that the file replaces would cost seconds
        model = ReducioDiT(config)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is damaged or not a safetensors file: {error}") from error
    expected = model.state_dict()
    for key in expected:
        if key not in tensors:
            raise WeightsError(f"{path}: {key} is missing")
        if tensors[key].shape != expected[key].shape:
            raise WeightsError(
                f"{path}: {key} has shape {tuple(tensors[key].shape)}; the configuration needs "
                f"{tuple(expected[key].shape)}"
            )
    unknown = sorted(set(tensors) - set(expected))
    if unknown:
        raise WeightsError(f"{path}: {unknown[0]:.100} isn't part of this model ({len(unknown)} such keys)")
    check_kinds(path, tensors, expected=expected)
    state = {key: aligned(tensors[key].to(device, kind)) for key in expected}
    model.load_state_dict(state, strict=True, assign=True)
    return model.requires_grad_(False).eval()
