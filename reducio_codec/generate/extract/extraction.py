"""``extract``: videos to a folder of shards, by processes of this machine or by Ray."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from reducio_codec.errors import InputError, ReducioError
from reducio_codec.generate.extract.maker import Encoders, ShardMaker, ShardResult, read_caption
from reducio_codec.generate.extract.options import ExtractOptions
from reducio_codec.generate.extract.plan import Shard, digest, plan_samples, plan_shards
from reducio_codec.generate.extract.shards import ShardIndex, check_folder, claim_shards, missing_shards
from reducio_codec.training.manifest import find_videos
from reducio_codec.training.scan import CACHE_FOLDER, ScanOptions, Video, scan
from reducio_codec.weights.zoo import list_models, load_pretrained

Progress = Callable[[int, int | None], None]
"""Called with finished shards and shards in all."""

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class ExtractReport:
    """How a call of ``extract`` ended."""

    samples: int
    """That the plan has, over all shards."""
    shards: int
    written: int
    """Shards that this call wrote; the others were there."""
    skipped: list[tuple[str, str]] = field(default_factory=list)
    """(video, reason) that couldn't be used."""
    failures: list[str] = field(default_factory=list)
    """Samples that this call couldn't make, with the reason."""


def extract(
    source: str | Path,
    *,
    out: str | Path,
    options: ExtractOptions,
    encoders: Encoders,
    cache: str | Path | None = None,
    workers: int = 0,
    runner: Literal["local", "ray"] = "local",
    progress: Progress | None = None,
) -> ExtractReport:
    """Write the shards of all videos, or those of them that aren't there yet.

    Args:
        source: a folder of videos, or a CSV or JSONL file that lists them.
        out: a folder of its own; several machines need it, the videos and the cache at one path.
        cache: where decoded videos are kept; ``out/cache`` unless given.
        workers: processes; 0 does the work in this one (not for Ray, where it is the number of actors).
        progress: see ``Progress``.

    Raises:
        InputError: nothing to do, or other shards are in ``out``. ReducioError: a worker died; finished shards are kept.
    """
    out = Path(out)
    check_folder(out)
    encoders = replace(encoders, codec=_name(encoders.codec))
    model, info = load_pretrained(encoders.codec)
    codec = model
    store = options.storage == "disk"
    found = scan(
        find_videos(source),
        cache=out / CACHE_FOLDER if cache is None else Path(cache),
        options=ScanOptions(
            frame_rate=options.frame_rate,
            stored_side=options.stored_side if store else 0,
            store=store,
            find_cuts=options.find_cuts,
        ),
    )
    _check_captions(found.videos, encoders)
    samples = plan_samples(found.videos, options)
    shards = plan_shards(found.videos, samples, count=options.shard_samples)
    if not shards:
        raise InputError(
            f"none of {len(found.videos)} videos has a clip with extract.frame_steps {options.frame_steps}"
        )
    index = ShardIndex(
        codec=encoders.codec,
        latent_space=info.latent_space,
        latent_channels=codec.config.latent_channels,
        temporal_compression_ratio=codec.config.temporal_compression_ratio,
        spatial_compression_ratio=codec.config.spatial_compression_ratio,
        keyframe_index=codec.default_keyframe_index,
        text_encoder=encoders.text_encoder,
        image_encoder=encoders.image_encoder,
        options=asdict(options),
        samples=len(samples),
        plan=digest(samples),
        shards=tuple(shard.name for shard in shards),
    )
    claim_shards(out, index)
    wanted = set(missing_shards(out, index))
    todo = [shard for shard in shards if shard.name in wanted]
    report = ExtractReport(samples=len(samples), shards=len(shards), written=0, skipped=found.skipped)
    del model, codec
    setup = {"out": out.resolve(), "options": options, "encoders": encoders}
    for result in _results(todo, setup=setup, workers=workers, runner=runner):
        report.written += 1
        report.failures += result.failures
        for failure in result.failures:
            _log.warning("left out %s", failure)
        if progress is not None:
            progress(len(shards) - len(todo) + report.written, len(shards))
    for leftover in out.glob(".*.tmp"):  # of processes that were killed: all shards are there now
        leftover.unlink(missing_ok=True)
    return report


def _name(codec: str) -> str:
    """A bundled name or ``org/name`` as it is; a folder wherever this is called from."""
    if any(codec == entry.name for entry in list_models()) or not Path(codec).is_dir():
        return codec
    return str(Path(codec).resolve())


def _check_captions(videos: Sequence[Video], encoders: Encoders) -> None:
    if encoders.text_encoder is None:
        return
    told = sum(1 for video in videos if read_caption(video.path))
    if not told:
        raise InputError(
            f"a text encoder is given, but none of {len(videos)} videos has a caption: a file clip.txt beside clip.mp4"
        )
    if told < len(videos):
        _log.warning("%d of %d videos have no caption", len(videos) - told, len(videos))


def _results(
    shards: Sequence[Shard], *, setup: dict[str, Any], workers: int, runner: Literal["local", "ray"]
) -> Iterator[ShardResult]:
    if not shards:
        return
    if runner == "ray":
        from reducio_codec.generate.extract.ray_runner import run_on_ray

        yield from run_on_ray(shards, setup=setup, workers=max(1, workers))
    elif workers == 0:
        yield from ShardMaker(**setup).make(shards)
    else:
        yield from _in_processes(shards, setup=setup, workers=workers)


_maker: ShardMaker | None = None


def _start(setup: dict[str, Any]) -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits for this one
    global _maker
    _maker = ShardMaker(**setup)


def _work(shard: Shard) -> ShardResult:
    assert _maker is not None
    return _maker(shard)


def _in_processes(shards: Sequence[Shard], *, setup: dict[str, Any], workers: int) -> Iterator[ShardResult]:
    # forking a process that has threads of FFmpeg and torch can hang
    context = multiprocessing.get_context("forkserver")
    pool = ProcessPoolExecutor(min(workers, len(shards)), mp_context=context, initializer=_start, initargs=(setup,))
    try:
        for done in as_completed([pool.submit(_work, shard) for shard in shards]):
            yield done.result()
    except BrokenProcessPool as error:
        raise ReducioError(
            "a worker process has died (out of memory?); finished shards are kept, the same command goes on from them"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
