"""Clips to what a shard holds of them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reducio_codec.codec import ReducioCodec
from reducio_codec.errors import InputError, ReducioError
from reducio_codec.generate.extract.clips import Clips, load_clips, plan_work
from reducio_codec.generate.extract.options import ExtractOptions
from reducio_codec.generate.extract.plan import Sample, Shard
from reducio_codec.generate.extract.shards import SUFFIXES, write_shard
from reducio_codec.generate.semantic import ImageEncoder
from reducio_codec.generate.text import TextEncoder
from reducio_codec.io.pixels import to_unit
from reducio_codec.models.precision import Dtype
from reducio_codec.training.transfer import to_device
from reducio_codec.weights.zoo import load_pretrained


@dataclass(frozen=True, kw_only=True)
class Encoders:
    """What turns pixels and captions into tensors, by name: a process of its own loads them from this."""

    codec: str
    device: str = "cpu"
    dtype: Dtype = torch.float32
    text_encoder: str | None = None
    """T5 for the captions that lie beside the videos (``clip.txt`` for ``clip.mp4``)."""
    text_tokens: int = 120
    """A longer caption is cut."""
    image_encoder: str | None = None
    """OpenCLIP model for semantic tokens of the key pictures."""
    threads: int | None = None
    """Of torch, in each process."""
    batch: int = 1
    """Clips that are encoded at a time; all are of one size."""
    loaders: int = 0
    """Processes that read, cut and resize clips ahead and code their key pictures; 0 does it between the encodings."""

    def __post_init__(self) -> None:
        for name, least in (("batch", 1), ("loaders", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least {least}")


@dataclass(frozen=True, kw_only=True)
class ShardResult:
    """How a shard came out."""

    name: str
    samples: int
    failures: tuple[str, ...]
    """Samples that are missing in it since their video couldn't be read, with the reason."""


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Tensors of some clips on their way from the device."""

    latent: Tensor
    """(B, z, t, h, w) in main memory, once ``wait`` is over."""
    semantic: Tensor | None
    """(B, S, C), likewise."""
    copied: torch.cuda.Event | None

    def wait(self) -> None:
        if self.copied is not None:
            self.copied.synchronize()


class ShardMaker:
    """Loads the encoders once, then makes shards.

    Args:
        codec: in place of the one that ``encoders`` names, on its device.
    """

    def __init__(
        self, *, out: Path, options: ExtractOptions, encoders: Encoders, codec: ReducioCodec | None = None
    ) -> None:
        if encoders.threads is not None:
            torch.set_num_threads(encoders.threads)
        self._out, self._options, self._encoders = out, options, encoders
        if codec is None:
            model, info = load_pretrained(encoders.codec)
            codec = ReducioCodec(model, model_id=info.id, device=encoders.device, dtype=encoders.dtype)
        self.codec = codec
        where: dict[str, Any] = {"device": encoders.device, "dtype": encoders.dtype}
        self._text = self._image = None
        if encoders.text_encoder is not None:
            name = encoders.text_encoder
            self._text = TextEncoder.from_pretrained(name, max_tokens=encoders.text_tokens, **where)
        if encoders.image_encoder is not None:
            self._image = ImageEncoder.from_pretrained(encoders.image_encoder, **where)
        self._captions: dict[str, Tensor] = {}

    def __call__(self, shard: Shard) -> ShardResult:
        """Write one shard; see ``make``."""
        (result,) = self.make([shard])
        return result

    def make(self, shards: Sequence[Shard]) -> Iterator[ShardResult]:
        """Write shards under their names, one after another; those after it are being read meanwhile.

        Raises:
            ReducioError: one can't be written, or a latent isn't finite; there is no half of it then.
        """
        work = plan_work(shards, batch=self._encoders.batch)
        left = [0] * len(shards)
        for piece in work:
            left[piece.shard] += 1
        parts: dict[int, dict[str, bytes]] = {}
        failures: dict[int, str] = {}
        for clips, encoded in _one_behind(self._encoded(self._loaded(work))):
            encoded.wait()
            number = clips.work.shard
            for index, place in enumerate(clips.work.places):
                parts[place] = self._parts(clips, encoded, index, shards[number])
            failures.update(clips.failures)
            left[number] -= 1
            if not left[number]:
                yield self._write(shards[number], parts, failures)
                parts, failures, self._captions = {}, {}, {}

    def _loaded(self, work: Sequence[Any]) -> Iterator[Clips]:
        return load_clips(
            work,
            self._options,
            keyframe_index=self.codec.model.default_keyframe_index,
            loaders=self._encoders.loaders,
            pinned=self.codec.device.type == "cuda",
        )

    def _encoded(self, batches: Iterable[Clips]) -> Iterator[tuple[Clips, Encoded]]:
        """Queued on the device: nothing here waits for it."""
        for clips in batches:
            if not len(clips.video):
                yield clips, Encoded(latent=clips.video, semantic=None, copied=None)
                continue
            video = to_device(clips.video, self.codec.device)
            latent, _ = self.codec.encode(video)  # (B, z, t, h, w)
            semantic = None
            if self._image is not None:
                keyframes = video[:, :, self.codec.model.default_keyframe_index]  # (B, 3, h, w)
                semantic = self._image.encode(to_unit(keyframes)).to("cpu", non_blocking=True)
            copied = None
            home = latent.detach().as_subclass(Tensor).to("cpu", non_blocking=True)
            if self.codec.device.type == "cuda":
                copied = torch.cuda.Event()
                copied.record(torch.cuda.current_stream(self.codec.device))
            yield clips, Encoded(latent=home, semantic=semantic, copied=copied)

    def _write(self, shard: Shard, parts: dict[int, dict[str, bytes]], failures: dict[int, str]) -> ShardResult:
        members = ((shard.samples[place].key, parts[place]) for place in sorted(parts))
        count = write_shard(self._out / shard.name, members)
        return ShardResult(
            name=shard.name, samples=count, failures=tuple(failures[place] for place in sorted(failures))
        )

    def _parts(self, clips: Clips, encoded: Encoded, index: int, shard: Shard) -> dict[str, bytes]:
        """Of the clip at ``index`` of its batch."""
        sample: Sample = clips.work.samples[index]
        video = shard.videos[sample.video]
        facts = {
            "video": video.name,
            "frames": list(sample.frames),
            "crop": [sample.top, sample.left, sample.height, sample.width],
            "size": list(sample.size),
            "flip": sample.flip,
            "keyframe_index": self.codec.model.default_keyframe_index,
            "motion": round(clips.motion[index], 3),
        }
        parts = {"latent.npy": self._array(encoded.latent[index], what=f"the latent of {sample.key} ({video.name})")}
        if self._text is not None:
            caption = read_caption(video.path)
            if caption:
                facts["caption"] = caption
                if caption not in self._captions:
                    self._captions[caption] = self._text.encode([caption])[0][0]  # (L, C)
                parts["text.npy"] = self._array(self._captions[caption], what=f"the text tokens of {video.name}")
        if encoded.semantic is not None:
            tokens = encoded.semantic[index]  # (S, C)
            parts["semantic.npy"] = self._array(tokens, what=f"the semantic tokens of {sample.key} ({video.name})")
        parts[SUFFIXES[self._options.keyframe]] = clips.pictures[index]
        parts["json"] = json.dumps(facts, sort_keys=True).encode()
        return parts

    def _array(self, values: Tensor, *, what: str) -> bytes:
        """A .npy file."""
        stored = values.detach().cpu().to(getattr(torch, self._options.dtype))
        if not bool(torch.isfinite(stored).all()):
            raise ReducioError(f"{what} isn't finite as {self._options.dtype}")
        file = io.BytesIO()
        np.save(file, stored.numpy(), allow_pickle=False)
        return file.getvalue()


def _one_behind(items: Iterator[tuple[Clips, Encoded]]) -> Iterator[tuple[Clips, Encoded]]:
    """The same items; each comes when the next one is under way on the device."""
    waiting = next(items, None)
    while waiting is not None:
        following = next(items, None)
        yield waiting
        waiting = following


def read_caption(path: Path) -> str:
    """What the text file beside a video says, or nothing."""
    try:
        return " ".join(path.with_suffix(".txt").read_text(encoding="utf-8").split())
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise ReducioError(f"{path.with_suffix('.txt')} can't be read: {error}") from error
