"""Items of a dataset in an order of their own each epoch, shared out over workers and processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
import torch.distributed
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info

from reducio_codec.config import check_whole
from reducio_codec.errors import InputError

Item = TypeVar("Item", covariant=True)
_MOST = (1 << 63) - 1


class Source(Protocol[Item]):
    """A dataset with items by number that says in what order they are best taken."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Item: ...

    def shuffled(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """All numbers once."""
        ...


class Stream(IterableDataset[Item]):
    """An iterable dataset: every epoch each item comes once, in one worker of one process.

    Each process gets the same number of items, so that none waits for another in the end: with several processes those that
    are left over, fewer than processes, sit an epoch out. Workers of a process share its items.

    Args:
        source: where the items come from; it must be picklable for workers that are spawned.
        shuffle: a new order each epoch, the same in all processes and workers; False: by number.
        seed: of the orders, from 0 on.
        part: ``(number, count)`` of the processes: which of how many this one is. By default what ``torch.distributed`` says,
            when the stream is iterated or its workers start.
    """

    def __init__(self, source: Source[Item], *, shuffle: bool, seed: int, part: tuple[int, int] | None) -> None:
        check_whole(seed, name="seed", most=_MOST)
        if part is not None:
            _check_part(part)
        self._source, self._shuffle, self._seed, self._part = source, shuffle, seed, part
        # in memory that workers share: those that persist hear of the next epoch, too
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Which order comes next, from 0 on: call it before each epoch, in every process. Without it all are alike."""
        self._epoch.fill_(check_whole(epoch, name="epoch", most=_MOST))

    def __len__(self) -> int:
        """Items of this process in an epoch, over all its workers."""
        return len(self._source) // self._place()[1]

    def __iter__(self) -> Iterator[Item]:
        count = len(self._source)
        order = np.arange(count)
        if self._shuffle:
            order = self._source.shuffled(np.random.default_rng((self._seed, int(self._epoch))))
        process, processes = self._place()
        worker = get_worker_info()
        number, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        share = count // processes
        first = process * share
        for place in order[first + share * number // workers : first + share * (number + 1) // workers]:
            yield self._source[int(place)]

    def __getstate__(self) -> dict[str, Any]:
        """For a worker that is spawned, which can't ask ``torch.distributed``."""
        return {**self.__dict__, "_part": self._place()}

    def _place(self) -> tuple[int, int]:
        if self._part is not None:
            return self._part
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return 0, 1


def _check_part(part: Any) -> None:
    whole = isinstance(part, tuple | list) and len(part) == 2 and all(type(value) is int for value in part)
    if not whole or not 0 <= part[0] < part[1]:
        raise InputError(f"part is {part!r}; allowed: (number, count) with number from 0 to count - 1")
