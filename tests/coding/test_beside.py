"""Writing runs beside decoding; whatever goes wrong on either side ends the other and leaves no file."""

from __future__ import annotations

import io
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from reducio_codec import ReducioCodec
from reducio_codec.coding.beside import Beside
from reducio_codec.errors import FormatError, ReducioError
from reducio_codec.io.mux import MuxSink
from reducio_codec.io.stages import Stopwatch, stage, timed
from tests.helpers import TinyModel, moving_frames

CODEC = ReducioCodec(TinyModel(), model_id="tiny")


@pytest.fixture
def rdc(tmp_path: Path) -> Path:
    path = tmp_path / "a.rdc"
    CODEC.compress(moving_frames(48, 40, 56), path, keyframe_codec="png", rate=16)
    return path


def only(rdc: Path) -> bool:
    return [path.name for path in rdc.parent.iterdir()] == [rdc.name]


def test_one_list_is_in_work_while_the_next_is_made() -> None:
    seen: list[int] = []
    began, go_on = threading.Event(), threading.Event()

    def work(item: int) -> None:
        began.set()
        assert go_on.wait(5)
        seen.append(item)

    with Beside(work) as beside:
        beside.start([1, 2])
        assert began.wait(5) and seen == []  # this thread is free meanwhile
        go_on.set()
        beside.start([3])
        assert seen[:2] == [1, 2]
    assert seen == [1, 2, 3]


def test_errors_of_the_work_are_raised_and_of_the_caller_end_the_work() -> None:
    def fails(item: int) -> None:
        raise ValueError(f"no {item}")

    with pytest.raises(ValueError, match="no 1"), Beside(fails) as beside:
        beside.start([1, 2])
        beside.start([3])
    with pytest.raises(ValueError, match="no 7"), Beside(fails) as beside:
        beside.start([7])
    done: list[int] = []

    def slow(item: int) -> None:
        done.append(item)
        time.sleep(0.05)

    with pytest.raises(KeyError), Beside(slow) as beside:
        beside.start(range(100))
        raise KeyError
    assert len(done) < 5


@pytest.mark.parametrize("call", [2, 20, 47])
def test_what_the_writer_meets_is_the_callers_error(call: int, rdc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    real = MuxSink._frame

    def full(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls > call:
            raise OSError(28, "No space left on device")
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(MuxSink, "_frame", full)
    with pytest.raises(ReducioError, match="no space left"):
        CODEC.decompress(rdc, rdc.parent / "a.mp4")
    assert only(rdc)


def test_a_damaged_clip_leaves_no_file(rdc: Path) -> None:
    data = bytearray(rdc.read_bytes())
    data[len(data) * 3 // 4] ^= 255
    rdc.write_bytes(data)
    with pytest.raises(FormatError):
        CODEC.decompress(rdc, rdc.parent / "a.mp4")
    assert only(rdc)


def test_ctrl_c_twice_while_the_writer_is_busy(rdc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, busy, again = MuxSink.write, [False], []

    def slow(*arguments: object) -> None:
        busy[0] = True
        if not again:
            again.append(True)
            for wait in (0.2, 0.4):
                threading.Timer(wait, os.kill, (os.getpid(), signal.SIGINT)).start()
            time.sleep(0.8)
        real(*arguments)  # type: ignore[arg-type]
        busy[0] = False

    def aborted(sink: MuxSink) -> None:
        assert not busy[0]
        end(sink)

    end = MuxSink.abort
    monkeypatch.setattr(MuxSink, "write", slow)
    monkeypatch.setattr(MuxSink, "abort", aborted)
    with pytest.raises(KeyboardInterrupt):
        CODEC.decompress(rdc, rdc.parent / "a.mp4")
    assert only(rdc)


def test_pipes_are_written_here_so_that_ctrl_c_ends_a_reader_that_waits(rdc: Path) -> None:
    threads: set[str] = set()

    class Sink(io.BytesIO):
        def write(self, data: object) -> int:
            threads.add(threading.current_thread().name)
            return super().write(data)  # type: ignore[arg-type]

    CODEC.decompress(rdc, Sink())
    assert threads == {threading.main_thread().name}


# ------------------------------------------------------------------ where time goes


def test_time_counts_once_for_the_innermost_stage_of_each_thread() -> None:
    def items() -> Iterator[int]:
        time.sleep(0.05)
        with stage("colour"):
            time.sleep(0.1)
        yield 1

    def work(_item: int) -> None:
        with stage("writing"):
            time.sleep(0.2)

    with Stopwatch() as watch, Beside(work) as beside:
        for item in timed(items(), "reading"):
            time.sleep(0.05)  # the caller's own
            beside.start([item])
        beside.finish()
    found = {name: seconds for name, seconds in watch.seconds.items() if seconds}
    assert set(found) == {"reading", "colour", "writing", "waiting"}
    for name, seconds in {"reading": 0.05, "colour": 0.1, "writing": 0.2, "waiting": 0.2}.items():
        assert 0.8 * seconds < found[name] < seconds + 0.1, (name, found)
    with stage("network"):
        pass
    assert watch.seconds["network"] == 0  # nobody asks any more


def test_stages_of_a_file_there_and_back(rdc: Path, make_video: Callable[..., Path]) -> None:
    source = make_video(frames=20)
    with Stopwatch() as watch:
        CODEC.compress(source, rdc)
    assert all(watch.seconds[name] > 0 for name in ("reading", "network", "key frames", "colour", "writing"))
    assert sum(watch.seconds.values()) <= watch.so_far()
    with Stopwatch() as watch:
        CODEC.decompress(rdc, rdc.parent / "a.mp4")
    assert all(seconds > 0 for seconds in watch.seconds.values()), watch.seconds
    assert np.all(np.array(list(watch.seconds.values())) <= watch.so_far())
