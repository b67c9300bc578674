"""Which references a frame is made from: the one that the latent's motion leads to, and the nearest on its other side.

A clip has any number of references, inside it or beside it. A frame takes at most two of them, so a decoder costs the
same however many there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reducio_codec.config import CLIP_LENGTH
from reducio_codec.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Frames are numbered through the batch, 0 to B*16 - 1, and references likewise, 0 to B*R - 1; all int64."""

    near: Tensor
    """(B*16,): of each frame, the reference that the latent's motion leads to."""
    between: Tensor
    """(N,): frames that lie between that one and another."""
    far: Tensor
    """(N,): the other reference of those."""
    pairs: Tensor
    """(2, P): each near and far reference that some frame lies between, once."""
    pair: Tensor
    """(N,): which of those pairs."""
    time: Tensor
    """(N,) float32: how far each frame is on the way from near, 0, to far, 1."""
    shown: Tensor
    """(2, M): frames that are references themselves, and which."""

    def among(self, frames: slice) -> tuple[Tensor | slice, Tensor | slice]:
        """Of the N between those that are among ``frames``, which they are, and their places there. ``slice(None)`` is all; of
        others, those that follow one another are slices, as what is taken by such isn't copied."""
        if frames == slice(None):
            return frames, self.between
        here = torch.nonzero((self.between >= frames.start) & (self.between < frames.stop))[:, 0]
        places = self.between[here] - frames.start
        if len(here) and bool((places.diff() == 1).all()):  # here, in order, they follow one another then, too
            return _run(here), _run(places)
        return here, places


def _run(numbers: Tensor) -> slice:
    return slice(int(numbers[0]), int(numbers[-1]) + 1)


def nearest(
    places: Sequence[float], frame: int, *, beside: Sequence[bool], present: Sequence[bool] | None = None
) -> int | None:
    """The reference that a frame's motion leads to: the nearest of the clip's own, without one the nearest beside it."""
    found = [i for i in range(len(places)) if present is None or present[i]]
    own = [i for i in found if not beside[i]]
    return min(own or found, key=lambda i: abs(places[i] - frame), default=None)


def plan_references(
    places: Sequence[float],
    *,
    beside: Sequence[bool],
    present: Sequence[Sequence[bool]],
    device: torch.device | str = "cpu",
) -> Plan:
    """The plan for a batch of clips.

    Args:
        places: R places of the references in frames of this clip.
        beside: (R,), whether they belong to another clip.
        present: (B, R), which of them each clip really has.

    Raises:
        InputError: a clip has none.
    """
    count = len(places)
    near, between, far, time, shown = [], [], [], [], []
    for clip, there in enumerate(present):
        for frame in range(CLIP_LENGTH):
            first = nearest(places, frame, beside=beside, present=there)
            if first is None:
                raise InputError(f"clip {clip} of the batch has no reference; this decoder needs one or more")
            near.append(clip * count + first)
            number = clip * CLIP_LENGTH + frame
            if places[first] == frame and not beside[first]:
                shown.append((number, near[-1]))
                continue
            side = 1 if frame >= places[first] else -1
            others = [i for i in range(count) if there[i] and side * (places[i] - frame) > 0]
            if others:
                second = min(others, key=lambda i: abs(places[i] - frame))
                between.append(number)
                far.append(clip * count + second)
                time.append((frame - places[first]) / (places[second] - places[first]))
    pairs = list(dict.fromkeys((near[frame], other) for frame, other in zip(between, far, strict=True)))
    numbers = {pair: number for number, pair in enumerate(pairs)}
    which = [numbers[near[frame], other] for frame, other in zip(between, far, strict=True)]

    def whole(values: Sequence[object], *shape: int) -> Tensor:
        return torch.tensor(values, dtype=torch.int64).reshape(*shape).to(device)

    return Plan(
        near=whole(near, -1),
        between=whole(between, -1),
        far=whole(far, -1),
        pairs=whole(pairs, -1, 2).T,
        pair=whole(which, -1),
        time=torch.tensor(time, dtype=torch.float32).to(device),
        shown=whole(shown, -1, 2).T,
    )
