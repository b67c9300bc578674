"""What the engine asks of a task, and what it gives to it: whoever wants to train something writes such a task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from reducio_codec.training.acceleration import prepare, shown_copies
from reducio_codec.training.checkpoint import Checkpoints, Position, claim_folder
from reducio_codec.training.loading import PlannedBatches, load_batches
from reducio_codec.training.options import OptimizerOptions, RunOptions
from reducio_codec.training.run import Run, make_optimizer, to_channels_last
from reducio_codec.training.run_log import Curve, RunLog


class TrainingBatch(Protocol):
    """Clips or samples of one process for one backward pass."""

    @property
    def names(self) -> tuple[str, ...]:
        """What messages call them."""
        ...

    def to(self, device: torch.device) -> Self:
        """Queued on the device."""
        ...

    def pin_memory(self) -> Self:
        """All tensors in pinned memory; torch's DataLoader asks for it by this name."""
        ...


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one batch. Nothing in it has been read from the device."""

    loss: Tensor
    """Scalar, with gradients."""
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    """Its terms, detached scalars, for the log."""
    then: Callable[[], Mapping[str, Tensor]] | None = None
    """What follows the update, as a discriminator's own step; its terms."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Of a validation."""

    value: float
    """Higher is better."""
    log: Mapping[str, float]
    """By the names of the log."""
    words: str
    """All of it in one line for people."""
    strip: npt.NDArray[np.uint8] | None = None
    """(H, W, 3)."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where a run is to live: what a task builds it with."""

    accelerator: Any
    checkpoints: Checkpoints
    position: Position
    fresh: bool
    """At step 0: nothing is loaded after ``build``."""
    profile: bool
    document: Mapping[str, Any] | None
    """What is written into the folder; None where nothing is."""
    options: RunOptions
    learning: OptimizerOptions

    @property
    def device(self) -> torch.device:
        device: torch.device = self.accelerator.device
        return device

    @property
    def first(self) -> bool:
        """Whether this is the first process, which validates and writes."""
        return bool(self.accelerator.is_main_process)

    def batches(
        self,
        dataset: Dataset[Any],
        *,
        stage_at: Callable[[int], tuple[int, int, int]],
        workers: int,
        collate: Callable[[list[Any]], TrainingBatch],
    ) -> Iterator[Any]:
        """This process's batches from the run's step on; see ``PlannedBatches`` and ``load_batches``."""
        planned = PlannedBatches(
            stage_at,
            first_step=self.position.step,
            accumulate=self.options.accumulate,
            rank=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
        )
        pinned = self.device.type == "cuda"
        return load_batches(dataset, planned, workers=workers, pinned=pinned, collate=collate)

    def make_run(
        self, model: nn.Module, make_loss: Callable[[], nn.Module], *, layers: str, batches: Iterator[Any]
    ) -> Run:
        """The run of ``model``, whose parts that don't learn have no gradients any more.

        Args:
            make_loss: the module around ``model`` that a batch goes through.
            layers: class of the modules that FSDP gathers one by one.
        """
        if self.options.channels_last:
            to_channels_last(model)
        average, whole = shown_copies(model, self.accelerator, self.learning)
        loss, optimizer = prepare(self.accelerator, make_loss(), make_optimizer(model, self.learning), layers=layers)
        return Run(
            options=self.options,
            learning=self.learning,
            accelerator=self.accelerator,
            model=model,
            average=average,
            whole=whole,
            loss=loss,
            optimizer=optimizer,
            batches=batches,
            position=self.position,
            checkpoints=self.checkpoints,
            profile=self.profile,
        )

    def open_log(self) -> RunLog:
        """Claims the folder: last, when nothing can be wrong with the run any more."""
        if self.document is not None:
            claim_folder(self.checkpoints.out, dict(self.document))
        return RunLog(self.checkpoints.out, main=self.first and not self.profile, step=self.position.step)


class Task(Protocol):
    """Something that is trained. The engine calls ``document``, ``build``, then ``step`` and ``validate`` in turns, and at the
    end ``finish``."""

    options: RunOptions
    learning: OptimizerOptions
    curve: Curve
    profile_steps: int
    """Steps of a run that only shows where the time goes."""
    unused: bool
    """Whether parameters can be left without a gradient at a step."""
    validates: bool
    """Whether there is something to validate on."""

    def document(self) -> Mapping[str, Any]:
        """Plain values of all that a run depends on. A run that goes on must have the same."""
        ...

    def build(self, setting: Setting) -> Run:
        """Data, model and loss.

        Raises:
            InputError: the data or the recipe doesn't allow it.
        """
        ...

    def batch_size(self, share: float) -> int:
        """Clips of a process's batch when ``share`` of the run is done."""
        ...

    def step(self, run: Run, batch: Any) -> Cost:
        """What a batch costs, in the run's precision; the engine goes back and updates."""
        ...

    def validate(self, run: Run) -> Verdict:
        """Of ``run.shown``, in eval mode; in the first process alone."""
        ...

    def finish(self, run: Run, folder: Path) -> Path:
        """Write the finished model, ``run.shown``; in the first process alone."""
        ...
