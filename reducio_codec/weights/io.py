"""A model as a folder: config.json, model.safetensors, entropy.json (where the model has tables) and a card.

Tensors of a decoder are stored under ``decoders.<name>.``, so one decoder loads without reading the others.
Loading is strict: every key and shape must be what the configuration builds, and nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from reducio_codec.errors import InputError, WeightsError
from reducio_codec.io.files import PendingFile, atomic_write, writing_errors
from reducio_codec.models.contract import CodecModel
from reducio_codec.models.factory import CONFIGS, build_model
from reducio_codec.models.precision import Dtype, as_dtype
from reducio_codec.weights.card import read_licence
from reducio_codec.weights.latent_space import decoding_id, tensors_id
from reducio_codec.weights.layout import CARD_FILE, CONFIG_FILE, ENTROPY_FILE, TENSOR_FILE, model_name, read_document

FORMAT = 1
"""Version of the folder's layout. A reader refuses a larger one."""

SHORT_HASH = 16
"""Hex digits of a hash that reports and ``.rdc`` files name (64 bits tell models apart; they sign nothing)."""


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """Where a loaded model came from, for reports and for the header of an ``.rdc`` file."""

    id: str
    """The name it was asked for by: a bundled name, a folder's name (``model_name``), or ``org/name@commit``."""
    hash: str
    """sha256 (hex) over config.json, model.safetensors and entropy.json."""
    version: int
    """Of the model, counted from 1: what config.json says."""
    latent_space: str
    """Identity of the encoder's latents; see ``weights.latent_space``."""
    latent_hash: str
    """What an ``.rdc`` file depends on: none of the decoders, and nothing of the encoder."""
    folder: Path
    licence: str
    decoders: tuple[str, ...]
    """Decoders that were loaded, the default first."""
    parameters: int
    """Parameters that were loaded."""

    @property
    def short_hash(self) -> str:
        return self.hash[:SHORT_HASH]

    @property
    def entropy_file(self) -> Path | None:
        """The latent coder's tables, or None where the model has none."""
        path = self.folder / ENTROPY_FILE
        return path if path.is_file() else None


def save_model(
    model: nn.Module,
    folder: str | Path,
    *,
    card: str,
    dtype: Dtype | None = None,
    entropy: Mapping[str, Any] | bytes | None = None,
    version: int = 1,
) -> Path:
    """Write ``model`` into ``folder`` (made if missing) and return the folder.

    ``card`` is the text of its README.md, ``dtype`` what floating-point tensors are stored as (None: as they are),
    ``entropy`` the latent coder's tables (bytes: as another model's file has them; None: it has none, and those of a model that
    was there before are removed), ``version`` the model's. The configuration is written last: a killed run leaves no
    loadable half.
    """
    target = Path(folder)
    with writing_errors(target):
        target.mkdir(parents=True, exist_ok=True)
    kind = None if dtype is None else as_dtype(dtype)
    tensors = {key: _stored(value, dtype=kind) for key, value in model.state_dict().items()}
    config = cast(Any, model).config
    document = {"architecture": config.architecture, "format": FORMAT, "version": version, **config.to_json()}
    _write_tensors(target / TENSOR_FILE, tensors)
    if entropy is None:
        with writing_errors(target):
            (target / ENTROPY_FILE).unlink(missing_ok=True)
    elif isinstance(entropy, bytes):
        with atomic_write(target / ENTROPY_FILE) as file:
            file.write(entropy)
    else:
        _write_text(target / ENTROPY_FILE, json.dumps(entropy, separators=(",", ":"), sort_keys=True))
    _write_text(target / CARD_FILE, card.rstrip("\n"))
    _write_text(target / CONFIG_FILE, _config_text(document).rstrip("\n"))
    return target


