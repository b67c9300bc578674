"""Several pieces of work at once on a CPU, each by its share of torch's threads.

A network of small tensors on two threads mostly waits: for each other at the end of every operation, and for what runs on one
thread between them. Two pieces at once, each on a thread of its own, take two thirds of the time that one after the other do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from itertools import islice
from operator import length_hint
from threading import Event, Semaphore
from typing import TypeVar

import torch

from reducio_codec.io.stages import stage

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(job: Callable[[Item], Result], items: Iterable[Item], *, most: int) -> Generator[Result]:
    """What ``job`` makes of each item, in order: up to ``most`` of them at once, or as many as torch has threads.

    Items are taken by the caller's thread, each when there is a thread for it. Of torch's modes, which are each thread's own,
    gradients, inference and the CPU's autocast are the caller's in a job; others aren't. What a job raises is raised when it is
    its turn. When the generator ends or is closed, nothing runs on.
    """
    threads = torch.get_num_threads()
    workers = min(most, threads, length_hint(items, most))
    if workers < 2:
        yield from map(job, items)
        return
    grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    casts, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
    counted, go = Semaphore(0), Event()

    def begin() -> None:
        torch.set_num_threads(threads // workers)
        torch.get_num_threads()  # a thread that hasn't asked yet would take the number that is set last
        counted.release()
        go.wait()  # so that a thread begins for each of the first jobs

    def run(item: Item) -> Result:
        with torch.inference_mode(inference), torch.set_grad_enabled(grad), torch.autocast("cpu", dtype, enabled=casts):
            return job(item)

    pool = ThreadPoolExecutor(workers, initializer=begin)
    try:
        # a stopwatch runs on there
        started: Iterator[Future[Result]] = (pool.submit(copy_context().run, run, item) for item in items)
        waiting = deque(islice(started, workers))
        for _ in waiting:
            counted.acquire()
        torch.set_num_threads(threads)  # the number that was set last is that of all threads that begin from now on
        go.set()
        while waiting:
            with stage("waiting"):
                result = waiting.popleft().result()
            waiting.extend(islice(started, 1))
            yield result
            del result  # not to be held while the next one is made
    finally:
        go.set()
        pool.shutdown(cancel_futures=True)
