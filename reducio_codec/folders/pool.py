"""Jobs done by processes, one job at a time each. A job that fails, and even a process that dies, stops no other."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import sys
import threading
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from reducio_codec.errors import ReducioError
from reducio_codec.io.termination import exit_on_sigterm

_PATIENCE_S = 30
"""How long a process that shall end may take to clear up; a clip at most."""

_SPAWN = multiprocessing.get_context("spawn")  # a fork of a process with threads of FFmpeg and torch can hang


@dataclass(frozen=True, kw_only=True)
class Advanced:
    """A job came a step further."""

    job: Any
    done: int
    total: int | None


@dataclass(frozen=True, kw_only=True)
class Warned:
    """Something about a job that its user should know."""

    job: Any
    message: str


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A job is done; ``result`` is what its function gave."""

    job: Any
    result: Any


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A job can't be done."""

    job: Any
    error: Exception
    trace: str
    """Where in the program it happened, in Python's words."""


Event = Advanced | Warned | Finished | Failed
Report = Callable[[int, int | None], None]
"""Called with what is done of a job and, where that is known, what there is in all."""
Work = Callable[[Any, Report], Any]
"""Does a job."""


def run_jobs(jobs: Sequence[Any], *, start: Callable[[], Work], processes: int) -> Generator[Event, None, None]:
    """Events of the jobs as they happen, each job's last one ``Finished`` or ``Failed``.

    Closing the iterator, Ctrl-C and SIGTERM end the processes, which take away what they have written by half.

    Args:
        jobs: what can be pickled.
        start: called once in each process, gives the function that does a job there. Can be pickled.
        processes: at most so many, never more than jobs.

    Raises:
        Exception: what ``start`` raised: then no job can be done.
    """
    waiting = deque(jobs)
    running: list[_Worker] = []
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                running.append(_Worker(start, job=waiting.popleft()))
            ready = wait([worker.connection for worker in running])
            for worker in [worker for worker in running if worker.connection in ready]:
                event = worker.receive()
                yield event
                if isinstance(event, Finished | Failed):
                    if waiting and worker.alive:
                        worker.give(waiting.popleft())
                    else:
                        running.remove(worker)
                        worker.leave()
    finally:
        _stop(running)


@dataclass(eq=False)
class _Worker:
    """A process, as seen from the one that started it."""

    start: Callable[[], Work]
    job: Any
    alive: bool = True
    connection: Connection = field(init=False)
    process: SpawnProcess = field(init=False)

    def __post_init__(self) -> None:
        self.connection, theirs = _SPAWN.Pipe()
        self.process = _SPAWN.Process(target=_serve, args=(theirs, self.start))
        with _ctrl_c_ignored():
            self.process.start()
        theirs.close()
        self.give(self.job)

    def give(self, job: Any) -> None:
        self.job = job
        with suppress(BrokenPipeError):  # it has died, which receive() finds out
            self.connection.send(job)

    def receive(self) -> Event:
        try:
            kind, *rest = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.alive = False
            self.process.join()
            return Failed(job=self.job, error=ReducioError(_why(self.process.exitcode)), trace="")
        if kind is None:
            raise rest[0]
        event: Event = kind(job=self.job, **rest[0])
        return event

    def leave(self) -> None:
        """No more jobs: it ends by itself."""
        self.connection.close()
        self.process.join()


def _why(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"its process was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"its process ended with exit code {code}"


def _stop(workers: Sequence[_Worker]) -> None:
    """End processes in the middle of their work, and wait until they have cleared up."""
    try:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join(_PATIENCE_S)
    finally:  # they take too long, or somebody presses Ctrl-C again
        for worker in workers:
            worker.process.kill()


@contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    """For a process that is started meanwhile, from its first instruction on: Ctrl-C is for the one that waits for it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


# ---------------------------------------------------------------------- in the process


def _serve(connection: Connection, start: Callable[[], Work]) -> None:
    """Jobs from the connection, one by one, until nobody is at its other end."""
    exit_on_sigterm()
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        _listen(connection)
        try:
            work = start()
        except Exception as error:
            connection.send((None, _portable(error)))
            return
        while True:
            job = connection.recv()
            try:
                result = work(job, _reporter(connection))
            except (BrokenPipeError, ConnectionResetError):
                return  # who started this has gone
            except Exception as error:
                connection.send((Failed, {"error": _portable(error), "trace": traceback.format_exc()}))
            else:
                connection.send((Finished, {"result": result}))


def _reporter(connection: Connection) -> Report:
    def report(done: int, total: int | None) -> None:
        connection.send((Advanced, {"done": done, "total": total}))

    return report


def _portable(error: Exception) -> Exception:
    """What arrives at the other end as it is here: errors of other libraries needn't."""
    if type(error).__module__ in ("builtins", ReducioError.__module__):
        return error
    return RuntimeError(f"{type(error).__name__}: {error}")


def _listen(connection: Connection) -> None:
    """Warnings of this process are told to the other."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            connection.send((Warned, {"message": record.getMessage()}))

    def show(message: Warning | str, *_args: Any, **_more: Any) -> None:
        connection.send((Warned, {"message": str(message)}))

    logging.getLogger("reducio_codec").addHandler(Handler(logging.WARNING))
    warnings.showwarning = show
    sys.stdout = sys.stderr  # standard output may be somebody's data
