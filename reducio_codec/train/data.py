"""The videos of a run as clips: to learn from, to validate on, and for statistics."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import torch
from torch import Tensor

from reducio_codec.train.recipe import Recipe
from reducio_codec.train.render import render
from reducio_codec.train.sampling import ClipSampler
from reducio_codec.training.held_out import HeldOutClip, validation_clips
from reducio_codec.training.manifest import find_videos
from reducio_codec.training.scan import ScanOptions, ScanResult, scan
from reducio_codec.training.store import FrameStore, open_store

_log = logging.getLogger(__name__)

_APART = 1_000_000
"""Places in the batch from here on are clips for statistics, which no step sees."""


def scan_videos(
    recipe: Recipe, data: str | Path, val: str | Path | None, *, cache: Path
) -> tuple[ScanResult, ScanResult | None]:
    """What a run learns from, and what it is validated on."""
    options = ScanOptions(
        frame_rate=recipe.data.frame_rate,
        stored_side=recipe.data.stored_side,
        store=recipe.data.storage != "stream",
        find_cuts=recipe.data.find_cuts,
    )
    learned, held_out = find_videos(data), [] if val is None else find_videos(val)
    both = {path.resolve() for path in learned} & {path.resolve() for path in held_out}
    if both:
        _log.warning(
            "%d of the %d videos of --val %s in --data too: validation also measures what was learned by heart",
            len(both),
            len(held_out),
            "is" if len(both) == 1 else "are",
        )
    # the fewer first: what is wrong with them is known before hours of decoding
    seen = scan(held_out, cache=cache, options=options) if held_out else None
    return scan(learned, cache=cache, options=options), seen


def held_out_clips(recipe: Recipe, found: ScanResult, *, keyframe_index: int) -> list[HeldOutClip]:
    storage = "stream" if recipe.data.storage == "stream" else "disk"
    store = open_store(found.videos, storage=storage, device=torch.device("cpu"))
    return validation_clips(
        found.videos,
        store,
        side=recipe.validation.side,
        count=recipe.validation.clips,
        keyframe_index=keyframe_index,
    )


def statistics_clips(sampler: ClipSampler, store: FrameStore, *, side: int) -> Iterator[Tensor]:
    """Training clips (1, 3, 16, side, side) uint8 for statistics, always the same ones."""
    for number in count():
        video, _ = render(store, sampler.plan(number, _APART, side=side), codec="avif")
        yield video[None].cpu()
