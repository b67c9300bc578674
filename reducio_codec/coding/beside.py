"""Work on one thing in a thread while the next one is made: writing beside decoding."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from contextvars import copy_context
from types import TracebackType
from typing import Generic, Self, TypeVar

from reducio_codec.io.stages import stage

Item = TypeVar("Item")


class Beside(Generic[Item]):
    """``with Beside(work) as beside:`` calls ``work`` with each item of every list that is started, in another thread.

    One list is in work while the caller makes the next, never more. What ``work`` raises is raised in the caller by the next
    ``start`` or ``finish``. Where the block ends by an error, Ctrl-C included, the item that is in work is the last. When
    the block has ended nothing runs any more.
    """

    def __init__(self, work: Callable[[Item], object]) -> None:
        self._work = work
        # Thread.join is no way to wait: interrupted, Python 3.11 takes the thread for ended
        self._through = threading.Event()
        self._through.set()
        self._error: BaseException | None = None
        self._stopped = False
        self._lists: queue.SimpleQueue[Iterable[Item] | None] = queue.SimpleQueue()
        self._running = False

    def start(self, items: Iterable[Item]) -> None:
        """Waits for the list before."""
        self.finish()
        self._through.clear()
        if not self._running:  # one thread for all lists: each new one would take memory of its own
            context = copy_context()  # a stopwatch runs on there
            threading.Thread(target=context.run, args=(self._run,), daemon=True).start()
            self._running = True
        self._lists.put(items)

    def finish(self) -> None:
        """Waits until all is done."""
        with stage("waiting"):
            self._through.wait()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (items := self._lists.get()) is not None:
            self._do(items)
            del items  # it must not be held until the next one comes
            self._through.set()
        self._through.set()

    def _do(self, items: Iterable[Item]) -> None:
        try:
            for item in items:
                if self._stopped:
                    return
                self._work(item)
        except BaseException as error:  # for the caller, whatever it is
            self._error = error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.finish()
        finally:
            self._end()

    def _end(self) -> None:
        self._stopped = True
        self._lists.put(None)
        while self._running and not self._through.is_set():
            try:
                self._through.wait()
            except (KeyboardInterrupt, SystemExit):
                continue  # once more: it must not make the caller close what the thread still uses
