"""Samples of shards: where each lies, how often it is drawn, and batches of them."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from reducio_codec.errors import FormatError, InputError, ReducioError
from reducio_codec.generate.buckets import Size
from reducio_codec.generate.conditioning import Conditions
from reducio_codec.generate.extract.shards import SUFFIXES, ShardIndex, missing_shards, read_index
from reducio_codec.generate.latent_motion import LatentMotion
from reducio_codec.io.memory import free_memory
from reducio_codec.io.pixels import to_unit
from reducio_codec.rdc.keyframe import decode_keyframe
from reducio_codec.training.loading import ClipKey, motion_weights
from reducio_codec.training.transfer import map_tensors

_CODECS = {suffix: codec for codec, suffix in SUFFIXES.items()}
_DRAW = 3
"""Stream of random numbers, beside those of the noise."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One sample: where its parts lie."""

    name: str
    tar: Path
    parts: dict[str, tuple[int, int]]
    """Suffix to place and length in the tar file."""
    size: Size
    motion: float
    pace: int
    """Frames of the video from one frame of it to the next: above 1, it moves faster than it was filmed."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """One sample's tensors."""

    latent: Tensor
    """(z, t, h, w)."""
    keyframe: Tensor
    """(3, H, W) uint8."""
    text: Tensor | None
    """(L, C)."""
    semantic: Tensor | None
    """(S, C)."""
    facts: Mapping[str, Any]
    """Where it comes from: what ``extract`` wrote."""


@dataclass(frozen=True, kw_only=True)
class LatentBatch:
    """Samples of one process for one backward pass."""

    latent: Tensor
    """(B, z, t, h, w) float32."""
    conditions: Conditions
    step: int
    indices: tuple[int, ...]
    """Places in the step's whole batch."""
    names: tuple[str, ...]
    paces: tuple[int, ...]
    """See ``Entry.pace``."""

    def to(self, device: torch.device) -> LatentBatch:
        moved = self.conditions.to(device)
        return replace(self, latent=self.latent.to(device, non_blocking=True), conditions=moved)

    def pin_memory(self) -> LatentBatch:
        return map_tensors(self, Tensor.pin_memory)


class Samples:
    """All samples of some folders of shards, which share a latent space."""

    def __init__(self, folders: Sequence[Path]) -> None:
        indices = [read_index(folder) for folder in folders]
        self.index: ShardIndex = indices[0]
        for folder, index in zip(folders, indices, strict=True):
            if index.latent_space != self.index.latent_space:
                raise InputError(
                    f"{folder} holds latents of the codec {index.codec!r} (latent space {index.latent_space}), "
                    f"{folders[0]} those of {self.index.codec!r} ({self.index.latent_space}); they can't be mixed"
                )
            missing = missing_shards(folder, index)
            if missing:
                raise InputError(
                    f"{folder} isn't finished: {len(missing)} of {len(index.shards)} shards are missing; the same "
                    "'reducio-codec extract' goes on"
                )
        self.identity = [f"{index.latent_space} {index.plan}" for index in indices]
        """What these samples are, for a run that goes on."""
        tars = [folder / name for folder, index in zip(folders, indices, strict=True) for name in index.shards]
        with ThreadPoolExecutor(8) as pool:
            self.entries = [entry for part in pool.map(_read_entries, tars) for entry in part]
        if not self.entries:
            raise InputError(f"{folders[0]} has no samples")

    @property
    def examples(self) -> list[Entry]:
        """The first sample of each folder."""
        return list({entry.tar.parent: entry for entry in reversed(self.entries)}.values())

    def motions(self, reader: LatentMotion) -> list[float]:
        """Of all samples that move as fast as they were filmed; where there are none, of all.

        Raises:
            ReducioError: a shard is damaged, or gone.
        """
        filmed = [entry for entry in self.entries if entry.pace == 1] or self.entries
        return [float(reader.measure(self._latent(entry)[None])[0]) for entry in filmed]

    def _latent(self, entry: Entry) -> Tensor:
        try:
            with entry.tar.open("rb") as file:
                return _array(_read(file, *entry.parts["latent.npy"])).float()
        except (OSError, ValueError, KeyError) as error:
            raise ReducioError(f"{entry.tar}: the sample {entry.name} can't be read: {error}") from error

    def load(self, entry: Entry) -> Parts:
        """Read and decode one sample.

        Raises:
            ReducioError: its shard is damaged, or gone.
        """
        try:
            with entry.tar.open("rb") as file:
                found = {suffix: _read(file, *place) for suffix, place in entry.parts.items()}
            suffix = next(suffix for suffix in _CODECS if suffix in found)
            height, width = entry.size
            picture = decode_keyframe(found[suffix], codec=_CODECS[suffix], width=width, height=height)
            arrays = {
                name: _array(found[f"{name}.npy"]) for name in ("latent", "text", "semantic") if f"{name}.npy" in found
            }
            return Parts(
                latent=arrays["latent"],
                keyframe=torch.from_numpy(picture).permute(2, 0, 1).contiguous(),
                text=arrays.get("text"),
                semantic=arrays.get("semantic"),
                facts=json.loads(found["json"]),
            )
        except (OSError, ValueError, KeyError, StopIteration, FormatError) as error:
            raise ReducioError(f"{entry.tar}: the sample {entry.name} can't be read: {error}") from error