def load_model(
    folder: str | Path,
    *,
    decoders: Sequence[str] | str | None = None,
    device: torch.device | str = "cpu",
    dtype: Dtype | None = None,
    model_id: str | None = None,
    expected_sha256: str | None = None,
) -> tuple[CodecModel, ModelInfo]:
    """Read a model folder: ``(model in eval mode on device, where it came from)``.

    ``decoders`` names the ones to read, or one (None: all). Stored floats become float32, or ``dtype`` where given.
    ``expected_sha256`` is what model.safetensors must hash to. Raises WeightsError for a missing or damaged file, an
    unknown architecture or format, and for the first key that is missing, unknown or of another shape.
    """
    source, kind = Path(folder), torch.float32 if dtype is None else as_dtype(dtype)
    for name in (CONFIG_FILE, TENSOR_FILE):
        if not (source / name).is_file():
            raise WeightsError(f"{source} has no {name}; a model folder holds {CONFIG_FILE} and {TENSOR_FILE}")
    digest = file_sha256(source / TENSOR_FILE)
    if expected_sha256 is not None and digest != expected_sha256.lower():
        raise WeightsError(f"{source / TENSOR_FILE} is damaged or another file: sha256 {digest}, not {expected_sha256}")
    model, skipped = _empty_model(source / CONFIG_FILE, decoders=decoders)
    tensors = _read_tensors(source / TENSOR_FILE, model=model, skipped=skipped)
    latent_space = tensors_id(tensors, model.config)
    tables = source / ENTROPY_FILE
    latent_hash = decoding_id(tensors, model.config, tables=file_sha256(tables) if tables.is_file() else None)
    state = {key: _loaded(value, device=device, dtype=kind) for key, value in tensors.items()}
    model.load_state_dict(state, strict=True, assign=True)
    _assert_no_meta(model)
    model.requires_grad_(False).eval()
    info = ModelInfo(
        id=model_name(source) if model_id is None else model_id,
        hash=_model_hash(source, tensor_digest=digest),
        version=read_version(source / CONFIG_FILE),
        latent_space=latent_space,
        latent_hash=latent_hash,
        folder=source,
        licence=read_licence(source),
        decoders=model.decoder_names,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )
    return model, info


def file_sha256(path: Path) -> str:
    """sha256 of a file, hex."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"can't read {path}: {error.strerror}") from error


def _model_hash(folder: Path, *, tensor_digest: str) -> str:
    """One hash for everything that changes what a file decodes to: the card is not part of it."""
    total = hashlib.sha256()
    document = read_document(folder / CONFIG_FILE)
    document.pop("version", None)  # a number that says when the rest was made
    config = hashlib.sha256(_config_text(document).encode()).hexdigest()
    for name in (CONFIG_FILE, TENSOR_FILE, ENTROPY_FILE):
        if (folder / name).is_file():
            digest = {CONFIG_FILE: config, TENSOR_FILE: tensor_digest}.get(name) or file_sha256(folder / name)
            total.update(f"{name} {digest}\n".encode())
    return total.hexdigest()


def _empty_model(path: Path, *, decoders: Sequence[str] | str | None) -> tuple[CodecModel, tuple[str, ...]]:
    """The model that a config.json describes, on the meta device, and the decoders that were left out."""
    config_class, fields = _read_config(path)
    try:
        config = config_class.from_json(fields)
    except (InputError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: {error}") from error
    known = tuple(config.decoders)
    wanted = known if decoders is None else (decoders,) if isinstance(decoders, str) else tuple(decoders)
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        asked = repr(unknown[0]) if unknown else "no decoder"
        raise InputError(f"{asked} was asked for; this model has: {', '.join(known)}")
    kept = tuple(name for name in known if name in wanted)
    with torch.device("meta"):  # random values that the file replaces would cost seconds
        model = build_model(replace(config, decoders=kept))
    return model, tuple(name for name in known if name not in kept)


def read_version(path: Path) -> int:
    """The model's version that a config.json states, 1 where it states none."""
    version = read_document(path).get("version", 1)
    if type(version) is not int or not 1 <= version < 1 << 31:
        raise WeightsError(f"{path}: version is {version!r:.60}; allowed: whole numbers from 1")
    return version


