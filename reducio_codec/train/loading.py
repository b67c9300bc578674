"""Clips of plans, and batches of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

from reducio_codec.errors import ReducioError, VideoError
from reducio_codec.train.render import render, render_neighbours
from reducio_codec.train.sampling import ClipSampler
from reducio_codec.training.loading import ClipKey
from reducio_codec.training.store import FrameStore
from reducio_codec.training.transfer import map_tensors

_ATTEMPTS = 20


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Clips of one process for one backward pass."""

    video: Tensor
    """(B, 3, 16, side, side) uint8."""
    keyframe: Tensor
    """(B, 3, side, side) uint8, as the decoder will have it."""
    keyframe_index: Tensor
    """(B,) int64."""
    neighbours: Tensor | None
    """(B, 2, 3, side, side) uint8, key frames of the clips before and after, as the decoder will have them; None unless
    the recipe has them."""
    present: tuple[tuple[bool, bool], ...] | None
    """Of each clip, which of those there are."""
    step: int
    indices: tuple[int, ...]
    """Places of the clips in the step's whole batch."""
    stage: int
    names: tuple[str, ...]
    """The video of each clip, and its first frame."""
    failures: tuple[str, ...]
    """Videos that couldn't be read any more, for which others were taken; with the reason."""

    def to(self, device: torch.device) -> Batch:
        return map_tensors(self, lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        return map_tensors(self, Tensor.pin_memory)


Item = tuple[ClipKey, Tensor, Tensor, int, str, tuple[str, ...], tuple[Tensor, tuple[bool, bool]] | None]


class ClipDataset(Dataset[Item]):
    """Makes clips of keys. A video that can't be read any more is replaced by the next attempt's draw."""

    def __init__(self, sampler: ClipSampler, store: FrameStore, *, codec: str) -> None:
        self._sampler, self._store, self._codec = sampler, store, codec

    def __getitem__(self, key: ClipKey) -> Item:
        failures: list[str] = []
        for attempt in range(_ATTEMPTS):
            plan = self._sampler.plan(key.step, key.index, side=key.side, attempt=attempt)
            name = self._sampler.videos[plan.video].name
            try:
                video, keyframe = render(self._store, plan, codec=self._codec)
                around = render_neighbours(self._store, plan, codec=self._codec) if self._sampler.neighbours else None
            except (ReducioError, OSError) as error:
                failures.append(f"{name}: {error}")
                continue
            name = f"{name} (frame {plan.frames[0]})"
            return key, video, keyframe, plan.keyframe_index, name, tuple(failures), around
        raise VideoError(f"{_ATTEMPTS} clips in a row couldn't be read; the last: {failures[-1]}")


def collate(items: list[Item]) -> Batch:
    keys, videos, keyframes, places, names, failures, around = zip(*items, strict=True)
    neighbours, present = (None, None) if around[0] is None else zip(*around, strict=True)
    return Batch(
        video=torch.stack(videos),
        keyframe=torch.stack(keyframes),
        keyframe_index=torch.tensor(places),
        neighbours=None if neighbours is None else torch.stack(neighbours),
        present=present,
        step=keys[0].step,
        indices=tuple(key.index for key in keys),
        stage=keys[0].stage,
        names=names,
        failures=tuple(reason for reasons in failures for reason in reasons),
    )
