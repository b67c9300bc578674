"""The shards of ``reducio-codec extract`` as a dataset."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reducio_codec.data.stream import Stream
from reducio_codec.errors import InputError
from reducio_codec.generate.train.samples import Samples
from reducio_codec.io.files import given_path
from reducio_codec.io.pixels import to_unit


def latents(
    shards: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    shuffle: bool = True,
    seed: int = 0,
    part: tuple[int, int] | None = None,
) -> Stream[dict[str, Any]]:
    """The samples of folders that ``reducio-codec extract`` has written, as an iterable dataset of dicts for a DataLoader.

    A sample has

    - ``latent``: ``(z, t, h, w)`` float32, normalised, and ``keyframe``: ``(3, 1, H, W)`` float32 in [-1, 1]; a batch of them
      goes into ``codec.decode(latent, keyframe)``;
    - ``text``: ``(L, C)`` and ``semantic``: ``(S, C)`` float32, where the shards have them;
    - ``video``: name of its file, ``frames``: ``(16,)`` int64, their numbers (after thinning to the frame rate), ``flip``:
      whether it is mirrored, ``caption``: words, or none, ``motion``: in grey levels a frame, above 0.

    Samples of one size (``extract`` without buckets) make batches as they are; others, and texts of different lengths, need a
    ``collate_fn``.

    Args:
        shards: a folder, or several that share a latent space.
        shuffle, seed, part: see :class:`Stream`; ``set_epoch`` says which order comes next. Workers and processes share the
            samples, however many shards they lie in.

    Raises:
        InputError: no such folder, it isn't finished, or the folders' latent spaces differ. ReducioError: a shard is damaged.
    """
    one = isinstance(shards, str | os.PathLike) or not isinstance(shards, Iterable)
    folders: list[Any] = [shards] if one else list(shards)  # type: ignore[arg-type]  # what is neither is refused below
    if not folders:
        raise InputError("shards is empty; allowed: a folder, or a list of folders")
    return Stream(_Shards([given_path(folder) for folder in folders]), shuffle=shuffle, seed=seed, part=part)


class _Shards:
    """Samples by number, folder by folder and shard by shard."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._samples = Samples(folders)

    def __len__(self) -> int:
        return len(self._samples.entries)

    def __getitem__(self, index: int) -> dict[str, Any]:
        parts = self._samples.load(self._samples.entries[index])
        facts = parts.facts
        found = {
            "latent": parts.latent.float(),
            "keyframe": to_unit(parts.keyframe)[:, None],
            "video": facts["video"],
            "frames": torch.tensor(facts["frames"]),
            "flip": facts["flip"],
            "caption": facts.get("caption", ""),
            "motion": facts["motion"],
        }
        told = {"text": parts.text, "semantic": parts.semantic}
        return found | {name: tokens.float() for name, tokens in told.items() if tokens is not None}

    def shuffled(self, rng: np.random.Generator) -> NDArray[np.int64]:
        return rng.permutation(len(self))