_PARSER = Lock()
"""Held while a header is read: Python's own parser isn't safe in several threads before 3.11.8 (its issue 106905)."""


def _array(data: bytes) -> Tensor:
    with _PARSER:
        return torch.from_numpy(np.load(io.BytesIO(data), allow_pickle=False))


def _read(file: Any, place: int, length: int) -> bytes:
    file.seek(place)
    data: bytes = file.read(length)
    if len(data) != length:
        raise ValueError("it is cut off")
    return data


def _read_entries(path: Path) -> list[Entry]:
    parts: dict[str, dict[str, tuple[int, int]]] = {}
    facts: dict[str, Any] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                key, _, suffix = member.name.partition(".")
                parts.setdefault(key, {})[suffix] = (member.offset_data, member.size)
                if suffix == "json":
                    facts[key] = json.load(tar.extractfile(member))  # type: ignore[arg-type]
        return [
            Entry(
                name=f"{facts[key]['video']} (frame {facts[key]['frames'][0]})",
                tar=path,
                parts=places,
                size=(facts[key]["size"][0], facts[key]["size"][1]),
                motion=float(facts[key]["motion"]),
                pace=_pace(facts[key]["frames"]),
            )
            for key, places in parts.items()
        ]
    except (OSError, tarfile.TarError, ValueError, KeyError, TypeError) as error:
        raise ReducioError(f"the shard {path} is damaged: {error}") from error


class LatentDataset(Dataset[tuple[ClipKey, Entry, Parts]]):
    """Draws samples for keys: a function of the seed, the step and the place in the batch, and of nothing else.

    All samples of a step have one size, which is drawn with it.

    Args:
        in_memory: read everything now; InputError if it doesn't fit.
        steps: after so many the first one's samples come again, under its number; 0: never.
    """

    def __init__(self, samples: Samples, *, motion_power: float, seed: int, in_memory: bool, steps: int = 0) -> None:
        self._samples, self._seed, self._steps = samples, seed, steps
        weights = motion_weights(np.array([entry.motion for entry in samples.entries]), power=motion_power)
        sizes = sorted({entry.size for entry in samples.entries})
        self._members = [
            np.array([number for number, entry in enumerate(samples.entries) if entry.size == size]) for size in sizes
        ]
        self._odds = [_cumulative(weights[members]) for members in self._members]
        self._size_odds = _cumulative(np.array([weights[members].sum() for members in self._members]))
        self._parts: list[Parts] | None = None
        if in_memory:
            _check_fits(samples.entries)
            with ThreadPoolExecutor(8) as pool:
                self._parts = list(pool.map(samples.load, samples.entries))

    def draw(self, key: ClipKey) -> Entry:
        """The sample at a place of a step's batch."""
        return self._samples.entries[self._number(self._first_time(key))]

    def __getitem__(self, key: ClipKey) -> tuple[ClipKey, Entry, Parts]:
        key = self._first_time(key)
        number = self._number(key)
        entry = self._samples.entries[number]
        return key, entry, self._samples.load(entry) if self._parts is None else self._parts[number]

    def _first_time(self, key: ClipKey) -> ClipKey:
        return replace(key, step=key.step % self._steps) if self._steps else key

    def _number(self, key: ClipKey) -> int:
        group = _draw(self._size_odds, np.random.default_rng((self._seed, _DRAW, key.step)))
        place = _draw(self._odds[group], np.random.default_rng((self._seed, _DRAW, key.step, key.index + 1)))
        return int(self._members[group][place])


