"""Every video is decoded once, to learn its scenes and motion, and to keep its frames where that is wanted.

What is found goes into a cache folder, a file or two for each video, so an added video costs only itself.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from reducio_codec.clips.scenes import THUMBNAIL, clip_motion, find_scenes, sample_points, thumbnail
from reducio_codec.config import CLIP_LENGTH
from reducio_codec.errors import DiskFullError, InputError, ReducioError
from reducio_codec.io.decode import VideoFrame
from reducio_codec.io.files import atomic_write, writing_errors
from reducio_codec.io.video import open_video

_log = logging.getLogger(__name__)

CACHE_FOLDER = "cache"
"""Decoded videos, where they are kept in the folder of what is made of them."""

_FORMAT = 1
_MESSAGE_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Video:
    """One video that was scanned; frames are counted after thinning to the recipe's frame rate."""

    path: Path
    name: str
    """The path below the data folder, as messages show it."""
    shape: tuple[int, int, int, int]
    """(T, H, W, 3) of the stored frames; H and W are the video's own where none are stored."""
    times: tuple[int, ...]
    """pts of each frame, in the file's time base."""
    numbers: tuple[int, ...]
    """Number of each frame in the file."""
    scenes: tuple[tuple[int, int], ...]
    motion: npt.NDArray[np.float32]
    """(T - 15,): of the clip that starts at each frame, in grey levels."""
    pixels: Path | None
    """Raw uint8 frames, or None where they are decoded anew for each clip."""


@dataclass(frozen=True, kw_only=True)
class ScanOptions:
    """What the cached result of a scan depends on, beside the video."""

    frame_rate: float
    stored_side: int
    store: bool
    find_cuts: bool


@dataclass(frozen=True, kw_only=True)
class ScanResult:
    videos: list[Video]
    skipped: list[tuple[str, str]]
    """(name, reason) of each video that can't be used."""


def scan(
    paths: Sequence[Path],
    *,
    cache: Path,
    options: ScanOptions,
) -> ScanResult:
    """Scan videos, or read what an earlier scan found. A video that can't be used is named and left out.

    Raises:
        InputError: none of them has 16 frames in one scene, or the cache isn't a folder.
    """
    if cache.exists() and not cache.is_dir():
        raise InputError(f"the cache {cache} is a file; it must be a folder")
    with writing_errors(cache):
        cache.mkdir(parents=True, exist_ok=True)
    root = Path(os.path.commonpath([path.parent for path in paths])) if paths else Path()
    videos: list[Video] = []
    skipped: list[tuple[str, str]] = []
    said = time.monotonic()
    with ThreadPoolExecutor(max_workers=max(1, min(4, (os.cpu_count() or 1)))) as pool:  # FFmpeg runs outside the lock
        found = pool.map(lambda path: _scan_or_reason(path, cache=cache, options=options, root=root), paths)
        for count, (path, result) in enumerate(zip(paths, found, strict=True), start=1):
            if isinstance(result, Video):
                videos.append(result)
            else:
                skipped.append((str(path), result))
            if time.monotonic() - said >= _MESSAGE_SECONDS:
                said = time.monotonic()
                _log.info("looked through %d of %d videos", count, len(paths))
    if not videos:
        first, reason = skipped[0] if skipped else ("", "")
        raise InputError(
            f"none of {len(paths)} videos can be used; the first, {first}: {reason}"
            if skipped
            else "there are no videos"
        )
    for name, reason in skipped:  # only now: where nothing can be used, the error says it all
        _log.warning("skipped %s: %s", name, reason)
    if skipped:
        _log.warning("%d of %d videos are left out", len(skipped), len(paths))
    return ScanResult(videos=videos, skipped=skipped)


