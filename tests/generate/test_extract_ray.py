"""Shards by Ray Data, on a local cluster of two workers, one of which is killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reducio_codec.errors import MissingDependencyError
from reducio_codec.generate.extract.extraction import extract
from reducio_codec.generate.extract.maker import Encoders
from reducio_codec.generate.extract.options import ExtractOptions
from tests.helpers import moving_video
from tests.train.conftest import write_video

OPTIONS = ExtractOptions(size=64, distance=1, shard_samples=2)


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    import ray

    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 << 20,
        runtime_env={"env_vars": {"PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"}},
    )
    yield
    ray.shutdown()


def workers() -> list[int]:
    """Processes of Ray that hold a shard maker."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if words.startswith(b"ray::") and b"_Worker" in words:
            found.append(int(path.parent.name))
    return found


@pytest.mark.timeout(900)  # seconds on an idle machine; minutes where its processes wait for a core to start on
def test_a_killed_worker_costs_nothing(cluster: None, codec_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(2):
        write_video(folder / f"{number}.mkv", moving_video(25, 64, 64, seed=number))
    encoders = Encoders(codec=str(codec_folder), threads=1)
    extract(folder, out=tmp_path / "local", options=OPTIONS, encoders=encoders, cache=tmp_path / "cache")
    killed: list[int] = []

    def kill_one() -> None:
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline and not killed:
            if len(list((tmp_path / "ray").glob("*.tar"))) >= 2 and (found := workers()):
                os.kill(found[0], signal.SIGKILL)
                killed.append(found[0])
            time.sleep(0.01)

    watcher = threading.Thread(target=kill_one)
    watcher.start()
    report = extract(
        folder,
        out=tmp_path / "ray",
        options=OPTIONS,
        encoders=encoders,
        cache=tmp_path / "cache",
        workers=2,
        runner="ray",
    )
    watcher.join()
    assert killed
    assert report.written == report.shards == 10
    for path in (tmp_path / "local").glob("*.tar"):
        assert path.read_bytes() == (tmp_path / "ray" / path.name).read_bytes()
    assert not list((tmp_path / "ray").glob(".*.tmp"))


def test_without_ray(monkeypatch: pytest.MonkeyPatch, codec_folder: Path, tmp_path: Path) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    write_video(tmp_path / "a.mkv", moving_video(16, 64, 64))
    with pytest.raises(MissingDependencyError, match=r"pip install 'reducio-codec\[ray\]'"):
        extract(
            tmp_path,
            out=tmp_path / "out",
            options=OPTIONS,
            encoders=Encoders(codec=str(codec_folder)),
            runner="ray",
        )