def _cumulative(weights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.cumsum(weights / weights.sum())


def _draw(cumulative: np.ndarray[Any, Any], rng: np.random.Generator) -> int:
    return min(int(np.searchsorted(cumulative, rng.random(), side="right")), len(cumulative) - 1)


def _check_fits(entries: Sequence[Entry]) -> None:
    needed = sum(
        3 * entry.size[0] * entry.size[1] + sum(size for name, (_, size) in entry.parts.items() if name.endswith("npy"))
        for entry in entries
    )
    free = free_memory(torch.device("cpu"))
    if free is not None and needed > 0.9 * free:
        raise InputError(
            f"the samples take {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB of memory are free; "
            "use data.storage 'disk' (with data.workers 2 or more)"
        )


def collate(items: Sequence[tuple[ClipKey, Entry, Parts]]) -> LatentBatch:
    """Samples of one size to a batch."""
    keys, entries, parts = zip(*items, strict=True)
    return LatentBatch(
        latent=torch.stack([part.latent for part in parts]).float(),
        conditions=to_conditions(parts),
        step=keys[0].step,
        indices=tuple(key.index for key in keys),
        names=tuple(entry.name for entry in entries),
        paces=tuple(entry.pace for entry in entries),
    )


def _pace(frames: Sequence[int]) -> int:
    return abs(frames[1] - frames[0])


def to_conditions(parts: Sequence[Parts]) -> Conditions:
    """What the samples tell; a sample without text beside others that have some is told none."""
    height, width = parts[0].keyframe.shape[-2:]
    texts = [part.text for part in parts]
    told = [text for text in texts if text is not None]
    text = mask = keep = None
    if told:
        longest, channels = max(len(one) for one in told), told[0].shape[1]
        text = torch.zeros(len(parts), longest, channels)
        mask = torch.zeros(len(parts), longest, dtype=torch.bool)
        for number, one in enumerate(texts):
            if one is not None:
                text[number, : len(one)] = one
                mask[number, : len(one)] = True
        keep = mask.any(dim=1)
    semantic = [part.semantic for part in parts if part.semantic is not None]
    return Conditions(
        size=torch.tensor([[height, width]] * len(parts)),
        text=text,
        text_mask=mask,
        keep_text=keep,
        semantic=torch.stack(semantic).float() if len(semantic) == len(parts) else None,
        keyframe=to_unit(torch.stack([part.keyframe for part in parts])),
    )


def batches_in_order(samples: Samples, entries: Sequence[Entry], *, batch: int) -> Iterator[LatentBatch]:
    """For validation: entry after entry, batches of one size. A sample's place is that among all, so that its noise
    doesn't depend on ``batch``."""
    done = 0
    for size in sorted({entry.size for entry in entries}):
        alike = [entry for entry in entries if entry.size == size]
        for first in range(0, len(alike), batch):
            part = alike[first : first + batch]
            yield collate_entries(samples, part, place=done)
            done += len(part)


def collate_entries(samples: Samples, entries: Sequence[Entry], *, place: int = 0) -> LatentBatch:
    """These entries, of one size, as one batch; ``place`` is the first one's."""
    keys = [ClipKey(step=0, index=place + number, stage=0, side=0) for number in range(len(entries))]
    return collate([(key, entry, samples.load(entry)) for key, entry in zip(keys, entries, strict=True)])
