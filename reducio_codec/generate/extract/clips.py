"""Samples of a plan on their way to the encoders: read, cut, resized and their key pictures coded, in batches of one size.

Everything here is work for a CPU, and runs in processes of its own where the encoders are on an accelerator.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from reducio_codec.clips.scenes import clip_motion, sample_points
from reducio_codec.config import CLIP_LENGTH
from reducio_codec.errors import ReducioError
from reducio_codec.generate.extract.options import ExtractOptions
from reducio_codec.generate.extract.plan import Sample, Shard
from reducio_codec.rdc.keyframe import encode_keyframe
from reducio_codec.training.crops import resize
from reducio_codec.training.loading import load_items
from reducio_codec.training.scan import Video
from reducio_codec.training.store import FrameStore, open_store

_READ_BYTES = 256 << 20
"""Of a video's frames that are held at a time, but a clip's at least: overlapping clips are read together, each frame once."""

_RESIZED_FRAMES = 16
"""That are floats at a time."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """Samples of one shard and of one size."""

    shard: int
    """Place in the list of shards."""
    places: tuple[int, ...]
    """Of the samples in their shard."""
    samples: tuple[Sample, ...]
    videos: tuple[Video, ...]
    """Of the shard; samples count in them."""


@dataclass(frozen=True, kw_only=True)
class Clips:
    """Work that is done, but for what can't be read."""

    work: Work
    """Without the samples that can't be read."""
    video: Tensor
    """(B, 3, 16, h, w) uint8; B may be 0."""
    pictures: tuple[bytes, ...]
    """Key pictures, coded."""
    motion: tuple[float, ...]
    failures: tuple[tuple[int, str], ...]
    """Place in the shard of each sample that can't be read, and the reason."""

    def pin_memory(self) -> Clips:
        return replace(self, video=self.video.pin_memory())


def plan_work(shards: Sequence[Shard], *, batch: int) -> list[Work]:
    """Batches of at most so many samples of one size, shard after shard."""
    found = []
    for number, shard in enumerate(shards):
        by_size: dict[tuple[int, int], list[int]] = {}
        for place, sample in enumerate(shard.samples):
            by_size.setdefault(sample.size, []).append(place)
        for places in by_size.values():
            for first in range(0, len(places), batch):
                part = tuple(places[first : first + batch])
                samples = tuple(shard.samples[place] for place in part)
                found.append(Work(shard=number, places=part, samples=samples, videos=shard.videos))
    return found


def load_clips(
    work: Sequence[Work], options: ExtractOptions, *, keyframe_index: int, loaders: int, pinned: bool
) -> Iterator[Clips]:
    """Work done, in its order.

    Args:
        loaders: processes that do it ahead; 0 does it here.

    Raises:
        ReducioError: one of them died.
    """
    return load_items(
        ClipDataset(options, keyframe_index=keyframe_index),
        _InOrder(work),
        workers=loaders,
        pinned=pinned,
        collate=_alone,
        advice="finished shards are kept, the same command goes on from them; --loaders 0 does without such processes",
    )


class ClipDataset(Dataset[Clips]):
    """Does a piece of work: ``dataset[work]``."""

    def __init__(self, options: ExtractOptions, *, keyframe_index: int) -> None:
        self._options, self._keyframe_index = options, keyframe_index

    def __getitem__(self, work: Work) -> Clips:
        options = self._options
        store = open_store(work.videos, storage=options.storage, device=torch.device("cpu"))
        clips: dict[int, Tensor] = {}
        failures: list[tuple[int, str]] = []
        for part in _read_together(list(zip(work.places, work.samples, strict=True)), work.videos):
            try:
                clips.update(_pixels(store, part))
            except (ReducioError, OSError):  # not all of them need be lost
                for place, sample in part:
                    try:
                        clips.update(_pixels(store, [(place, sample)]))
                    except (ReducioError, OSError) as error:
                        name = work.videos[sample.video].name
                        failures.append((place, f"{name}, frame {sample.frames[0]}: {error}"))
        kept = [(place, sample) for place, sample in zip(work.places, work.samples, strict=True) if place in clips]
        size = work.samples[0].size
        video = torch.stack([clips[place] for place, _ in kept]) if kept else _no_clips(size)
        frames = [clip.permute(1, 2, 3, 0).contiguous().numpy() for clip in video]  # (16, h, w, 3) each
        return Clips(
            work=replace(
                work, places=tuple(place for place, _ in kept), samples=tuple(sample for _, sample in kept), videos=()
            ),
            video=video,
            pictures=tuple(
                encode_keyframe(clip[self._keyframe_index], codec=options.keyframe, quality=options.quality)
                for clip in frames
            ),
            motion=tuple(float(clip_motion(np.stack([sample_points(f) for f in clip]))[0]) for clip in frames),
            failures=tuple(failures),
        )


_Placed = list[tuple[int, Sample]]
"""Samples with their places."""


def _read_together(placed: _Placed, videos: Sequence[Video]) -> Iterator[_Placed]:
    """Runs of samples of one video whose frames fit into memory together."""
    for number, samples in groupby(placed, key=lambda pair: pair[1].video):
        frame_bytes = int(np.prod(videos[number].shape[1:]))
        most = max(CLIP_LENGTH, _READ_BYTES // frame_bytes)
        part: _Placed = []
        wanted: set[int] = set()
        for place, sample in samples:
            if part and len(wanted.union(sample.frames)) > most:
                yield part
                part, wanted = [], set()
            part.append((place, sample))
            wanted.update(sample.frames)
        yield part


def _pixels(store: FrameStore, placed: _Placed) -> dict[int, Tensor]:
    """(3, 16, h, w) uint8 of each place; all samples are of one video."""
    numbers = sorted({number for _, sample in placed for number in sample.frames})
    frames = store.frames(placed[0][1].video, numbers)  # (n, H, W, 3)
    row = {number: index for index, number in enumerate(numbers)}
    clips: dict[int, Tensor] = {}
    for box, same in groupby(placed, key=lambda pair: _box(pair[1])):
        samples = list(same)
        rows = sorted({row[number] for _, sample in samples for number in sample.frames})
        top, left, height, width = box
        cut = frames[rows, top : top + height, left : left + width]
        size = samples[0][1].size
        parts = [resize(part, height=size[0], width=size[1]) for part in cut.split(_RESIZED_FRAMES)]
        pixels = torch.cat(parts, dim=1)  # (3, n, h, w)
        column = {index: place for place, index in enumerate(rows)}
        for place, sample in samples:
            clip = pixels[:, [column[row[number]] for number in sample.frames]]
            clips[place] = clip.flip(3) if sample.flip else clip
    return clips


def _box(sample: Sample) -> tuple[int, int, int, int]:
    return sample.top, sample.left, sample.height, sample.width


def _no_clips(size: tuple[int, int]) -> Tensor:
    return torch.empty((0, 3, CLIP_LENGTH, *size), dtype=torch.uint8)


class _InOrder(Sampler[list[Work]]):
    """Each piece of work as a batch of its own."""

    def __init__(self, work: Sequence[Work]) -> None:
        self._work = work

    def __iter__(self) -> Iterator[list[Work]]:
        return ([work] for work in self._work)


def _alone(items: list[Clips]) -> Clips:
    (clips,) = items
    return clips
