"""Packed scenes to batches: clips of random places, crops and speeds, each with its references as a reader would have them."""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from reducio_codec.config import CLIP_LENGTH
from reducio_codec.errors import InputError

Frames = NDArray[np.uint8]
"""(T, H, W, 3)."""


def open_pack(folder: Path, *, cache: Path | None = None) -> list[Frames]:
    """Every scene of a folder that ``pack`` wrote.

    Args:
        cache: decoded frames are kept there and mapped, 350 kB each; None: all in memory.
    """
    files = sorted(folder.glob("*.avif"))
    if not files:
        raise InputError(f"{folder} has no .avif files; make it with python -m reducio_codec.train.packed.pack")
    if cache is not None:
        cache.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor() as pool:  # the decoder runs outside the lock
        return list(pool.map(lambda path: _open_scene(path, cache=cache), files))


def _open_scene(path: Path, *, cache: Path | None) -> Frames:
    kept = None if cache is None else cache / f"{path.stem}.npy"
    if kept is None:
        return read_scene(path)
    if not kept.is_file():
        part = kept.with_suffix(f".{os.getpid()}.part.npy")  # processes that train together open the same cache at once
        np.save(part, read_scene(path))
        part.rename(kept)
    mapped: Frames = np.load(kept, mmap_mode="r")
    return mapped


def read_scene(path: Path) -> Frames:
    """All frames of an AVIF sequence."""
    with Image.open(path) as sequence:
        frames = []
        for number in range(getattr(sequence, "n_frames", 1)):
            sequence.seek(number)
            frames.append(np.asarray(sequence.convert("RGB")))
    return np.stack(frames)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where a clip's references lie, in its frames."""

    places: tuple[int, ...]
    beside: tuple[bool, ...]


LAYOUTS = (
    (0.50, Layout(places=(-9, 7, 23), beside=(True, False, True))),
    (0.20, Layout(places=(7,), beside=(False,))),
    (0.12, Layout(places=(-5, 3, 11, 19), beside=(True, False, False, True))),
    (0.06, Layout(places=(-3, 1, 5, 9, 13, 17), beside=(True, False, False, False, False, True))),
    (0.06, Layout(places=(-16, 0, 16), beside=(True, False, True))),
    (0.06, Layout(places=(-4, 12, 28), beside=(True, False, True))),
)
"""How often, and where: mostly one key frame in the middle and its neighbours, as files have them; also one alone, several
inside, and others at the edges."""

_STEPS = ((0.75, 1), (0.17, 2), (0.08, 3))
"""How often a clip takes every frame, every second, every third."""

_CODED, _QUALITY = 0.7, (15, 85)


@dataclass(frozen=True, kw_only=True)
class Batch:
    number: int
    """Of the sampler's."""
    video: Tensor
    """(B, 3, 16, S, S) uint8."""
    references: Tensor
    """(B, R, 3, S, S) uint8."""
    present: Tensor
    """(B, R) bool."""
    layout: Layout

    def to(self, device: torch.device) -> Batch:
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in ("video", "references")}
        return replace(self, **moved)


class Sampler:
    """Batch number n is a function of the seed and n, so a run that goes on sees what an unbroken one would have seen."""

    def __init__(self, scenes: Sequence[Frames], *, seed: int) -> None:
        self._scenes, self._seed = scenes, seed
        places, motions = [], []
        for number, frames in enumerate(scenes):
            small = np.asarray(frames[:, 8::16, 8::16], np.float32)  # points suffice to tell still from moving
            for start in range(len(frames) - CLIP_LENGTH + 1):
                places.append((number, start))
                motions.append(float(np.abs(small[start + CLIP_LENGTH - 1] - small[start + 7]).mean()))
        self._places = np.array(places)
        weight = np.clip(np.array(motions) / max(float(np.median(motions)), 1e-3), 1 / 9, 9) ** 0.5
        self._cumulative = np.cumsum(weight / weight.sum())

    def batch(self, number: int, *, size: int, side: int) -> Batch:
        rng = np.random.default_rng((self._seed, number))
        layout = LAYOUTS[_drawn(rng, [share for share, _ in LAYOUTS])][1]
        clips = [self._clip(rng, side=side, layout=layout) for _ in range(size)]
        video, references, present = (np.stack(parts) for parts in zip(*clips, strict=True))
        return Batch(
            number=number,
            video=torch.from_numpy(video).permute(0, 4, 1, 2, 3).contiguous(),
            references=torch.from_numpy(references).permute(0, 1, 4, 2, 3).contiguous(),
            present=torch.from_numpy(present),
            layout=layout,
        )

    def _clip(self, rng: np.random.Generator, *, side: int, layout: Layout) -> tuple[Frames, Frames, NDArray[np.bool_]]:
        """(16, S, S, 3), (R, S, S, 3), (R,)."""
        place = min(int(np.searchsorted(self._cumulative, rng.random(), side="right")), len(self._places) - 1)
        number, start = (int(value) for value in self._places[place])
        scene = self._scenes[number]
        wanted = _STEPS[_drawn(rng, [share for share, _ in _STEPS])][1]
        step = next(s for s in range(wanted, 0, -1) if s == 1 or start + s * (CLIP_LENGTH - 1) < len(scene))
        back, flip = rng.random(2) < 0.5
        if back:
            start, step = start + step * (CLIP_LENGTH - 1), -step
        top, left = (int(rng.integers(max(1, length - side + 1))) for length in scene.shape[1:3])

        def frame(index: int) -> Frames:
            picture = scene[start + step * index, top : top + side, left : left + side]
            return picture[:, ::-1] if flip else picture

        video = np.stack([frame(index) for index in range(CLIP_LENGTH)])
        present = np.array([0 <= start + step * index < len(scene) for index in layout.places])
        quality = int(rng.integers(*_QUALITY)) if rng.random() < _CODED else None
        pictures = [
            np.zeros_like(video[0]) if not there else _coded(frame(index), quality=quality)
            for index, there in zip(layout.places, present, strict=True)
        ]
        return video, np.stack(pictures), present


def _drawn(rng: np.random.Generator, shares: Sequence[float]) -> int:
    return int(rng.choice(len(shares), p=np.array(shares) / sum(shares)))


def _coded(picture: Frames, *, quality: int | None) -> Frames:
    """As a reader gets it; ``rdc.keyframe`` codes slower and better, which needs more than Pillow."""
    if quality is None:
        return picture
    data = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(data, "AVIF", quality=quality, subsampling="4:4:4", speed=8)
    with Image.open(data) as coded:
        return np.asarray(coded.convert("RGB"))


def batches(
    sampler: Sampler, *, first: int, size: int, side: int, workers: int, distinct: int | None = None
) -> Iterator[Batch]:
    """Batches from number ``first`` on, made ahead by threads; after ``distinct`` of them the same ones again, from memory."""
    kept: dict[int, Future[Batch]] = {}
    with ThreadPoolExecutor(max(1, workers)) as pool:
        waiting: deque[Future[Batch]] = deque()
        number = first
        try:
            while True:
                while len(waiting) <= workers:
                    which = number if distinct is None else number % distinct
                    waiting.append(kept.get(which) or pool.submit(sampler.batch, which, size=size, side=side))
                    if distinct is not None:
                        kept[which] = waiting[-1]
                    number += 1
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
