"""Several processes that train one model, as ``torchrun`` starts them: each on batches of its own, their gradients averaged."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class Processes:
    """This one among those that train together."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this one writes the log and the checkpoints."""
        return self.rank == 0

    def seed(self, seed: int) -> int:
        """Another one for every process; of a single process the very same."""
        return seed * self.count + self.rank

    @torch.no_grad()
    def average(self, parameters: Iterable[Tensor]) -> None:
        """Gradients become the means over all processes. A parameter that has none here counts as zero."""
        if self.count == 1:
            return
        gradients = []
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= self.count
        for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def longest(self, seconds: float) -> float:
        """The most that any process says, so that all stop at the same step."""
        if self.count == 1:
            return seconds
        value = torch.tensor(seconds, dtype=torch.float64)
        distributed.all_reduce(value, distributed.ReduceOp.MAX)
        return float(value)


def join() -> Processes:
    """The processes that ``torchrun`` started together; one alone where it started none."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes()
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    atexit.register(distributed.destroy_process_group)
    return Processes(distributed.get_rank(), distributed.get_world_size())
