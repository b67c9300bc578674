"""Shards by Ray Data: the same work on the machines of a cluster. A worker that dies is replaced, its shard made again."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from typing import Any

from reducio_codec.errors import MissingDependencyError, ReducioError
from reducio_codec.generate.extract.maker import ShardMaker, ShardResult
from reducio_codec.generate.extract.plan import Shard


class _Worker:
    """An actor's work: one row, one shard."""

    def __init__(self) -> None:
        self._maker: ShardMaker | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        # the set-up travels in the row: an actor that is started again finds no arguments of its first start
        if self._maker is None:
            self._maker = ShardMaker(**row["setup"])
        return {"result": self._maker(row["shard"])}


def run_on_ray(shards: Sequence[Shard], *, setup: dict[str, Any], workers: int) -> Iterator[ShardResult]:
    """Results as they come, in any order. A cluster that is connected to is used, else one is started here."""
    try:
        ray = importlib.import_module("ray")
        data = importlib.import_module("ray.data")
    except ImportError as error:
        raise MissingDependencyError(f"--runner ray needs ray ({error}): pip install 'reducio-codec[ray]'") from error
    own = not ray.is_initialized()
    if own:
        ray.init(log_to_driver=False, include_dashboard=False)
    try:
        data.DataContext.get_current().enable_progress_bars = False
        rows = data.from_items([{"shard": shard, "setup": setup} for shard in shards], override_num_blocks=len(shards))
        # actors restart and retry without end by default
        made = rows.map(_Worker, compute=data.ActorPoolStrategy(size=min(workers, len(shards))))
        for row in made.iter_rows():
            yield row["result"]
    except ray.exceptions.RayError as error:
        raise ReducioError(f"Ray gave up: {_cause(error)}; finished shards are kept") from error
    finally:
        if own:
            ray.shutdown()


def _cause(error: BaseException) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
