"""A latent that remembers how many frames it stands for."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


class Latent(Tensor):
    """A motion latent ``(B, z, N*t, h, w)`` of N clips: a tensor with two more attributes.

    A video of 17 frames makes two clips, as one of 32 frames does: without ``num_frames`` a decoder couldn't know. It
    is carried through torch operations (``to``, ``clone``, ``half``, ``cpu``, arithmetic, slices of the batch) by one
    rule: a result with five axes and the same length of the time axis is a ``Latent`` of the same video, anything
    else is a plain tensor, and so is what joins latents of different videos. ``copy`` keeps it.

    ``torch.save`` and ``pickle`` write plain data, which ``torch.load`` reads with and without this package: a
    ``torch.Tensor`` that has both attributes, and that ``decode`` understands as it is. Operations on that one don't carry
    them on; ``Latent.of(t, num_frames=t.num_frames, keyframe_index=t.keyframe_index)`` is a ``Latent`` again. NumPy and
    safetensors keep neither: save both numbers beside the values.
    """

    num_frames: int
    """Frames of the video, 1 to ``16 * N``."""
    keyframe_index: int
    """Which of a clip's 16 frames is its key frame."""

    @staticmethod
    def of(tensor: Tensor, *, num_frames: int, keyframe_index: int) -> Latent:
        """Attach what a decoder must know to ``tensor: (B, z, N*t, h, w)``; shares its memory."""
        latent = tensor.as_subclass(Latent)
        latent.num_frames = num_frames
        latent.keyframe_index = keyframe_index
        return latent

    def plain(self) -> Tensor:
        """The same values as a plain tensor."""
        return self.as_subclass(Tensor)

    def __reduce_ex__(self, protocol: Any) -> Any:
        values = self.plain()
        if hasattr(self, "num_frames"):
            values.__dict__.update(num_frames=self.num_frames, keyframe_index=self.keyframe_index)
        return values.__reduce_ex__(protocol)

    def __copy__(self) -> Latent:
        return Latent.of(self.plain(), num_frames=self.num_frames, keyframe_index=self.keyframe_index)

    def __deepcopy__(self, memo: dict[int, Any]) -> Latent:
        # torch's own wants new_empty() of any shape to stay in the subclass
        values = copy.deepcopy(self.plain(), memo)
        return Latent.of(values, num_frames=self.num_frames, keyframe_index=self.keyframe_index)

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = super().__torch_function__(func, types, args, kwargs)  # type: ignore[no-untyped-call]
        with torch._C.DisableTorchFunctionSubclass():
            return _mark(result, list(_latents((args, tuple(kwargs.values())))))


def known_facts(latent: Tensor) -> tuple[int | None, int | None]:
    """The number of frames and the key frame's place that a latent knows, loaded ones included; None where it doesn't."""
    return getattr(latent, "num_frames", None), getattr(latent, "keyframe_index", None)


def _latents(value: Any) -> Iterator[Latent]:
    if isinstance(value, Latent):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _latents(item)


def _mark(result: Any, sources: list[Latent]) -> Any:
    """Give a result the attributes of the latents it was made of, or make it plain."""
    if type(result) in (list, tuple):
        return type(result)(_mark(item, sources) for item in result)
    if not isinstance(result, Latent):
        return result
    facts = {(s.shape[2], s.num_frames, s.keyframe_index) for s in sources if hasattr(s, "num_frames")}
    if len(facts) != 1 or result.ndim != 5 or result.shape[2] != next(iter(facts))[0]:
        # an operation in place returns its own argument, which stays what it is
        return result if any(result is source for source in sources) else result.as_subclass(Tensor)
    _, result.num_frames, result.keyframe_index = facts.pop()
    return result
