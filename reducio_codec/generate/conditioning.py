"""What a clip is made from, as tensors: they can be computed once, stored, and taken apart again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from reducio_codec.errors import InputError
from reducio_codec.generate.config import DiTConfig
from reducio_codec.generate.content import STRIDE


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Conditions of B clips of one size. What is None is not told; a model knows how to do without text or picture."""

    size: Tensor
    """(B, 2) height and width in pixels, multiples of 32. It stays on the host, which looks at it."""
    text: Tensor | None = None
    """(B, L, text_channels): tokens of the text encoder."""
    text_mask: Tensor | None = None
    """(B, L) bool: which of them are the prompt's."""
    semantic: Tensor | None = None
    """(B, S, semantic_channels): tokens of the image encoder."""
    keyframe: Tensor | None = None
    """(B, 3, H, W) in [-1, 1]: the key picture, for the model's own content encoder. Alternative to ``content``."""
    content: Tensor | None = None
    """(B, C, H / 16, W / 16): what that encoder gave. It changes when the model is trained on."""
    motion: Tensor | None = None
    """(B,): how much moves, over the model's ``motion_unit``; NaN: not told. For models that take it."""
    camera: Tensor | None = None
    """(B, 4): what the camera does, see ``controls.Camera``; NaN: not told. For models that take it."""
    known: Tensor | None = None
    """(B, z, t, h, w): latents that are given in part. For models that go on."""
    is_known: Tensor | None = None
    """(B, t) bool: where in time they are."""
    keep_text: Tensor | None = None
    """(B,) bool: False leaves this clip's text out. None keeps all."""
    keep_image: Tensor | None = None
    """(B,) bool: False leaves this clip's picture out. None keeps all."""

    def __post_init__(self) -> None:
        if self.size.ndim != 2 or self.size.shape[1] != 2:
            raise InputError(f"size has shape {tuple(self.size.shape)}; it must be (B, 2)")
        if (self.text is None) != (self.text_mask is None):
            raise InputError("text and text_mask belong together; one of them is None")
        if (self.known is None) != (self.is_known is None):
            raise InputError("known and is_known belong together; one of them is None")
        for name, value in self.tensors().items():
            if value.shape[0] != self.batch:
                raise InputError(f"{name} has shape {tuple(value.shape)}, but there are {self.batch} clips")

    @property
    def batch(self) -> int:
        return self.size.shape[0]

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width in pixels, of each clip."""
        height, width = self.size[0].tolist()  # on the host
        return int(height), int(width)

    def tensors(self) -> dict[str, Tensor]:
        """What isn't None, by name: as it is stored."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in named.items() if value is not None}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Conditions:
        """Undo ``tensors``. InputError names what isn't a condition."""
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(tensors) - set(known))
        if unknown or "size" not in tensors:
            found = repr(unknown[0]) if unknown else "no size"
            raise InputError(f"conditions: {found}; allowed: {', '.join(known)}")
        return cls(**tensors)

    def to(self, device: torch.device | str, *, dtype: torch.dtype | None = None) -> Conditions:
        """Move all but ``size``, queued where the device has a queue; floats become ``dtype`` where it is given."""
        queued = torch.device(device).type != "cpu"
        moved = {
            name: value.to(device, dtype if value.is_floating_point() else None, non_blocking=queued)
            for name, value in self.tensors().items()
            if name != "size"
        }
        return Conditions(size=self.size, **moved)

    def leave_out(self, dropped: Tensor) -> Conditions:
        """Leave out the text (first row) and the picture (second row) of clips where ``dropped`` (2, B) is True (Sec. 4.1)."""
        text, image = ~dropped
        return replace(self, keep_text=_both(text, self.keep_text), keep_image=_both(image, self.keep_image))


def _both(keep: Tensor, also: Tensor | None) -> Tensor:
    return keep if also is None else also & keep.to(also.device, non_blocking=also.device.type != "cpu")


def join_conditions(parts: Sequence[Conditions]) -> Conditions:
    """Several batches as one. They must be alike: the same size of picture and the same kinds of conditions."""
    kinds = {frozenset(part.tensors()) for part in parts}
    if len(kinds) != 1:
        raise InputError(f"conditions of different kinds can't be joined: {sorted(map(sorted, kinds))}")
    names = parts[0].tensors()
    try:
        return Conditions(**{name: torch.cat([part.tensors()[name] for part in parts]) for name in names})
    except RuntimeError as error:
        raise InputError(f"conditions of different shapes can't be joined: {error}") from error


