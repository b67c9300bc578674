"""What no learned model should score below: methods of a few lines, on the exact (uncoded) key frame.

``source`` gives the clip itself: its features are the other side of rFVD, and its row shows each metric's best value.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.methods import Candidate, Frames, Reconstruction, Reconstructor
from bench.protocol import KEYFRAME

SOURCE = "source"
COEFFICIENTS = 4096
"""As many values as the paper's latent has for a clip of 16x256x256."""

TEMPORAL = 2
"""Temporal frequencies that are kept, of 16: the best of 2, 4, 8 and 16 on real clips."""


@dataclass(frozen=True, kw_only=True)
class Floor:
    """A function of the clip."""

    settings: dict[str, Any]
    function: Callable[[Frames], Reconstruction]

    def __call__(self, clip: Frames) -> Reconstruction:
        return self.function(clip)


def source(clip: Frames) -> Reconstruction:
    return Reconstruction(frames=clip, latent={"positions": 0, "values": 0, "pixels": clip.size})


def repeat_keyframe(clip: Frames) -> Reconstruction:
    """The middle frame sixteen times."""
    frames = np.repeat(clip[KEYFRAME][None], len(clip), axis=0)
    return Reconstruction(frames=frames, latent={"positions": 0, "values": 0, "pixels": clip[0].size})


def interpolate(clip: Frames) -> Reconstruction:
    """First and last frame of the clip, and a cross-fade between them: two key frames, no motion."""
    share = np.linspace(0, 1, len(clip))[:, None, None, None]  # (16, 1, 1, 1)
    frames = np.rint((1 - share) * clip[0] + share * clip[-1]).astype(np.uint8)
    return Reconstruction(frames=frames, latent={"positions": 0, "values": 0, "pixels": 2 * clip[0].size})


def low_frequencies(clip: Frames) -> Reconstruction:
    """The middle frame, and the lowest frequencies of what the others differ from it, 4096 values in all."""
    fft: Any = importlib.import_module("scipy.fft")
    keyframe = clip[KEYFRAME].astype(np.float32)
    kept = zone(clip.shape[:3], count=COEFFICIENTS // 3)  # (16, H, W)
    spectrum = fft.dctn(clip.astype(np.float32) - keyframe, axes=(0, 1, 2), norm="ortho")  # (16, H, W, 3)
    change = fft.idctn(spectrum * kept[..., None], axes=(0, 1, 2), norm="ortho")
    frames = np.rint(keyframe + change).clip(0, 255).astype(np.uint8)
    frames[KEYFRAME] = clip[KEYFRAME]
    values = 3 * int(kept.sum())
    return Reconstruction(frames=frames, latent={"positions": values // 3, "values": values, "pixels": clip[0].size})


def zone(shape: tuple[int, ...], *, count: int) -> NDArray[np.bool_]:
    """Which ``count`` frequencies of ``(T, H, W)`` are kept: the lowest in space, at the lowest in time; the same
    ones for every clip, since places cost bits, too."""
    frames, height, width = shape
    time, y, x = np.ogrid[:frames, :height, :width]
    order = np.where(time < min(TEMPORAL, frames), (y / height) ** 2 + (x / width) ** 2 + 1e-9 * time, np.inf)
    kept = np.zeros(shape, dtype=np.bool_)
    kept.flat[np.argsort(order, axis=None, kind="stable")[:count]] = True
    return kept


_FLOORS: dict[str, Callable[[Frames], Reconstruction]] = {
    SOURCE: source,
    "repeat-keyframe": repeat_keyframe,
    "interpolate-two-keyframes": interpolate,
    "keyframe+dct4096": low_frequencies,
}


def floors() -> list[Candidate[Reconstructor]]:
    return [Candidate(name=name, points={"exact": _opener(function)}) for name, function in _FLOORS.items()]


def _opener(function: Callable[[Frames], Reconstruction]) -> Callable[[], Reconstructor]:
    return lambda: Floor(settings={"function": function.__name__}, function=function)
