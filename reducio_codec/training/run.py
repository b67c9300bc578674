"""What every training run has while it lives, whatever it trains: how it is saved and read back, and its updates."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.tensor import DTensor

from reducio_codec.errors import InputError, ReducioError
from reducio_codec.training.acceleration import is_sharded
from reducio_codec.training.checkpoint import Checkpoints, Position
from reducio_codec.training.options import OptimizerOptions, RunOptions
from reducio_codec.training.run_log import RunLog
from reducio_codec.training.schedule import rate_factor
from reducio_codec.training.tally import FiniteCheck, Means

_AVERAGE_FILE = "ema.safetensors"
_SHARDS_FOLDER = "pytorch_model_fsdp_0"
"""accelerate's name for a model in shards."""


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
    loss: Any
    """What a batch costs: a module around ``model``, as accelerate wraps it."""
    optimizer: Any
    batches: Iterator[Any]
    """Of this process, from the step on at which the run is."""
    position: Position
    checkpoints: Checkpoints
    profile: bool
    log: RunLog = field(init=False)
    others: list[Any] = field(default_factory=list)
    """Modules beside ``loss`` that learn, wrapped; a task steps their optimisers itself."""
    times: dict[str, float] = field(default_factory=dict)
    means: Means = field(default_factory=Means)
    finite: FiniteCheck = field(default_factory=FiniteCheck)

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
        state = get_model_state_dict(self.loss, options=options)
        if self.whole is not None:
            self.whole.load_state_dict({name: state[f"model.{name}"] for name in self.whole.state_dict()})

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Adds the time of a part of the step; accelerators are waited for only where somebody asked (``profile``)."""
        began = time.perf_counter()
        yield
        if self.profile and self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.times[name] = self.times.get(name, 0.0) + time.perf_counter() - began


def to_channels_last(model: nn.Module) -> None:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in model.parameters():
        if parameter.ndim in formats:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.ndim])


def make_optimizer(model: nn.Module, options: OptimizerOptions) -> torch.optim.Optimizer:
    """Over all parameters that learn."""
    slow_names = {name for layer in options.slow_layers for name in _layers(model, layer)}
    fast: list[nn.Parameter] = []
    slow: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (slow if name in slow_names else fast).append(parameter)
    unused = [layer for layer in options.slow_layers if not _layers(model, layer)]
    if unused:
        raise InputError(
            f"optimizer.slow_layers names {unused[0]!r}, and no layer that learns begins so; it has no effect"
        )
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


def _layers(model: nn.Module, prefix: str) -> list[str]:
    """Parameters that learn, in layers whose name begins with ``prefix``."""
    named = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    return [name for name in named if any(part.startswith(prefix) for part in name.split("."))]


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
    factor = rate_factor(run.learning, step=run.position.step, share=share)
    for group in run.optimizer.param_groups:
        group["lr"] = run.learning.learning_rate * factor * group["scale"]


def update(run: Run, optimizer: Any, module: Any, *, clip_norm: float, names: tuple[str, ...]) -> None:
    """A step of ``optimizer``, after a batch of the clips ``names``."""
    if run.accelerator.sync_gradients:
        norm = run.accelerator.clip_grad_norm_(module.parameters(), clip_norm or math.inf)  # of all processes
        whole = norm.full_tensor() if isinstance(norm, DTensor) else norm
        run.finite.note(whole, step=run.position.step, names=names)
    optimizer.step()
    optimizer.zero_grad()


def follow(run: Run) -> None:
    """The average goes a little way to the weights."""
    if run.average is None:
        return
    step = run.position.step
    weight = 1 - min(run.learning.ema, (2 + step) / (11 + step))
    with run.timed("average"), torch.no_grad():
        for target, source in zip(run.average.parameters(), run.model.parameters(), strict=True):
            if source.requires_grad:
                target.lerp_(source, weight)
