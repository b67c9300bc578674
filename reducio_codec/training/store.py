"""Where a clip's pixels come from: a cache on disk, memory, the device, or the video itself, decoded anew."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reducio_codec.errors import InputError, ReducioError, VideoError
from reducio_codec.io.colour import ToRgb
from reducio_codec.io.containers import open_container, pick_stream
from reducio_codec.io.decode import probe
from reducio_codec.io.memory import free_memory
from reducio_codec.io.video import open_video
from reducio_codec.training.scan import Video


class FrameStore(Protocol):
    """Frames of the scanned videos."""

    def frames(self, video: int, numbers: Sequence[int]) -> Tensor:
        """(n, H, W, 3) uint8: these frames of a video, ascending numbers as counted by ``Video``.

        Raises:
            VideoError: the video can't be read any more.
        """
        ...


class DiskStore:
    """Frames mapped from the cache; the system keeps in memory what fits."""

    def __init__(self, videos: Sequence[Video]) -> None:
        self._videos = videos

    def frames(self, video: int, numbers: Sequence[int]) -> Tensor:
        return torch.from_numpy(_mapped(self._videos[video])[list(numbers)])


class MemoryStore:
    """All frames in memory, or on a device."""

    def __init__(self, videos: Sequence[Video], *, device: torch.device) -> None:
        needed = sum(int(np.prod(video.shape)) for video in videos)
        free = free_memory(device)
        if free is not None and needed > 0.9 * free:
            raise InputError(
                f"the frames take {needed / 1e9:.1f} GB, and {device} has {free / 1e9:.1f} GB free; "
                "use data.storage 'disk' or 'stream', or a smaller data.stored_side"
            )
        self._frames = [torch.from_numpy(np.array(_mapped(video))).to(device) for video in videos]

    def frames(self, video: int, numbers: Sequence[int]) -> Tensor:
        return self._frames[video][list(numbers)]


class StreamStore:
    """Each clip decoded from its file, from the nearest point that can be sought."""

    def __init__(self, videos: Sequence[Video]) -> None:
        self._videos = videos

    def frames(self, video: int, numbers: Sequence[int]) -> Tensor:
        found = self._videos[video]
        times = [found.times[number] for number in numbers]
        try:
            pictures = _seek(found.path, times)
            if pictures is None:  # times that can't be sought, or were mended by the reader: count from the start
                pictures = _count(found.path, [found.numbers[number] for number in numbers])
        except ReducioError:
            raise
        except Exception as error:  # whatever a decoder makes of a file is that file's fault
            raise VideoError(f"{found.path} can't be decoded: {type(error).__name__}: {error}") from error
        return torch.from_numpy(np.stack(pictures))


def open_store(videos: Sequence[Video], *, storage: str, device: torch.device) -> FrameStore:
    """The store that ``data.storage`` names."""
    if storage == "stream":
        return StreamStore(videos)
    if storage == "disk":
        return DiskStore(videos)
    return MemoryStore(videos, device=device if storage == "device" else torch.device("cpu"))


def _mapped(video: Video) -> npt.NDArray[np.uint8]:
    assert video.pixels is not None
    try:
        return np.memmap(video.pixels, dtype=np.uint8, mode="r", shape=video.shape)
    except (OSError, ValueError) as error:
        raise VideoError(f"{video.pixels}, the frames of {video.name}, can't be read: {error}") from error


def _seek(path: Path, times: Sequence[int]) -> list[npt.NDArray[np.uint8]] | None:
    """Frames at exactly these times, or None where the file doesn't give them."""
    info, orientation = probe(path)
    wanted = set(times)
    found: dict[int, npt.NDArray[np.uint8]] = {}
    with open_container(path) as container:
        stream = pick_stream(container, path=path)
        convert = ToRgb(name=str(path), codec=info.codec, transfer=int(stream.codec_context.color_trc))
        try:
            container.seek(times[0], stream=stream)
            for frame in container.decode(stream):
                if frame.pts is None or frame.is_corrupt:
                    return None
                if frame.pts in wanted:
                    found[frame.pts] = orientation.apply(convert(frame))
                if frame.pts >= times[-1]:
                    break
        except (OSError, ValueError):  # PyAV's errors derive from these
            return None
    return [found[time] for time in times] if len(found) == len(wanted) else None


def _count(path: Path, numbers: Sequence[int]) -> list[npt.NDArray[np.uint8]]:
    wanted = set(numbers)
    found: dict[int, npt.NDArray[np.uint8]] = {}
    with open_video(path) as reader:
        for number, frame in enumerate(reader.frames(start=numbers[0]), start=numbers[0]):
            if number in wanted:
                found[number] = frame.rgb
            if len(found) == len(wanted):
                return [found[number] for number in numbers]
    raise VideoError(f"{path} has no frame {max(wanted - found.keys())} any more")
