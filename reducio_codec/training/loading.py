"""Batches in order, prepared ahead by worker processes: torch's DataLoader around plans of what comes when."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from reducio_codec.errors import ReducioError

_MOTION_LIMIT = 9.0
"""Motion counts as at most so many medians, and at least one median over so much."""


def motion_weights(motion: npt.NDArray[np.floating], *, power: float) -> npt.NDArray[np.float64]:
    """How often clips with this much motion are drawn, in relation to each other: (N,) to (N,)."""
    median = max(float(np.median(motion)), 1e-3)
    return np.asarray(np.clip(motion / median, 1 / _MOTION_LIMIT, _MOTION_LIMIT) ** power, np.float64)


@dataclass(frozen=True, kw_only=True)
class ClipKey:
    """Which clip a worker is to make."""

    step: int
    index: int
    """Place in the whole batch of the step, over all processes and accumulated batches."""
    stage: int
    side: int


class PlannedBatches(Sampler[list[ClipKey]]):
    """Keys of this process's batches from ``first_step`` on, without end.

    Args:
        stage_at: a step to (number of its stage, batch, side). It is asked a few steps ahead.
    """

    def __init__(
        self,
        stage_at: Callable[[int], tuple[int, int, int]],
        *,
        first_step: int,
        accumulate: int,
        rank: int,
        processes: int,
    ) -> None:
        self._stage_at, self._first = stage_at, first_step
        self._accumulate, self._rank, self._processes = accumulate, rank, processes

    def __iter__(self) -> Iterator[list[ClipKey]]:
        step = self._first
        while True:
            stage, batch, side = self._stage_at(step)
            for part in range(self._accumulate):
                first = (part * self._processes + self._rank) * batch
                yield [ClipKey(step=step, index=first + i, stage=stage, side=side) for i in range(batch)]
            step += 1


def load_batches(
    dataset: Dataset[Any],
    batches: PlannedBatches,
    *,
    workers: int,
    pinned: bool,
    collate: Callable[[list[Any]], Any],
) -> Iterator[Any]:
    """Batches of a training in their order; see ``load_items``."""
    return load_items(
        dataset,
        batches,
        workers=workers,
        pinned=pinned,
        collate=collate,
        advice="the last checkpoint is kept, the same command goes on from it; data.workers = 0 does without such processes",
    )


def load_items(
    dataset: Dataset[Any],
    keys: Sampler[Any],
    *,
    workers: int,
    pinned: bool,
    collate: Callable[[list[Any]], Any],
    advice: str,
) -> Iterator[Any]:
    """What ``collate`` makes of the items of each list of keys, in their order.

    Args:
        workers: processes that make items ahead; 0 makes them here.
        pinned: in memory that an accelerator reads by itself.
        advice: the end of the error's text.

    Raises:
        ReducioError: a worker died. It is noticed within seconds.
    """
    loader = DataLoader(
        dataset,
        batch_sampler=keys,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pinned,
        worker_init_fn=_quiet_worker if workers else None,
        # Forking a process that has threads of FFmpeg and torch can hang; a forkserver starts clean.
        multiprocessing_context="forkserver" if workers else None,
        prefetch_factor=2 if workers else None,
    )
    try:
        yield from loader
    except (RuntimeError, EOFError, ConnectionError) as error:
        if isinstance(error, RuntimeError) and "DataLoader" not in str(error):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ReducioError(f"a process that prepares clips has died ({reason}); {advice}") from error


def _quiet_worker(_number: int) -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the training process, which ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
