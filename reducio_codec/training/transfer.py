"""Tensors on their way to the device: the host never waits for what the device still does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

Batch = TypeVar("Batch")


def map_tensors(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    """A dataclass with every tensor in it changed, in dataclasses inside it as well."""
    changed: dict[str, Any] = {}
    for field in fields(batch):  # type: ignore[arg-type]  # a dataclass
        value = getattr(batch, field.name)
        if isinstance(value, Tensor):
            changed[field.name] = change(value)
        elif is_dataclass(value) and not isinstance(value, type):
            changed[field.name] = map_tensors(value, change)
    return replace(batch, **changed)  # type: ignore[type-var]


def to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A copy that is queued on the device, of pinned memory where that is needed for it."""
    device = torch.device(device)
    if device.type == tensor.device.type:
        return tensor.to(device)
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)  # no copy where it is pinned already
    return tensor.to(device)
