"""Tiles and clips that are computed at once: in order, as they are alone, and nothing is left running."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from reducio_codec.codec import ReducioCodec
from reducio_codec.config import TilingConfig
from reducio_codec.errors import InputError
from reducio_codec.io.stages import Stopwatch, stage
from reducio_codec.io.threads import in_threads
from tests.helpers import moving_video


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(1)


def test_results_come_in_order_and_as_many_run_as_are_allowed() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def job(item: int) -> tuple[int, int]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.05 if item % 3 == 0 else 0.01)
        with lock:
            running -= 1
        return item, torch.get_num_threads()

    assert list(in_threads(job, range(8), most=2)) == [(item, 2) for item in range(8)]
    assert most == 2
    assert list(in_threads(job, range(8), most=100)) == [(item, 1) for item in range(8)]
    assert torch.get_num_threads() == 4
    assert list(in_threads(job, range(2), most=1)) == [(0, 4), (1, 4)]
    assert list(in_threads(job, [], most=4)) == []


def test_threads_that_begin_later_have_as_many_as_before() -> None:
    seen: list[int] = []
    for _ in in_threads(lambda item: item, range(4), most=4):
        thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        thread.start()
        thread.join()
    assert seen == [4] * 4 and torch.get_num_threads() == 4


def test_items_are_taken_when_there_is_a_thread_for_them() -> None:
    taken: list[int] = []

    def items(count: int) -> Iterator[int]:
        for item in range(count):
            taken.append(item)
            yield item

    ahead = [max(taken) - found for found in in_threads(lambda item: item, items(10), most=3)]
    assert max(ahead) == 3 and taken == list(range(10))
    assert list(in_threads(lambda item: item, items(1), most=3)) == [0]
    assert list(in_threads(lambda item: item, items(0), most=3)) == []

    def broken() -> Iterator[int]:
        yield 0
        raise InputError("no more")

    with pytest.raises(InputError, match="no more"):
        list(in_threads(lambda item: item, broken(), most=3))
    assert torch.get_num_threads() == 4


def test_an_error_comes_in_its_turn_and_ends_all() -> None:
    done: list[int] = []

    def job(item: int) -> int:
        if item == 2:
            raise InputError("the third")
        done.append(item)
        return item

    found = in_threads(job, range(100), most=2)
    assert [next(found), next(found)] == [0, 1]
    with pytest.raises(InputError, match="the third"):
        next(found)
    ended = list(done)
    time.sleep(0.05)
    assert done == ended and len(done) < 6


def test_given_up_nothing_runs_any_more() -> None:
    done: list[int] = []

    def job(item: int) -> int:
        time.sleep(0.01)
        done.append(item)
        return item

    before = threading.active_count()
    found = in_threads(job, range(100), most=4)
    next(found)
    found.close()
    assert threading.active_count() == before and len(done) < 12
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("inference", [True, False])
def test_gradients_and_inference_are_the_callers(grad: bool, inference: bool) -> None:
    with torch.inference_mode(inference), torch.set_grad_enabled(grad):
        target = torch.zeros(4)

        def job(place: int) -> tuple[bool, bool]:
            target[place] = 1  # of a tensor of inference outside of it an error
            return torch.is_grad_enabled(), torch.is_inference_mode_enabled()

        expected = (torch.is_grad_enabled(), inference)
        assert set(in_threads(job, range(4), most=2)) == {expected}
    assert target.sum() == 4


def test_a_stopwatch_runs_on() -> None:
    def job(item: int) -> None:
        with stage("network"):
            time.sleep(0.02)

    with Stopwatch() as watch:
        list(in_threads(job, range(4), most=2))
    assert watch.seconds["network"] >= 0.08 and watch.seconds["waiting"] > 0


def test_tiles_and_clips_are_what_they_are_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = ReducioCodec.from_pretrained("reducio-lite", tile_size=96)
    assert codec.tiling.tile_threads > 1
    seen: set[int] = set()
    for name in ("encode", "decode"):
        real = getattr(codec.runner, f"_{name}")

        def noted(*given: object, real: object = real, **options: object) -> object:
            seen.add(threading.get_ident())
            return real(*given, **options)  # type: ignore[operator]

        monkeypatch.setattr(codec.runner, f"_{name}", noted)
    for frames, size in ((16, 160), (40, 64)):  # several tiles; several clips of one
        video = torch.from_numpy(moving_video(frames, size, size)).permute(3, 0, 1, 2)[None]
        found = []
        for threads in (1, 4):
            torch.set_num_threads(threads)
            seen.clear()
            latent, keyframe = codec.encode(video)
            found.append((latent, codec.decode(latent, keyframe)))
            assert (len(seen) > 1) == (threads > 1)
        for alone, together in zip(*found, strict=True):
            assert torch.allclose(alone, together, atol=1e-4)


def test_where_operations_are_counted_all_are_the_callers() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    codec = ReducioCodec.from_pretrained("reducio-lite", tile_size=96)
    latent, keyframe = torch.zeros(1, 16, 4, 5, 5), torch.zeros(1, 3, 160, 160)
    counts = []
    for threads in (1, 4):
        torch.set_num_threads(threads)
        with FlopCounterMode(display=False) as counter:
            codec.decode(latent, keyframe)
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


def test_tiles_at_once_are_a_whole_number() -> None:
    with pytest.raises(InputError, match="tile_threads is 0"):
        TilingConfig(tile_threads=0)
