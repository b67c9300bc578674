"""Which number format a model computes in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from reducio_codec.config import DTYPES
from reducio_codec.errors import InputError

NAMES: dict[str, torch.dtype] = {name: getattr(torch, own) for name, own in DTYPES.items()}

Dtype = torch.dtype | Literal["float32", "fp32", "bfloat16", "bf16", "float16", "fp16"]
"""What every ``dtype`` argument takes: torch's own, or its name."""


def as_dtype(dtype: Dtype) -> torch.dtype:
    """float32, bfloat16 or float16, by torch's own dtype or by its name; InputError for others."""
    return _named(dtype, allowed=_ALLOWED)


def resolve_dtype(dtype: Dtype | Literal["auto"], *, device: torch.device) -> torch.dtype:
    """As ``as_dtype``; ``"auto"`` is bfloat16 where the device multiplies it natively and float32 otherwise.

    float16 is never chosen: its range is too small for the activations of such models, which overflow to NaN.
    """
    if dtype == "auto":
        return torch.bfloat16 if _has_bfloat16(device) else torch.float32
    return _named(dtype, allowed=f"'auto', {_ALLOWED}")


_ALLOWED = ", ".join([*map(repr, NAMES), *map(str, dict.fromkeys(NAMES.values()))])


def _named(dtype: Any, *, allowed: str) -> torch.dtype:
    found = NAMES.get(dtype) if isinstance(dtype, str) else dtype
    if found not in NAMES.values():
        raise InputError(f"dtype is {dtype!r}; allowed: {allowed}")
    assert isinstance(found, torch.dtype)
    return found


def fast_autocast(device: torch.device) -> torch.autocast:
    """The fastest number format as a context, for what needn't be exact: the gradients of a search."""
    dtype = resolve_dtype("auto", device=device)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


def exact(device: torch.device) -> AbstractContextManager[object]:
    """A context for what bfloat16 would spoil: float32 whatever is in force around it. Where no autocast is, nothing at all:
    then what is exported holds nothing of it."""
    if not torch.is_autocast_enabled(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def in_float32(layer: nn.Module, x: Tensor) -> Tensor:
    """What a layer makes of ``x`` in float32, also where its weights are stored as something smaller: for use in ``exact``."""
    if all(weight.dtype == torch.float32 for weight in layer.parameters()):
        found: Tensor = layer(x)
        return found
    weights = {name: weight.float() for name, weight in layer.named_parameters()}
    wide: Tensor = torch.func.functional_call(layer, weights, (x,))
    return wide


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        # emulated on a CPU without these, bfloat16 is slower than float32
        probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(bool(getattr(torch.cpu, probe, lambda: False)()) for probe in probes)
    return False


def resolve_device(device: torch.device | str) -> torch.device:
    """A device that exists here."""
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        available = "cpu, cuda" if torch.cuda.is_available() else "cpu"
        raise InputError(f"device {device!r} can't be used here; available: {available}") from error
    return found