def _read_config(path: Path) -> tuple[Any, dict[str, Any]]:
    """Configuration class and configuration values of a config.json."""
    document = read_document(path)
    document.pop("version", None)
    layout = document.pop("format", None)
    if layout != FORMAT:
        hint = "; a newer reducio-codec wrote it" if isinstance(layout, int) and layout > FORMAT else ""
        raise WeightsError(f"{path}: format is {layout!r:.60}; this version reads {FORMAT}{hint}")
    architecture = document.pop("architecture", None)
    if isinstance(architecture, str) and architecture in CONFIGS:
        return CONFIGS[architecture], document
    if architecture == "dit":
        raise WeightsError(f"{path}: this is a generator's transformer, not a codec; ReducioDiTPipeline loads it")
    raise WeightsError(f"{path}: architecture is {architecture!r:.60}; known: {', '.join(CONFIGS)}")


def _read_tensors(path: Path, *, model: nn.Module, skipped: Iterable[str]) -> dict[str, Tensor]:
    """The tensors that ``model`` has as they are stored, checked key by key before any is read."""
    expected = model.state_dict()
    prefixes = tuple(f"decoders.{name}." for name in skipped)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            stored = set(file.keys())
            _check_keys(path, stored=stored, expected=expected, skipped=prefixes)
            for key, tensor in expected.items():
                shape = tuple(file.get_slice(key).get_shape())
                if shape != tuple(tensor.shape):
                    raise WeightsError(
                        f"{path}: {key} has shape {shape}; the configuration needs {tuple(tensor.shape)}"
                    )
            found = {key: file.get_tensor(key) for key in expected}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is damaged or not a safetensors file: {error}") from error
    check_kinds(path, found, expected=expected)
    return found


def check_kinds(path: Path, tensors: Mapping[str, Tensor], *, expected: Mapping[str, Tensor]) -> None:
    """WeightsError where whole numbers are stored for floating-point ones, or the other way round."""
    for key, tensor in tensors.items():
        if tensor.is_floating_point() != expected[key].is_floating_point() or tensor.is_complex():
            kind, right = (str(value.dtype).removeprefix("torch.") for value in (tensor, expected[key]))
            raise WeightsError(f"{path}: {key} is stored as {kind}, which can't be used as {right}")


def _check_keys(path: Path, *, stored: set[str], expected: Mapping[str, Tensor], skipped: tuple[str, ...]) -> None:
    missing = [key for key in expected if key not in stored]
    if missing:
        raise WeightsError(f"{path}: {missing[0]} is missing ({len(missing)} of {len(expected)} keys are)")
    unknown = sorted(key for key in stored - set(expected) if not key.startswith(skipped))
    if unknown:
        raise WeightsError(f"{path}: {unknown[0]:.100} isn't part of this model ({len(unknown)} such keys)")


def _stored(value: Tensor, *, dtype: torch.dtype | None) -> Tensor:
    target = dtype if dtype is not None and value.is_floating_point() else value.dtype
    # Own memory for each: safetensors refuses tensors that share storage.
    return value.detach().to(device="cpu", dtype=target, copy=True).contiguous()


def _loaded(value: Tensor, *, device: torch.device | str, dtype: torch.dtype) -> Tensor:
    return aligned(value.to(device=device, dtype=dtype) if value.is_floating_point() else value.to(device=device))


def aligned(value: Tensor) -> Tensor:
    """``value``, copied where it doesn't lie as torch lays tensors of its own on a CPU: what is mapped from a file begins at any
    byte, and with such weights some CPUs' convolutions take other ways and give other last bits."""
    return value.clone() if value.device.type == "cpu" and value.data_ptr() % _ALIGNMENT else value


_ALIGNMENT = 64
"""Bytes, torch's own."""


def _assert_no_meta(model: nn.Module) -> None:
    left = [name for name, buffer in model.named_buffers() if buffer.is_meta]
    # A buffer outside the state dict would hold no values: models keep such tables in it, or make them on use.
    assert not left, f"{type(model).__name__}.{left[0]} isn't in the state dict, so it can't be loaded"


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    pending = PendingFile(path)
    try:
        with writing_errors(path):
            save_file(dict(tensors), pending.temporary, metadata={"format": "pt"})
            pending.temporary.chmod(0o666 & ~_umask())  # safetensors makes it readable for its owner alone
        pending.commit()
    finally:
        pending.discard()


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current


def _config_text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def _write_text(path: Path, text: str) -> None:
    with atomic_write(path) as file:
        file.write(f"{text}\n".encode())
