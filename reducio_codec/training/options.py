"""What every recipe says, whatever is trained: how the network learns, and how long, how exact, how often saved.

The attribute docstrings are what ``--options`` prints.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, Literal

from reducio_codec.errors import InputError

StoredType = Literal["float16", "bfloat16", "float32"]
"""What the weights of a finished model are stored as."""


def check(name: str, value: Any, good: bool, allowed: str) -> None:
    """Raise InputError unless ``good``."""
    if not good:
        raise InputError(f"{name} is {value!r}; it must be {allowed}")


def check_idle(section: str, options: Any, names: tuple[str, ...], *, why: str) -> None:
    """Refuse options that were changed and have no effect; ``why`` completes the sentence."""
    defaults = {field.name: field.default for field in fields(options)}
    for name in names:
        value = getattr(options, name)
        assert defaults[name] is not MISSING
        if value != defaults[name]:
            raise InputError(f"{section}.{name} is {value!r}, but {why}; it has no effect")


@dataclass(frozen=True, kw_only=True)
class OptimizerOptions:
    """How the model learns."""

    kind: Literal["adam", "adamw"] = "adam"
    """adam, or adamw, whose weight decay isn't scaled by the gradient."""
    learning_rate: float = 4e-5
    """Learning rate at its highest (Tab. 9: 4e-5)."""
    betas: tuple[float, ...] = (0.5, 0.9)
    """Betas of Adam."""
    weight_decay: float = 0.0
    """Weight decay."""
    clip_norm: float = 0.0
    """Largest norm of the gradient; 0: not limited."""
    slow_layers: tuple[str, ...] = ()
    """Layers whose name begins with one of these learn at slow_factor of the rate."""
    slow_factor: float = 0.1
    """Share of the learning rate that slow_layers have."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """How the learning rate falls over the run, after the warm-up."""
    warmup: int = 0
    """Steps in which the learning rate rises."""
    final: float = 0.01
    """Share of the learning rate that is left at the end of a cosine or linear schedule."""
    ema: float = 0.999
    """Decay of the moving average of the weights, which is validated and exported; it rises from 0.2 at the first steps.
    0: the weights themselves."""

    def __post_init__(self) -> None:
        check("optimizer.learning_rate", self.learning_rate, self.learning_rate > 0, "above 0")
        good = len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
        check("optimizer.betas", self.betas, good, "two in [0, 1)")
        for name in ("weight_decay", "clip_norm", "warmup"):
            check(f"optimizer.{name}", getattr(self, name), getattr(self, name) >= 0, "0 or more")
        check("optimizer.slow_factor", self.slow_factor, 0 < self.slow_factor <= 1, "above 0, at most 1")
        check("optimizer.final", self.final, 0 <= self.final <= 1, "in 0 to 1")
        check("optimizer.ema", self.ema, 0 <= self.ema < 1, "in [0, 1)")
        if not self.slow_layers:
            check_idle("optimizer", self, ("slow_factor",), why="optimizer.slow_layers is empty")
        if self.schedule == "constant":
            check_idle("optimizer", self, ("final",), why="optimizer.schedule is 'constant'")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How long, how exact, how often saved."""

    steps: int = 0
    """Steps of the whole run, over all resumes; give this or minutes."""
    minutes: float = 0.0
    """Minutes of training of the whole run, over all resumes. Such a run depends on the machine's speed."""
    seed: int = 0
    """Seed of everything random. Clips and noise are a function of the seed, the step and the place in the batch."""
    precision: Literal["float32", "bf16"] = "float32"
    """What the model computes in; weights stay float32."""
    accumulate: int = 1
    """Batches whose gradients are added up for one step."""
    total_batch: int = 0
    """Clips of one step over all processes, instead of accumulate: as many batches are added up as make it, however many
    processes there are. 0: accumulate says."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    channels_last: bool = False
    """Memory layout of the weights: faster convolutions on most machines."""
    checkpoint_steps: int = 1000
    """Save every so many steps; 0: not by steps."""
    checkpoint_minutes: float = 5.0
    """Save every so many minutes; 0: not by time."""
    validate_steps: int = 0
    """Validate every so many steps; 0: not by steps. The end of the run is always validated."""
    validate_minutes: float = 0.0
    """Validate every so many minutes; 0: not by time."""
    log_steps: int = 50
    """Write mean losses to the log every so many steps."""

    def __post_init__(self) -> None:
        if (self.steps > 0) == (self.minutes > 0):
            raise InputError(f"run.steps is {self.steps} and run.minutes {self.minutes}; exactly one must be above 0")
        for name in ("checkpoint_steps", "checkpoint_minutes", "validate_steps", "validate_minutes", "seed"):
            check(f"run.{name}", getattr(self, name), getattr(self, name) >= 0, "0 or more")
        for name in ("accumulate", "log_steps"):
            check(f"run.{name}", getattr(self, name), getattr(self, name) >= 1, "at least 1")
        check("run.total_batch", self.total_batch, self.total_batch >= 0, "0 or more")
        if self.total_batch:
            check_idle("run", self, ("accumulate",), why=f"run.total_batch is {self.total_batch}, which decides it")

    def for_processes(self, processes: int, *, batch: int) -> RunOptions:
        """With ``accumulate`` such that so many processes, each with batches of ``batch`` clips, make ``total_batch``.

        Raises:
            InputError: no whole number of batches makes it.
        """
        if not self.total_batch:
            return self
        once = processes * batch
        if self.total_batch % once:
            raise InputError(
                f"run.total_batch is {self.total_batch}; {processes} processes with data.batch {batch} need a multiple of {once}"
            )
        return replace(self, total_batch=0, accumulate=self.total_batch // once)
