"""accelerate around a run: precision, processes, shards."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from reducio_codec.errors import InputError, MissingDependencyError
from reducio_codec.training.options import OptimizerOptions, RunOptions


@contextmanager
def accelerated(run: RunOptions, learning: OptimizerOptions, *, unused: bool) -> Iterator[Any]:
    """accelerate's object for one run. It keeps its precision for the whole process; here the next run has its own.

    Args:
        unused: whether parameters can be left without a gradient at a step.

    Raises:
        InputError: somebody else uses accelerate in this process, in another way; or FSDP as it doesn't work here.
    """
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
        from accelerate.utils import DistributedDataParallelKwargs
    except ImportError as error:
        raise MissingDependencyError(
            f"training needs accelerate ({error}): pip install 'reducio-codec[train]'"
        ) from error
    ours = not AcceleratorState._shared_state
    try:
        yield _make_accelerator(Accelerator, run, learning, unused=unused, kwargs=DistributedDataParallelKwargs)
    finally:
        if ours:
            AcceleratorState._reset_state()


def _make_accelerator(kind: Any, run: RunOptions, learning: OptimizerOptions, *, unused: bool, kwargs: Any) -> Any:
    try:
        accelerator = kind(
            mixed_precision="bf16" if run.precision == "bf16" else "no",
            gradient_accumulation_steps=run.accumulate,
            kwargs_handlers=[kwargs(find_unused_parameters=unused)],
        )
    except ValueError as error:
        if "already been initialized" not in str(error):
            raise
        raise InputError(
            f"run.precision is {run.precision!r}, but this process uses accelerate already in another precision; "
            "train in a process of its own"
        ) from error
    if is_sharded(accelerator):
        if not accelerator.is_fsdp2:
            raise InputError(
                "FSDP is asked for in its version 1; only version 2 works here (accelerate's fsdp_version: 2)"
            )
        if learning.ema:
            raise InputError(f"optimizer.ema is {learning.ema}; with FSDP it must be 0: the average isn't sharded")
        # autocast says what runs in bfloat16, as without FSDP; whole weights in it would break what stays in float32
        accelerator.state.fsdp_plugin.mixed_precision_policy = None
    return accelerator


def is_sharded(accelerator: Any) -> bool:
    """Whether each process holds a part of the weights only (FSDP)."""
    return str(accelerator.distributed_type).endswith("FSDP")


def prepare(
    accelerator: Any, module: nn.Module, optimizer: torch.optim.Optimizer, *, layers: str = ""
) -> tuple[Any, Any]:
    """Both as accelerate wants them.

    Args:
        layers: class of the modules that FSDP gathers one by one, where accelerate's configuration names none; empty for a
            small module, which is gathered as a whole.
    """
    module._no_split_modules = [layers] if layers else []  # type: ignore[assignment]  # accelerate's name for them
    if is_sharded(accelerator) and not layers:
        accelerator.state.fsdp_plugin.transformer_cls_names_to_wrap = []  # what it has kept of the module before
    try:
        prepared: tuple[Any, Any] = accelerator.prepare(module, optimizer)
    except ValueError as error:
        if not is_sharded(accelerator):
            raise
        raise InputError(
            f"FSDP as it is configured doesn't go with this model: {str(error).splitlines()[0]}"
        ) from error
    return prepared


def shown_copies(
    model: nn.Module, accelerator: Any, learning: OptimizerOptions
) -> tuple[nn.Module | None, nn.Module | None]:
    """``Run.average`` and ``Run.whole``, made before the model goes into shards; None for what isn't needed."""
    sharded = is_sharded(accelerator)

    def copied(needed: bool) -> nn.Module | None:
        return copy.deepcopy(model).eval().requires_grad_(False).to(accelerator.device) if needed else None

    return copied(learning.ema > 0), copied(sharded and accelerator.is_main_process)
