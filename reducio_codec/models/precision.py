"""Which number format a model computes in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from reducio_codec.errors import InputError

ALLOWED = (torch.float32, torch.bfloat16, torch.float16)


def resolve_dtype(dtype: torch.dtype | Literal["auto"], *, device: torch.device) -> torch.dtype:
    """``"auto"`` is bfloat16 where the device multiplies it natively and float32 otherwise.

    float16 is never chosen: its range is too small for the activations of such models, which overflow to NaN.
    """
    if dtype == "auto":
        return torch.bfloat16 if _has_bfloat16(device) else torch.float32
    if dtype not in ALLOWED:
        raise InputError(f"dtype is {dtype!r}; allowed: 'auto', {', '.join(str(item) for item in ALLOWED)}")
    return dtype


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
