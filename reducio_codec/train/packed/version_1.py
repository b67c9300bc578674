"""Weights of the small model's first version, where this one starts from them: a state dict is all that is needed.

That version had the decoders ``warp`` (one reference) and ``bidirectional`` (what a second one adds to it).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from reducio_codec.models.lite.model import ReducioLite


def is_version_1(state: Mapping[str, Tensor]) -> bool:
    """Whether these are weights of that version."""
    return "decoders.warp.out_4.weight" in state


def from_version_1(state: Mapping[str, Tensor], model: ReducioLite) -> dict[str, Tensor]:
    """A state dict for ``model``: version 1's tensors where there is the same part; what is new, as ``linear`` is, keeps the
    start that it has.

    ``warp`` becomes what is done with one reference, and ``bidirectional`` what the second one adds.
    """
    result = dict(model.state_dict())
    for key, fresh in result.items():
        if key.startswith("decoders.linear."):  # nothing in that version was built alike
            continue
        value = _ancestor(key, state)
        if value is not None:
            result[key] = _fitted(value, fresh)
        elif ".blocks_" in key and ".conv2." in key:  # a block more than version 1 had: it starts as the identity
            result[key] = torch.zeros_like(fresh)
    return result


def _ancestor(key: str, state: Mapping[str, Tensor]) -> Tensor | None:
    part, _, rest = key.partition(".")
    if part in ("encoder", "latent_mean", "latent_std"):
        return state[key]
    if part in ("code", "trunk"):
        return state[f"decoders.warp.{'trunk.' if part == 'trunk' else ''}{rest}"]
    if part != "decoders":
        return None
    name, _, rest = rest.partition(".")
    if name == "none":
        return state[key]
    if not rest.startswith("second."):
        return state.get(f"decoders.warp.{rest}")
    return state.get(f"decoders.bidirectional.{rest.removeprefix('second.')}")


def _fitted(old: Tensor, new: Tensor) -> Tensor:
    """Without what version 1 searched in the second reference, guess 1 of 0, 1, 2: no input for it, and no output."""
    if old.shape == new.shape:
        return old.to(new.dtype)
    if old.shape[0] != new.shape[0]:  # flow_8: a share for each guess, then the correction
        keep = [0, 2, *range(3, old.shape[0])]
        return old[keep].to(new.dtype)
    first = old.shape[1] - 13  # in_8: features, 3 flows, own flow, 3 errors, mismatch, time
    keep = [*range(first + 2), *range(first + 4, first + 9), first + 10, *range(first + 11, old.shape[1])]
    return old[:, keep].to(new.dtype)
