"""A sample's pixels to what a shard holds of it."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reducio_codec.clips.scenes import clip_motion, sample_points
from reducio_codec.codec import ReducioCodec
from reducio_codec.errors import ReducioError
from reducio_codec.generate.extract.options import ExtractOptions
from reducio_codec.generate.extract.plan import Sample, Shard
from reducio_codec.generate.extract.shards import SUFFIXES, write_shard
from reducio_codec.generate.semantic import ImageEncoder
from reducio_codec.generate.text import TextEncoder
from reducio_codec.io.pixels import to_unit
from reducio_codec.models.precision import Dtype
from reducio_codec.rdc.keyframe import encode_keyframe
from reducio_codec.training.crops import resize
from reducio_codec.training.scan import Video
from reducio_codec.training.store import FrameStore, open_store
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


@dataclass(frozen=True, kw_only=True)
class ShardResult:
    """How a shard came out."""

    name: str
    samples: int
    failures: tuple[str, ...]
    """Samples that are missing in it since their video couldn't be read, with the reason."""


class ShardMaker:
    """Loads the encoders once, then makes one shard a call."""

    def __init__(self, *, out: Path, options: ExtractOptions, encoders: Encoders) -> None:
        if encoders.threads is not None:
            torch.set_num_threads(encoders.threads)
        self._out, self._options = out, options
        model, info = load_pretrained(encoders.codec)
        self._codec = ReducioCodec(model, model_id=info.id, device=encoders.device, dtype=encoders.dtype)
        where: dict[str, Any] = {"device": encoders.device, "dtype": encoders.dtype}
        self._text = self._image = None
        if encoders.text_encoder is not None:
            name = encoders.text_encoder
            self._text = TextEncoder.from_pretrained(name, max_tokens=encoders.text_tokens, **where)
        if encoders.image_encoder is not None:
            self._image = ImageEncoder.from_pretrained(encoders.image_encoder, **where)
        self._captions: dict[str, Tensor] = {}

    def __call__(self, shard: Shard) -> ShardResult:
        """Write the shard under its name.

        Raises:
            ReducioError: it can't be written, or a latent isn't finite; there is no half of it then.
        """
        store = open_store(shard.videos, storage=self._options.storage, device=torch.device("cpu"))
        self._captions = {}
        failures: list[str] = []

        def members() -> Any:
            for sample in shard.samples:
                video = shard.videos[sample.video]
                try:
                    clip = _pixels(store, sample)
                except (ReducioError, OSError) as error:
                    failures.append(f"{video.name}, frame {sample.frames[0]}: {error}")
                    continue
                yield sample.key, self._parts(clip, sample, video)

        count = write_shard(self._out / shard.name, members())
        return ShardResult(name=shard.name, samples=count, failures=tuple(failures))

    def _parts(self, clip: Tensor, sample: Sample, video: Video) -> dict[str, bytes]:
        """``clip``: (3, 16, h, w) uint8."""
        options = self._options
        index = self._codec.model.default_keyframe_index
        frames = clip.permute(1, 2, 3, 0).contiguous()  # (16, h, w, 3)
        latent, _ = self._codec.encode(frames.to(self._codec.device))
        keyframe = clip[:, index]  # (3, h, w)
        picture = np.ascontiguousarray(frames[index].numpy())
        motion = clip_motion(np.stack([sample_points(frame) for frame in frames.numpy()]))[0]
        facts = {
            "video": video.name,
            "frames": list(sample.frames),
            "crop": [sample.top, sample.left, sample.height, sample.width],
            "size": list(sample.size),
            "flip": sample.flip,
            "keyframe_index": index,
            "motion": round(float(motion), 3),
        }
        parts = {"latent.npy": self._array(latent[0], what=f"the latent of {sample.key} ({video.name})")}
        if self._text is not None:
            caption = read_caption(video.path)
            if caption:
                facts["caption"] = caption
                if caption not in self._captions:
                    self._captions[caption] = self._text.encode([caption])[0][0]  # (L, C)
                parts["text.npy"] = self._array(self._captions[caption], what=f"the text tokens of {video.name}")
        if self._image is not None:
            tokens = self._image.encode(to_unit(keyframe)[None])[0]  # (S, C)
            parts["semantic.npy"] = self._array(tokens, what=f"the semantic tokens of {sample.key} ({video.name})")
        parts[SUFFIXES[options.keyframe]] = encode_keyframe(picture, codec=options.keyframe, quality=options.quality)
        parts["json"] = json.dumps(facts, sort_keys=True).encode()
        return parts

    def _array(self, values: Tensor, *, what: str) -> bytes:
        """A .npy file."""
        stored = values.detach().as_subclass(Tensor).cpu().to(getattr(torch, self._options.dtype))
        if not bool(torch.isfinite(stored).all()):
            raise ReducioError(f"{what} isn't finite as {self._options.dtype}")
        file = io.BytesIO()
        np.save(file, stored.numpy(), allow_pickle=False)
        return file.getvalue()


def read_caption(path: Path) -> str:
    """What the text file beside a video says, or nothing."""
    try:
        return " ".join(path.with_suffix(".txt").read_text(encoding="utf-8").split())
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise ReducioError(f"{path.with_suffix('.txt')} can't be read: {error}") from error


def _pixels(store: FrameStore, sample: Sample) -> Tensor:
    """(3, 16, h, w) uint8."""
    frames = store.frames(sample.video, sample.frames)  # (16, H, W, 3)
    frames = frames[:, sample.top : sample.top + sample.height, sample.left : sample.left + sample.width]
    clip = resize(frames, height=sample.size[0], width=sample.size[1])
    return clip.flip(3) if sample.flip else clip
