"""Processes that do jobs: what fails, dies, warns or is interrupted."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from reducio_codec.errors import InputError, VideoError
from reducio_codec.folders.pool import Advanced, Event, Failed, Finished, Report, Warned, run_jobs


def start_working(folder: Path) -> Callable[[str, Report], Any]:
    """Each process leaves its number in ``folder``."""
    (folder / f"{os.getpid()}.pid").touch()
    return partial(work, folder)


def work(folder: Path, job: str, report: Report) -> Any:
    report(1, 2)
    if job == "bad":
        raise VideoError("bad can't be read")
    if job == "odd":
        raise UnportableError("one", 2)
    if job == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if job == "gone":
        os._exit(3)
    if job == "warns":
        logging.getLogger("reducio_codec.some").warning("careful with %s", job)
        warnings.warn("twice careful", stacklevel=1)
        print("no data")
    if job == "long":
        try:
            (folder / "half").touch()
            while True:
                time.sleep(0.01)
                report(1, 2)
        finally:
            (folder / "half").unlink()
    return job.upper()


class UnportableError(Exception):
    """Can't be built again from its message, as some of FFmpeg's can't."""

    def __init__(self, one: str, two: int) -> None:
        super().__init__(f"{one}, {two}")


def refuse_to_start() -> Callable[[str, Report], Any]:
    raise InputError("decoder is 'x'; allowed: y")


def events(*jobs: str, folder: Path, processes: int) -> list[Event]:
    return list(run_jobs(jobs, start=partial(start_working, folder), processes=processes))


def test_what_fails_stops_nothing_else(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    jobs = ("a", "bad", "odd", "killed", "gone", "warns", "b")
    found = events(*jobs, folder=tmp_path, processes=2)
    ends = {event.job: event for event in found if isinstance(event, Finished | Failed)}
    assert set(ends) == set(jobs) and len([e for e in found if isinstance(e, Finished | Failed)]) == len(jobs)
    assert {job: end.result for job, end in ends.items() if isinstance(end, Finished)} == {
        "a": "A",
        "warns": "WARNS",
        "b": "B",
    }
    errors = {job: end.error for job, end in ends.items() if isinstance(end, Failed)}
    assert type(errors["bad"]) is VideoError and str(errors["bad"]) == "bad can't be read"
    assert str(errors["odd"]) == "UnportableError: one, 2"
    assert "SIGKILL (out of memory?)" in str(errors["killed"]) and "exit code 3" in str(errors["gone"])
    assert "raise VideoError" in next(
        end.trace for end in ends.values() if end.job == "bad" and isinstance(end, Failed)
    )
    assert [(e.done, e.total) for e in found if isinstance(e, Advanced) and e.job == "a"] == [(1, 2)]
    told = [event.message for event in found if isinstance(event, Warned) and event.job == "warns"]
    assert told == ["careful with warns", "twice careful"]
    assert capfd.readouterr().out == ""  # somebody's data may go there
    assert 3 <= len(list(tmp_path.glob("*.pid"))) <= 4  # two, and one for each that died while there were jobs


def test_no_more_processes_than_jobs(tmp_path: Path) -> None:
    assert len(events("a", folder=tmp_path, processes=5)) == 2
    assert len(list(tmp_path.glob("*.pid"))) == 1
    assert events(folder=tmp_path, processes=2) == []


def test_what_is_wrong_for_all_is_told_once() -> None:
    with pytest.raises(InputError, match="decoder is 'x'"):
        list(run_jobs(["a", "b", "c"], start=refuse_to_start, processes=2))


def test_an_end_in_the_middle_clears_up(tmp_path: Path) -> None:
    running = run_jobs(["long", "a"], start=partial(start_working, tmp_path), processes=1)
    assert isinstance(next(running), Advanced)
    while not (tmp_path / "half").exists():
        time.sleep(0.01)
    began = time.monotonic()
    running.close()
    assert time.monotonic() - began < 60  # it doesn't sleep on
    assert not (tmp_path / "half").exists()
    (number,) = (int(path.stem) for path in tmp_path.glob("*.pid"))
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


WAITING = """
from functools import partial
from pathlib import Path
from reducio_codec.folders.pool import run_jobs
from reducio_codec.io.termination import exit_on_sigterm
from tests.folders.test_pool import start_working

if __name__ == "__main__":
    exit_on_sigterm()
    list(run_jobs(["long"], start=partial(start_working, Path.cwd()), processes=1))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_processes_end_with_the_one_that_started_them(tmp_path: Path, number: signal.Signals, code: int) -> None:
    (tmp_path / "waiting.py").write_text(WAITING)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    with subprocess.Popen([sys.executable, "waiting.py"], cwd=tmp_path, env=environment) as process:
        while not (tmp_path / "half").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        assert process.wait(60) == code
    deadline = time.monotonic() + 60
    while (tmp_path / "half").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not (tmp_path / "half").exists()