def for_model(conditions: Conditions, *, config: DiTConfig) -> Conditions:
    """What this model takes of stored conditions, which may tell more."""
    return replace(
        conditions,
        text=conditions.text if config.text_channels else None,
        text_mask=conditions.text_mask if config.text_channels else None,
        semantic=conditions.semantic if config.uses_semantic else None,
        keyframe=conditions.keyframe if config.uses_content else None,
        motion=conditions.motion if config.motion_unit else None,
        camera=conditions.camera if config.motion_unit else None,
        known=conditions.known if config.goes_on else None,
        is_known=conditions.is_known if config.goes_on else None,
    )


def check_conditions(conditions: Conditions, *, config: DiTConfig) -> None:
    """Refuse conditions that this model can't take: nothing is ignored silently."""
    text, semantic = conditions.text, conditions.semantic
    if text is not None:
        if not config.text_channels:
            raise InputError("conditions hold text, but this model takes none (text_channels is 0)")
        if text.ndim != 3 or text.shape[2] != config.text_channels:
            raise InputError(f"text has shape {tuple(text.shape)}; this model needs (B, L, {config.text_channels})")
        if text.shape[1] > config.text_tokens:
            raise InputError(f"text has {text.shape[1]} tokens; this model takes up to {config.text_tokens}")
    if semantic is not None:
        if not config.uses_semantic:
            raise InputError("conditions hold semantic tokens, but this model takes none (image_condition='content')")
        if semantic.ndim != 3 or semantic.shape[2] != config.semantic_channels:
            raise InputError(
                f"semantic has shape {tuple(semantic.shape)}; this model needs (B, S, {config.semantic_channels})"
            )
    picture = conditions.keyframe is not None or conditions.content is not None
    if picture and not config.uses_content:
        raise InputError("conditions hold a key picture, but this model has semantic tokens only")
    if config.uses_content and config.uses_semantic and picture != (semantic is not None):
        given, missing = ("a key picture", "semantic") if picture else ("semantic tokens", "keyframe")
        raise InputError(f"conditions hold {given} but no {missing}; this model needs both, or neither")
    if conditions.keyframe is not None and conditions.content is not None:
        raise InputError("conditions hold both keyframe and content; give one of them")
    if conditions.size.numel() and (conditions.size % config.pixel_multiple).any():
        raise InputError(f"size is {conditions.size.tolist()}; sides must be multiples of {config.pixel_multiple}")
    _check_controls(conditions, config=config)
    _check_picture(conditions)


def _check_controls(conditions: Conditions, *, config: DiTConfig) -> None:
    for name, given, shape in (("motion", conditions.motion, ()), ("camera", conditions.camera, (4,))):
        if given is None:
            continue
        if not config.motion_unit:
            raise InputError(f"conditions hold {name}, but this model takes none (motion_unit is 0)")
        if tuple(given.shape[1:]) != shape:
            raise InputError(f"{name} has shape {tuple(given.shape)}; it must be {(conditions.batch, *shape)}")
    known = conditions.known
    if known is None:
        return
    if not config.goes_on:
        raise InputError("conditions hold known latents, but this model takes none (goes_on is False)")
    sides = [side // config.spatial_compression_ratio for side in conditions.sides]
    needed = (conditions.batch, config.latent_channels, config.latent_frames, *sides)
    if tuple(known.shape) != needed:
        raise InputError(f"known has shape {tuple(known.shape)}; these conditions need {needed}")


def _check_picture(conditions: Conditions) -> None:
    sizes = conditions.size.unique(dim=0)
    if len(sizes) != 1:
        raise InputError(f"size is {conditions.size.tolist()}; clips of one batch have one size")
    for name, value, factor in (("keyframe", conditions.keyframe, 1), ("content", conditions.content, STRIDE)):
        if value is not None and [side * factor for side in value.shape[-2:]] != [int(side) for side in sizes[0]]:
            raise InputError(f"{name} has shape {tuple(value.shape)}, but size is {sizes[0].tolist()}")
