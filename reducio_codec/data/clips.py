"""A folder of ``.rdc`` files as a dataset of clips."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from reducio_codec.clips.spans import own_keyframe
from reducio_codec.clips.streams import join_clips
from reducio_codec.codec import ReducioCodec
from reducio_codec.coding.rdc_clips import as_whole
from reducio_codec.coding.rdc_video import RdcVideo
from reducio_codec.config import CLIP_LENGTH, check_choice, check_whole
from reducio_codec.data.folder import ON_ERROR, OnError, RdcFile, find_files
from reducio_codec.data.stream import Stream
from reducio_codec.errors import FormatError, FrameIndexError, InputError, VideoError, WeightsError
from reducio_codec.weights.zoo import bundled_name, resolve

What = Literal["frames", "latents"]
WHAT: tuple[What, ...] = ("frames", "latents")

_OPEN_FILES = 4
"""Of a process: each may keep 256 MB of pictures."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipPlace:
    """Where a clip of a dataset lies."""

    path: Path
    clip: int
    """Its number in the file."""
    start: int
    """Its first frame's number in the file."""
    frames: int
    """1 to 16."""


class RdcDataset(Dataset[Any]):
    """The clips of all ``.rdc`` files in a folder, by number: file by file, sorted by name.

    Files and the model are opened when a clip is first read, in each process by itself: it goes into DataLoader workers that
    are forked or spawned, and can be pickled. What clips there are is remembered in the user's cache (``XDG_CACHE_HOME``), so
    opening a folder again looks into new and changed files alone.

    An item is a clip, without the batch axis, so that a batch has the shapes that ``codec.decode`` or ``encode`` give:

    - ``"frames"``: ``(n, H, W, 3)`` uint8, n up to 16;
    - ``"latents"``: the latent ``(z, t, h, w)`` float32, normalised, and the key frame ``(3, 1, H, W)`` float32 in [-1, 1]. A
      batch goes into ``codec.decode(latent, keyframe)``, on any device. A clip of fewer than 16 frames has a latent like any
      other; ``clip(i).frames`` says how many they are. Clips without a key frame or with several, of which there are none in
      files written with ``keyframes=1``, are left out, with a warning that counts them.

    Args:
        folder: looked through to any depth.
        what: ``"frames"``, decoded on the CPU, or ``"latents"``, read without decoding any but the key frame.
        model: bundled name, folder or hub name; by default the bundled model that the files name.
        decoder: for frames: one of the model's decoders, by default its choice.
        drop_short: leave out clips of fewer than 16 frames, which don't fit into a batch of frames with others.
        on_error: what a damaged file is: ``"raise"``: an error, at once where that is seen by its outline, otherwise when the
            clip is read; ``"skip"``: a warning. Files are then left out, and in place of a clip that turns out damaged when it
            is read the next one that is intact is given.

    Raises:
        InputError: no such folder, no file or clip in it, files of different latent spaces, or an option without effect.
        FormatError: a damaged file. WeightsError: the files name a model that isn't bundled, or there is no such model.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        what: What = "frames",
        model: str | Path | None = None,
        decoder: str | None = None,
        drop_short: bool = False,
        on_error: OnError = "raise",
    ) -> None:
        check_choice(what, name="what", allowed=WHAT)
        check_choice(on_error, name="on_error", allowed=ON_ERROR)
        if what == "latents" and decoder is not None:
            raise InputError(f"decoder is {decoder!r}, which has no effect on latents")
        self.files = find_files(folder, on_error=on_error)
        """Those that can be read; clips are numbered in their order."""
        self._what, self._decoder, self._on_error = what, decoder, on_error
        _check_one_space(self.files)
        self._model = _model_of(self.files[0]) if model is None else model
        resolve(self._model)  # a wrong name is an error here, and what has to be fetched is fetched once
        places = [
            (number, clip)
            for number, file in enumerate(self.files)
            for clip, frames in enumerate(file.lengths)
            if frames == CLIP_LENGTH or not drop_short
        ]
        if what == "latents":
            places = _with_one_keyframe(places, self.files)
        if not places:
            raise InputError(f"no clip in {os.fspath(folder)} has {CLIP_LENGTH} frames, and drop_short is True")
        self._places = np.array(places, np.int64)  # (clips, 2): number of the file, and of the clip in it
        self._process: _Process | None = None

    def __len__(self) -> int:
        """Clips."""
        return len(self._places)

    def __getitem__(self, index: int) -> Any:
        """A clip; negative numbers count from the end. FrameIndexError beyond it, FormatError or VideoError where the clip is
        damaged, or its file has changed or is gone."""
        number = self._number(index)
        for place in chain(range(number, len(self)), range(number)):
            try:
                return self._read(place)
            except (FormatError, VideoError) as error:
                if self._on_error == "raise":
                    raise
                _log.warning("the next clip is taken in place of clip %d of the dataset: %s", place, error)
        raise FormatError("none of the dataset's clips can be read")

    def clip(self, index: int) -> ClipPlace:
        """Where a clip lies, and how many frames it has; reads nothing."""
        number, clip = self._places[self._number(index)].tolist()
        file = self.files[number]
        return ClipPlace(path=file.path, clip=clip, start=sum(file.lengths[:clip]), frames=file.lengths[clip])

    def shape(self, index: int) -> tuple[int, ...]:
        """What clips of one batch must have in common: (n, H, W) for frames, (H, W) for latents; reads nothing."""
        number, clip = self._places[self._number(index)].tolist()
        file = self.files[number]
        size = (file.height, file.width)
        return size if self._what == "latents" else (file.lengths[clip], *size)

    def open_file(self, number: int) -> RdcVideo:
        """One of ``files``, for its frames by number or time: ``with dataset.open_file(3) as video:
        video.get_frames_played_at([1.5])``. The caller closes it."""
        found = as_whole(number, name="file")
        if not 0 <= found < len(self.files):
            raise FrameIndexError(f"file {found} was asked for; the dataset has files 0 to {len(self.files) - 1}")
        return self._here().open(self.files[found])

    def stream(self, *, shuffle: bool = True, seed: int = 0, part: tuple[int, int] | None = None) -> Stream[Any]:
        """The same clips as an iterable dataset, which needs no sampler: see :class:`Stream`. The clips of four files at a time
        are shuffled with each other, so that each file is opened once an epoch and worker."""
        return Stream(self, shuffle=shuffle, seed=seed, part=part)

    def shuffled(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """The order of a stream: all clips once, of a few files at a time."""
        turn = rng.permutation(len(self.files))[self._places[:, 0]] // _OPEN_FILES
        return np.lexsort((rng.random(len(self)), turn))

    def close(self) -> None:
        """Close the files that this process has open; reading a clip opens them again."""
        if self._process is not None:
            self._process.close()
        self._process = None

    def __del__(self) -> None:
        if getattr(self, "_process", None) is not None:
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_process": None}

    def _number(self, index: int) -> int:
        number = as_whole(index, name="clip")
        if not -len(self) <= number < len(self):
            raise FrameIndexError(f"clip {number} was asked for; the dataset has clips 0 to {len(self) - 1}")
        return number % len(self)

    def _here(self) -> _Process:
        """What this process has open: never what it was forked with, whose files both would read from at one place."""
        if self._process is not None and self._process.pid != os.getpid():
            self.close()
        if self._process is None:
            decoders = None if self._decoder is None else (self._decoder,)
            self._process = _Process(self._model, decoders=decoders)
        return self._process

    def _read(self, place: int) -> Any:
        number, clip = self._places[place].tolist()
        file = self.files[number]
        process = self._here()
        video = process.video(file)
        try:
            record = video.record(clip)
            if record.frames != file.lengths[clip]:
                raise FormatError(f"clip {clip} has {record.frames} frames, by the file's outline {file.lengths[clip]}")
            if self._what == "frames":
                return torch.from_numpy(video.decode_clip(clip, decoder=self._decoder))
            coded = video.clip(record)
        except FormatError as error:
            raise FormatError(f"{file.path}: {error}") from error
        usual = own_keyframe(coded.num_frames, keyframe_index=process.keyframe_index)
        if [item.frame - record.start for item in coded.references] != [usual]:
            raise InputError(
                f"{file.path}: clip {clip} has key frames at its frames "
                f"{[item.frame - record.start for item in coded.references]}; a latent can be read with one, at {usual}"
            )
        latent, keyframe = join_clips([coded])
        return latent.plain()[0], keyframe[0]


class SizeBatches(Sampler[list[int]]):
    """Batches of clips that look alike, for a folder of videos of several sizes or with short clips:
    ``DataLoader(dataset, batch_sampler=SizeBatches(dataset, batch_size=8))``.

    Args:
        batch_size: clips of a batch; the last one of each size has fewer.
        shuffle: clips of a size among each other, and then batches, anew each epoch.
        generator: of the orders, for the same ones again; by default torch's own.
        drop_last: leave out batches that have fewer.
    """

    def __init__(
        self,
        dataset: RdcDataset,
        *,
        batch_size: int,
        shuffle: bool = True,
        generator: torch.Generator | None = None,
        drop_last: bool = False,
    ) -> None:
        self._batch = check_whole(batch_size, name="batch_size", least=1, most=1 << 31)
        if not shuffle and generator is not None:
            raise InputError("generator has no effect without shuffle")
        self._shuffle, self._generator, self._drop_last = shuffle, generator, drop_last
        groups: dict[tuple[int, ...], list[int]] = {}
        for index in range(len(dataset)):
            groups.setdefault(dataset.shape(index), []).append(index)
        self._groups = [torch.tensor(group) for group in groups.values()]

    def __len__(self) -> int:
        """Batches."""
        spare = 0 if self._drop_last else self._batch - 1
        return sum((len(group) + spare) // self._batch for group in self._groups)

    def __iter__(self) -> Iterator[list[int]]:
        batches: list[Tensor] = []
        for group in self._groups:
            ordered = group[torch.randperm(len(group), generator=self._generator)] if self._shuffle else group
            batches += [part for part in ordered.split(self._batch) if len(part) == self._batch or not self._drop_last]
        order = torch.randperm(len(batches), generator=self._generator) if self._shuffle else torch.arange(len(batches))
        for number in order.tolist():
            yield batches[number].tolist()


_inherited: list[_Process] = []
"""What this process was forked with. To close it would take for ever: its decoders of pictures wait for threads that only the
other process has."""


class _Process:
    """What one process has open: the model, and the files that were read last."""

    def __init__(self, model: str | Path, *, decoders: tuple[str, ...] | None) -> None:
        self.pid = os.getpid()
        self._codec = ReducioCodec.from_pretrained(model, decoders=decoders)
        self._videos: OrderedDict[Path, RdcVideo] = OrderedDict()

    @property
    def keyframe_index(self) -> int:
        return self._codec.model.default_keyframe_index

    def video(self, file: RdcFile) -> RdcVideo:
        if file.path not in self._videos:
            self._videos[file.path] = self.open(file)
        self._videos.move_to_end(file.path)
        if len(self._videos) > _OPEN_FILES:
            self._videos.popitem(last=False)[1].close()
        return self._videos[file.path]

    def open(self, file: RdcFile) -> RdcVideo:
        try:
            video = self._codec.open_file(file.path)
        except InputError as error:  # it is gone, or nobody may read it any more
            raise VideoError(str(error)) from error
        if (video.clips, video.frames) != (len(file.lengths), file.frames):
            video.close()
            raise FormatError(
                f"{file.path} has {video.clips} clips of {video.frames} frames; when the dataset was opened it had "
                f"{len(file.lengths)} of {file.frames}"
            )
        return video

    def close(self) -> None:
        if self.pid != os.getpid():
            _inherited.append(self)
            return
        while self._videos:
            self._videos.popitem()[1].close()


def _check_one_space(files: list[RdcFile]) -> None:
    first = files[0]
    for file in files:
        if file.latent_space != first.latent_space:
            raise InputError(
                f"{first.path} was made with the model {first.model!r} (latent space {first.latent_space}), {file.path} with "
                f"{file.model!r} ({file.latent_space}); a dataset has one latent space: put them into folders of their own"
            )


def _with_one_keyframe(places: list[tuple[int, int]], files: list[RdcFile]) -> list[tuple[int, int]]:
    """The clips that one latent and one key frame say all of."""
    kept = [(number, clip) for number, clip in places if files[number].pictures[clip] == 1]
    hint = "files written with keyframes=1 have one in each clip"
    if not kept:
        raise InputError(f"no clip has exactly one key frame, as latents are read with; {hint}")
    if len(kept) < len(places):
        _log.warning(
            "left out %d of %d clips, which have no key frame or several; %s",
            len(places) - len(kept),
            len(places),
            hint,
        )
    return kept


def _model_of(file: RdcFile) -> str:
    """The bundled model that a file names. A file can't make this program open or fetch any other."""
    name = bundled_name(file.model, version=file.version)
    if name is None:
        raise WeightsError(
            f"{file.path} was made with the model {file.model!r} (latent space {file.latent_space}), which isn't bundled; "
            "give its folder or hub name as model="
        )
    return name
