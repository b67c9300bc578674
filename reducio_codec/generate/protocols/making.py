"""Clips into files, a batch at a time. A file that is there is finished, so a run that was cut off is simply started again."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reducio_codec.config import CLIP_LENGTH
from reducio_codec.errors import InputError, ReducioError
from reducio_codec.generate.continuation import FRAME_RATE
from reducio_codec.generate.pictures import load_picture
from reducio_codec.generate.protocols.items import Item, Plan
from reducio_codec.generate.protocols.settings import Generator, environment
from reducio_codec.io.files import atomic_write, writing_errors
from reducio_codec.io.video import open_video
from reducio_codec.io.writer import VideoWriter
from reducio_codec.training.crops import centre_crop
from reducio_codec.training.scan import thin

Clip = NDArray[np.uint8]
"""(16, H, W, 3)."""

Report = Callable[[int, int], None]
"""Called with items done and in all."""

REQUEST_FILE, RESULT_FILE = "request.json", "result.json"

REAL = (
    "the middle 16 frames of each video, thinned to at most 16 a second; shorter side resized (bilinear, antialiased), "
    "middle cut out"
)
"""How a real video becomes a clip."""


@dataclass(kw_only=True)
class Maker:
    """A run into a folder.

    Args:
        out: made if missing. It belongs to one request: another one is refused.
        protocol: kind and version, as ``ucf101/1``.
        lossless: FFV1 in Matroska for measurements, otherwise H.264 in MP4 for other programs.
    """

    out: Path
    protocol: str
    generator: Generator
    plan: Plan
    options: dict[str, Any]
    """What else the clips depend on, by name."""
    lossless: bool
    skipped: dict[str, str] = field(default_factory=dict)
    """Items that couldn't be made, and why."""

    def path(self, item: Item) -> Path:
        """The file of an item's clip."""
        return self.out / "clips" / f"{item.name}{'.mkv' if self.lossless else '.mp4'}"

    @property
    def request(self) -> dict[str, Any]:
        """Everything that decides what the clips look like."""
        prompts = {"items": len(self.plan.items), "items_digest": self.plan.digest()}
        return {"protocol": self.protocol, **self.generator.description, **self.options, **prompts}

    def run(self, *, report: Report | None = None) -> None:
        """Make what is missing.

        Raises:
            InputError: the folder holds clips of another request. ReducioError: the models fail.
        """
        with writing_errors(self.out):
            (self.out / "clips").mkdir(parents=True, exist_ok=True)
        self._check_request()
        todo = [item for item in self.plan.items if not self.path(item).is_file()]
        done, size = len(self.plan.items) - len(todo), self.generator.settings.batch
        for first in range(0, len(todo), size):
            part = todo[first : first + size]
            self._make(part)
            done += len(part)
            if report is not None:
                report(done, len(self.plan.items))

    def _check_request(self) -> None:
        """Record the request and what it runs on, or refuse a folder that holds another."""
        path, request = self.out / REQUEST_FILE, json.loads(json.dumps(self.request))
        environments = [environment()]
        if path.is_file():
            stored = read_request_file(path)
            differs = [key for key in stored["request"] | request if stored["request"].get(key) != request.get(key)]
            if differs:
                key = differs[0]
                raise InputError(
                    f"{self.out} holds clips of another request: {key} is {stored['request'].get(key)!r} there and "
                    f"{request.get(key)!r} here; give this one a folder of its own"
                )
            known = stored["environments"]
            environments = known + [here for here in environments if here not in known]
        elif any((self.out / "clips").iterdir()):
            raise InputError(
                f"{self.out} holds clips, but no {REQUEST_FILE} that says what they are; give another folder"
            )
        write_json(path, {"request": request, "environments": environments})

    def _make(self, items: Sequence[Item]) -> None:
        pictures = [self._picture(item) for item in items]
        ready = [
            (item, picture) for item, picture in zip(items, pictures, strict=True) if item.name not in self.skipped
        ]
        if not ready:
            return
        settings, told = self.generator.settings, self.generator.tells_prompts
        names = ("steps", "guidance", "guidance_of", "sampler", "picture_steps", "picture_guidance")
        sampling = {name: self.generator.description[name] for name in names}
        made = self.generator.pipeline(
            [item.prompt for item, _ in ready] if told else None,
            image=None if settings.text_to_image else [picture for _, picture in ready],
            seed=[item.seed(settings.seed) for item, _ in ready],
            height=self.generator.height,
            width=self.generator.width,
            **sampling,
            decoder=settings.decoder,
        )
        for (item, _), clip in zip(ready, made, strict=True):
            write_clip(self.path(item), clip, lossless=self.lossless)

    def _picture(self, item: Item) -> Any:
        """The key picture, or None; a source that can't be read leaves the item out."""
        try:
            if item.real is not None:  # read even where it isn't needed here: what has no real clip isn't measured
                clip = read_real(item.real, width=self.generator.width, height=self.generator.height)
                return clip[self.generator.pipeline.keyframe_index]
            return None if item.picture is None else load_picture(item.picture)
        except ReducioError as error:
            self.skipped[item.name] = str(error)
            return None


def read_real(path: Path, *, width: int, height: int) -> Clip:
    """The real clip of a video; see ``REAL``.

    Raises:
        VideoError: it can't be read. InputError: it has fewer than 16 frames.
    """
    if width != height:
        raise InputError(f"the size is {width}x{height}; clips that are compared with real ones are squares")
    rate = Fraction(FRAME_RATE)
    with open_video(path) as reader:
        numbers = [number for number, _ in thin(reader, time_base=reader.info.time_base, rate=rate)]
    if len(numbers) < CLIP_LENGTH:
        raise InputError(f"{path} has {len(numbers)} frames at {FRAME_RATE} a second; a clip has {CLIP_LENGTH}")
    first = (len(numbers) - CLIP_LENGTH) // 2
    wanted = numbers[first : first + CLIP_LENGTH]
    frames: list[NDArray[np.uint8]] = []
    with open_video(path) as reader:  # a second time, so that a long video needn't be held
        for number, frame in enumerate(reader.frames(start=wanted[0]), start=wanted[0]):
            if number == wanted[len(frames)]:
                frames.append(frame.rgb)
                if len(frames) == CLIP_LENGTH:
                    break
    return centre_crop(torch.from_numpy(np.stack(frames)), side=width)


def write_clip(path: Path, clip: Clip, *, lossless: bool) -> None:
    """``(T, H, W, 3)`` uint8; nothing stands at ``path`` before it is whole."""
    _, height, width, _ = clip.shape
    rate = Fraction(FRAME_RATE)
    with VideoWriter(path, width=width, height=height, time_base=1 / rate, rate=rate, lossless=lossless) as writer:
        for number, frame in enumerate(clip):
            writer.write(frame, number)


def read_request_file(path: Path) -> dict[str, Any]:
    """``request`` and ``environments`` of a folder. InputError if it is damaged."""
    try:
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(stored["request"], dict) and isinstance(stored["environments"], list):
            return stored
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise InputError(f"{path} is damaged, so what the clips beside it are isn't known; give another folder")


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Whole or not at all."""
    with atomic_write(path) as file:
        file.write((json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())
