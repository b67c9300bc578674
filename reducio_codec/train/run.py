"""What every training run has while it lives, whatever it trains: how it is made, saved and read back, and its steps."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from reducio_codec.errors import InputError, MissingDependencyError, ReducioError
from reducio_codec.train.checkpoint import Checkpoints, Progress
from reducio_codec.train.monitor import Monitor
from reducio_codec.train.recipe import OptimizerOptions, RunOptions
from reducio_codec.train.schedule import rate_factor

_AVERAGE_FILE = "ema.safetensors"
_SHARDS_FOLDER = "pytorch_model_fsdp_0"
"""accelerate's name for a model in shards."""

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Run:
    """A model, what it learns with, and where it is."""

    options: RunOptions
    learning: OptimizerOptions
    accelerator: Any
    model: nn.Module
    """Not wrapped."""
    average: nn.Module | None
    whole: nn.Module | None
    """Where the weights are in shards (FSDP): a copy that has them whole, in the first process, since ``gather``."""
    objective: Any
    optimizer: Any
    progress: Progress
    checkpoints: Checkpoints
    monitor: Monitor
    profile: bool
    times: dict[str, float] = field(default_factory=dict)
    sums: dict[str, float] = field(default_factory=dict)
    counted: int = 0

    @property
    def device(self) -> torch.device:
        return cast(torch.device, self.accelerator.device)

    @property
    def shown(self) -> nn.Module:
        """The weights that are validated and exported; ``gather`` comes first."""
        return next(model for model in (self.average, self.whole, self.model) if model is not None)

    def gather(self) -> None:
        """Bring ``shown`` up to date where the weights are in shards. All processes take part."""
        if not is_sharded(self.accelerator):
            return
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        state = get_model_state_dict(self.objective, options=options)
        if self.whole is not None:
            self.whole.load_state_dict({name: state[f"model.{name}"] for name in self.whole.state_dict()})

    def count(self, parts: dict[str, Tensor]) -> None:
        """Add the losses of one batch to the means of the next line of the log."""
        for name, value in parts.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)
        self.counted += 1

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Adds the time of a part of the step; accelerators are waited for only where somebody asked (``profile``)."""
        began = time.perf_counter()
        yield
        if self.profile and self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.times[name] = self.times.get(name, 0.0) + time.perf_counter() - began


def make_accelerator(run: RunOptions, learning: OptimizerOptions, *, unused: bool) -> Any:
    """``unused``: whether parameters can be left without a gradient at a step."""
    try:
        from accelerate import Accelerator
        from accelerate.utils import DistributedDataParallelKwargs
    except ImportError as error:
        raise MissingDependencyError(
            f"training needs accelerate ({error}): pip install 'reducio-codec[train]'"
        ) from error
    accelerator = Accelerator(
        mixed_precision="bf16" if run.precision == "bf16" else "no",
        gradient_accumulation_steps=run.accumulate,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=unused)],
    )
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


def to_channels_last(model: nn.Module) -> None:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in model.parameters():
        if parameter.ndim in formats:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.ndim])


def make_optimizer(model: nn.Module, options: OptimizerOptions) -> torch.optim.Optimizer:
    """Over all parameters that learn."""
    fast: list[nn.Parameter] = []
    slow: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_slow = options.slow_layers and any(part.startswith(options.slow_layers) for part in name.split("."))
            (slow if is_slow else fast).append(parameter)
    groups = [
        {"params": parameters, "scale": scale}
        for parameters, scale in ((fast, 1.0), (slow, options.slow_factor))
        if parameters
    ]
    if not groups:
        raise InputError("nothing learns: train.freeze and train.decoders leave no parameter")
    kind = torch.optim.AdamW if options.kind == "adamw" else torch.optim.Adam
    betas = (options.betas[0], options.betas[1])
    return kind(groups, lr=options.learning_rate, betas=betas, weight_decay=options.weight_decay)


def write_state(run: Run, folder: Path) -> None:
    """Model, optimisers and random states, by accelerate; the average beside them."""
    run.accelerator.wait_for_everyone()
    run.accelerator.save_state(str(folder))
    run.accelerator.wait_for_everyone()  # each process writes a part; the folder is renamed when the last one has
    if run.average is not None and run.accelerator.is_main_process:
        save_file({key: value.contiguous() for key, value in run.average.state_dict().items()}, folder / _AVERAGE_FILE)


def load_state(run: Run, folder: Path) -> None:
    shards = (folder / _SHARDS_FOLDER).is_dir()
    if shards != is_sharded(run.accelerator):
        raise InputError(f"{folder} was written {'with' if shards else 'without'} FSDP; go on in the same way")
    try:
        run.accelerator.load_state(str(folder))
        if run.average is not None:
            run.average.load_state_dict(load_file(folder / _AVERAGE_FILE))
            for target, source in zip(run.average.buffers(), run.model.buffers(), strict=True):
                target.copy_(source)
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        raise ReducioError(f"the checkpoint {folder} can't be read: {str(error).splitlines()[0]}") from error


def set_rate(run: Run, *, share: float) -> None:
    """The learning rate of the step that comes."""
    factor = rate_factor(run.learning, step=run.progress.step, share=share)
    for group in run.optimizer.param_groups:
        group["lr"] = run.learning.learning_rate * factor * group["scale"]


def update(run: Run, optimizer: Any, module: Any, *, clip_norm: float, check: Callable[[Tensor], None]) -> None:
    """A step of ``optimizer``. ``check`` is given the norm of the gradients of all processes."""
    if run.accelerator.sync_gradients:
        check(run.accelerator.clip_grad_norm_(module.parameters(), clip_norm or math.inf))
    optimizer.step()
    optimizer.zero_grad()


def check_finite(value: Tensor, *, names: tuple[str, ...], step: int) -> None:
    """ReducioError with the ``names`` of a batch's clips where its loss, or the gradient's norm, isn't finite."""
    if not torch.isfinite(value).all():
        raise ReducioError(
            f"the loss isn't finite at step {step}; its clips: {', '.join(names)}. The last checkpoint is kept"
        )


def follow(run: Run) -> None:
    """The average goes a little way to the weights."""
    if run.average is None:
        return
    step = run.progress.step
    weight = 1 - min(run.learning.ema, (2 + step) / (11 + step))
    with run.timed("average"), torch.no_grad():
        for target, source in zip(run.average.parameters(), run.model.parameters(), strict=True):
            if source.requires_grad:
                target.lerp_(source, weight)