def _scan_or_reason(path: Path, *, cache: Path, options: ScanOptions, root: Path) -> Video | str:
    """The video, or why it can't be used."""
    try:
        video = _scan_one(path, cache=cache, options=options, root=root)
    except DiskFullError:
        raise
    except ReducioError as error:
        return str(error).removeprefix(f"{path} ")  # what names it says so itself
    except Exception as error:  # whatever a decoder makes of a file is that file's fault, and no other's
        return f"it can't be decoded: {type(error).__name__}: {error}"
    longest = max((last - first for first, last in video.scenes), default=0)
    if longest < CLIP_LENGTH:
        return f"its longest scene has {longest} frames, a clip has {CLIP_LENGTH}"
    return video


def _scan_one(path: Path, *, cache: Path, options: ScanOptions, root: Path) -> Video:
    try:
        state = path.stat()
    except OSError as error:
        raise InputError(f"{error.strerror}") from error
    key = repr((_FORMAT, str(path.resolve()), state.st_size, state.st_mtime_ns, options))
    base = cache / hashlib.sha256(key.encode()).hexdigest()[:24]
    index, pixels = base.with_suffix(".json"), base.with_suffix(".rgb")
    if not index.is_file() or (options.store and not pixels.is_file()):
        _decode(path, index=index, pixels=pixels if options.store else None, options=options)
    entry: dict[str, Any] = json.loads(index.read_text())
    return Video(
        path=path,
        name=str(path.relative_to(root)),
        shape=tuple(entry["shape"]),
        times=tuple(entry["times"]),
        numbers=tuple(entry["numbers"]),
        scenes=tuple((first, last) for first, last in entry["scenes"]),
        motion=np.array(entry["motion"], np.float32),
        pixels=pixels if options.store else None,
    )


def _decode(path: Path, *, index: Path, pixels: Path | None, options: ScanOptions) -> None:
    """Write what one video is. Pixels go straight to the disk: a video may be longer than memory."""
    thumbnails, points, times, numbers = [], [], [], []
    size = (0, 0)
    with atomic_write(pixels) if pixels is not None else nullcontext() as out, open_video(path) as reader:
        rate = Fraction(options.frame_rate).limit_denominator(1000)
        for number, frame in thin(reader, time_base=reader.info.time_base, rate=rate):
            rgb = frame.rgb if out is None else _reduced(frame.rgb, side=options.stored_side)
            if min(rgb.shape[:2]) < max(THUMBNAIL):
                raise InputError(f"it is {rgb.shape[1]}x{rgb.shape[0]} pixels, too small")
            size = rgb.shape[:2]
            thumbnails.append(thumbnail(rgb))
            points.append(sample_points(rgb))
            times.append(frame.pts)
            numbers.append(number)
            if out is not None:
                out.write(rgb.tobytes())
        if not times:
            raise InputError("it has no frames")
    scenes = find_scenes(np.stack(thumbnails)) if options.find_cuts else [(0, len(times))]
    entry = {
        "shape": (len(times), *size, 3),
        "times": times,
        "numbers": numbers,
        "scenes": scenes,
        "motion": [round(float(value), 3) for value in clip_motion(np.stack(points))],
    }
    with atomic_write(index) as file:
        file.write(json.dumps(entry).encode())


def thin(frames: Iterable[VideoFrame], *, time_base: Fraction, rate: Fraction) -> Iterator[tuple[int, VideoFrame]]:
    """Frames at most ``rate`` a second, with their numbers; all of them if ``rate`` is 0 or they are slower.

    A quarter of a period early is not early: containers round times to milliseconds.
    """
    period = 1 / rate if rate else Fraction(0)
    due: Fraction | None = None
    for number, frame in enumerate(frames):
        time = frame.pts * time_base
        if due is None or time >= due - period / 4:
            yield number, frame
            # a slow or irregular video doesn't run up a debt of frames
            due = time + period if due is None else max(due + period, time + period / 2)


def _reduced(rgb: npt.NDArray[np.uint8], *, side: int) -> npt.NDArray[np.uint8]:
    """The frame with its shorter side reduced to ``side`` (0: as it is)."""
    height, width = rgb.shape[:2]
    shorter = min(height, width)
    if not side or shorter <= side:
        return rgb
    size = (max(1, round(width * side / shorter)), max(1, round(height * side / shorter)))
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BOX, reducing_gap=None))
