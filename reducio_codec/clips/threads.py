"""Several pieces of work at once on a CPU, each by its share of torch's threads.

A network of small tensors on two threads mostly waits: for each other at the end of every operation, and for what runs on one
thread between them. Two pieces at once, each on a thread of its own, take two thirds of the time that one after the other do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from itertools import islice
from typing import TypeVar

import torch

from reducio_codec.io.stages import stage

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(job: Callable[[Item], Result], items: Sequence[Item], *, most: int) -> Iterator[Result]:
    """What ``job`` makes of each item, in order: up to ``most`` of them at once, or as many as torch has threads.

    Of torch's modes, which are each thread's own, those of gradients and inference are the caller's in a job; others, such as
    autocast, aren't. What a job raises is raised when it is its turn. When the iterator ends or is given up, nothing runs on.
    """
    threads = torch.get_num_threads()
    workers = min(most, threads, len(items))
    if workers < 2:
        yield from map(job, items)
        return
    grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()

    def run(item: Item) -> Result:
        with torch.inference_mode(inference), torch.set_grad_enabled(grad):
            return job(item)

    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads // workers,))
    try:
        # a stopwatch runs on there
        started: Iterator[Future[Result]] = (pool.submit(copy_context().run, run, item) for item in items)
        waiting = deque(islice(started, workers))
        while waiting:
            with stage("waiting"):
                result = waiting.popleft().result()
            waiting.extend(islice(started, 1))
            yield result
            del result  # not to be held while the next one is made
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # for threads that begin later: the last to set a number sets it for them
