"""Generated clips against real ones: FVD, inception score, and a result that says what both were made of.

Features are kept beside the clips, in parts, under the hash of the network that gave them: a run that was cut off goes on,
and weights that come later only add what is theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from reducio_codec.config import CLIP_LENGTH
from reducio_codec.errors import InputError, ReducioError
from reducio_codec.generate.protocols.items import Item, plan_digest
from reducio_codec.generate.protocols.making import (
    REQUEST_FILE,
    RESULT_FILE,
    Clip,
    Maker,
    Report,
    read_real,
    read_request_file,
    write_json,
)
from reducio_codec.io.files import atomic_write, writing_errors
from reducio_codec.io.video import read_clip
from reducio_codec.metrics.frechet import frechet_distance
from reducio_codec.metrics.fvd import Fvd, I3d, find_i3d
from reducio_codec.metrics.inception_score import SPLITS, C3d, inception_score
from reducio_codec.metrics.weights import NeedsFileError

PART = 64
"""Clips whose features are stored together."""

NOT_RUN = "not run: "

Network = Callable[[Clip], NDArray[Any]]
Opened = TypeVar("Opened")
Vectors = dict[str, NDArray[np.float32]]
"""``generated`` and, where they are wanted, ``real``: (n, d) each."""


@dataclass(kw_only=True)
class Measurement:
    """Of the clips of a run. Networks are opened at once: a wrong file is refused before hours of making clips.

    Args:
        i3d_sha256: what the hash of I3D's file must be; another one's distances are no FVD.
    """

    maker: Maker
    i3d: Path | None
    i3d_sha256: str
    c3d: Path | None
    device: str
    skipped: dict[str, str] = field(default_factory=dict)
    """Clips that are there and can't be measured, and why."""

    def __post_init__(self) -> None:
        self._i3d = _open(lambda: I3d(find_i3d(self.i3d), sha256=self.i3d_sha256, device=self.device))
        self._c3d = _open(lambda: C3d(self.c3d, device=self.device))

    def fvd(self, *, report: Report | None = None) -> dict[str, Any] | str:
        """FVD as JSON values, or why there is none."""
        network = self._i3d
        if isinstance(network, str):
            return network
        found = self._vectors(network, name=f"i3d-{network.sha256[:12]}", with_real=True, report=report)
        if len(found["generated"]) < 2:
            return f"{NOT_RUN}{len(found['generated'])} clips; FVD needs at least two"
        generator = self.maker.generator
        return Fvd(
            value=frechet_distance(found["real"], found["generated"]),
            clips=len(found["generated"]),
            frames=CLIP_LENGTH,
            height=generator.height,
            width=generator.width,
            i3d_sha256=network.sha256,
        ).to_json()

    def inception_score(self, *, report: Report | None = None) -> dict[str, Any] | str:
        """Inception score as JSON values, or why there is none."""
        network = self._c3d
        if isinstance(network, str):
            return network
        found = self._vectors(network, name=f"c3d-{network.sha256[:12]}", with_real=False, report=report)["generated"]
        if len(found) < SPLITS:
            return f"{NOT_RUN}{len(found)} clips; {SPLITS} parts need at least as many"
        return {**inception_score(found).to_json(), "c3d_sha256": network.sha256}

    def _vectors(self, network: Network, *, name: str, with_real: bool, report: Report | None) -> Vectors:
        folder = self.maker.out / "features" / name
        with writing_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        items, parts = self.maker.plan.items, []
        for first in range(0, len(items), PART):
            path = folder / f"part-{first // PART:05d}.safetensors"
            there = [item for item in items[first : first + PART] if self.maker.path(item).is_file()]
            if there:
                parts.append(self._part(path, there, network=network, with_real=with_real))
            if report is not None:
                report(min(first + PART, len(items)), len(items))
        sides = ("generated", "real") if with_real else ("generated",)
        rows = {side: [part[side] for part in parts if len(part[side])] for side in sides}
        return {side: np.concatenate(found) if found else np.empty((0, 1), np.float32) for side, found in rows.items()}

    def _part(self, path: Path, items: Sequence[Item], *, network: Network, with_real: bool) -> Vectors:
        """Of some clips: from their file, if it is of these very ones, or computed and stored."""
        key = plan_digest(items)
        stored = _read_part(path, key=key)
        if stored is not None:
            return stored
        rows: dict[str, list[NDArray[Any]]] = {"generated": [], "real": []}
        skipped = {}
        for item in items:
            try:
                generated, real = self._clips(item, with_real=with_real)
            except ReducioError as error:
                skipped[item.name] = str(error)
                continue
            rows["generated"].append(network(generated))
            if real is not None:
                rows["real"].append(network(real))
        vectors = {
            side: np.stack(found).astype(np.float32) if found else np.empty((0, 1), np.float32)
            for side, found in rows.items()
        }
        self.skipped.update(skipped)
        if not skipped:  # what failed may be mended by the next run
            with atomic_write(path) as file:
                file.write(save(vectors, metadata={"items": key}))
        return vectors

    def _clips(self, item: Item, *, with_real: bool) -> tuple[Clip, Clip | None]:
        """The generated clip of an item and, if wanted, the real one. ReducioError if one can't be read."""
        generator = self.maker.generator
        clip = read_clip(self.maker.path(item))
        expected = (CLIP_LENGTH, generator.height, generator.width, 3)
        if clip.shape != expected:
            raise InputError(f"{self.maker.path(item)} has shape {clip.shape}; it must be {expected}")
        if not with_real or item.real is None:
            return clip, None
        return clip, read_real(item.real, width=generator.width, height=generator.height)


def _open(load: Callable[[], Opened]) -> Opened | str:
    """A network, or what the result says instead where its file is missing."""
    try:
        return load()
    except NeedsFileError as error:
        return f"{NOT_RUN}needs {error.file}"


def _read_part(path: Path, *, key: str) -> Vectors | None:
    """Features of exactly these items, or None."""
    try:
        with safe_open(path, framework="numpy") as file:
            if (file.metadata() or {}).get("items") != key:
                return None
            return {side: file.get_tensor(side) for side in ("generated", "real")}
    except (SafetensorError, OSError):
        return None


def write_result(maker: Maker, *, choices: Sequence[str], published: dict[str, Any], values: dict[str, Any],
                 skipped: dict[str, str]) -> dict[str, Any]:  # fmt: skip
    """The result of a run as ``result.json``: what was asked for, what it gave, and what was left out."""
    stored = read_request_file(maker.out / REQUEST_FILE)
    left_out = {**maker.plan.skipped, **maker.skipped, **skipped}
    result = {
        "protocol": maker.protocol,
        "request": stored["request"],
        "environments": stored["environments"],
        "choices": list(choices),
        "notes": maker.plan.notes,
        "published": published,
        "clips": {
            "planned": len(maker.plan.items),
            "made": sum(maker.path(item).is_file() for item in maker.plan.items),
            "left_out": len(left_out),
        },
        "left_out": left_out,
        **values,
    }
    write_json(maker.out / RESULT_FILE, result)
    return result
