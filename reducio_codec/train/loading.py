"""Batches in order, prepared ahead by worker processes: torch's DataLoader around the sampler's plans."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from reducio_codec.errors import ReducioError, VideoError
from reducio_codec.train.render import render, render_neighbours
from reducio_codec.train.sampling import ClipSampler
from reducio_codec.train.store import FrameStore

_ATTEMPTS = 20


@dataclass(frozen=True, kw_only=True)
class ClipKey:
    """Which clip a worker is to make."""

    step: int
    index: int
    """Place in the whole batch of the step, over all processes and accumulated batches."""
    stage: int
    side: int


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Clips of one process for one backward pass."""

    video: Tensor
    """(B, 3, 16, side, side) uint8."""
    keyframe: Tensor
    """(B, 3, side, side) uint8, as the decoder will have it."""
    keyframe_index: Tensor
    """(B,) int64."""
    neighbours: Tensor | None
    """(B, 2, 3, side, side) uint8, key frames of the clips before and after, as the decoder will have them; None unless
    the recipe has them."""
    present: Tensor | None
    """(B, 2) bool: which of those there are."""
    step: int
    indices: tuple[int, ...]
    """Places of the clips in the step's whole batch."""
    stage: int
    names: tuple[str, ...]
    """The video of each clip, and its first frame."""
    failures: tuple[str, ...]
    """Videos that couldn't be read any more, for which others were taken; with the reason."""


Item = tuple[ClipKey, Tensor, Tensor, int, str, tuple[str, ...], tuple[Tensor, Tensor] | None]


class ClipDataset(Dataset[Item]):
    """Makes clips of keys. A video that can't be read any more is replaced by the next attempt's draw."""

    def __init__(self, sampler: ClipSampler, store: FrameStore, *, codec: str) -> None:
        self._sampler, self._store, self._codec = sampler, store, codec

    def __getitem__(self, key: ClipKey) -> Item:
        failures: list[str] = []
        for attempt in range(_ATTEMPTS):
            plan = self._sampler.plan(key.step, key.index, side=key.side, attempt=attempt)
            name = self._sampler.videos[plan.video].name
            try:
                video, keyframe = render(self._store, plan, codec=self._codec)
                around = render_neighbours(self._store, plan, codec=self._codec) if self._sampler.neighbours else None
            except (ReducioError, OSError) as error:
                failures.append(f"{name}: {error}")
                continue
            name = f"{name} (frame {plan.frames[0]})"
            return key, video, keyframe, plan.keyframe_index, name, tuple(failures), around
        raise VideoError(f"{_ATTEMPTS} clips in a row couldn't be read; the last: {failures[-1]}")


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


def collate(items: list[Item]) -> Batch:
    keys, videos, keyframes, places, names, failures, around = zip(*items, strict=True)
    neighbours, present = (None, None) if around[0] is None else map(torch.stack, zip(*around, strict=True))
    return Batch(
        video=torch.stack(videos),
        keyframe=torch.stack(keyframes),
        keyframe_index=torch.tensor(places),
        neighbours=neighbours,
        present=present,
        step=keys[0].step,
        indices=tuple(key.index for key in keys),
        stage=keys[0].stage,
        names=names,
        failures=tuple(reason for reasons in failures for reason in reasons),
    )


def load_batches(
    dataset: Dataset[Any],
    batches: PlannedBatches,
    *,
    workers: int,
    pinned: bool,
    collate: Callable[[list[Any]], Any] = collate,
) -> Iterator[Any]:
    """Batches in their order, of items that ``collate`` joins.

    Raises:
        ReducioError: a worker died. It is noticed within seconds.
    """
    loader = DataLoader(
        dataset,
        batch_sampler=batches,
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
        raise ReducioError(
            f"a process that prepares clips has died ({reason}); "
            "the last checkpoint is kept, the same command goes on from it; data.workers = 0 does without such processes"
        ) from error


def _quiet_worker(_number: int) -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the training process, which ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
