"""The contract: what a model must be able to do, and what a decoder says about itself. Every model derives from
``CodecModel``, whose attributes are the defaults; code outside ``models`` asks nothing else of a model.

A new decoder is a ``Decoder`` in ``describe`` and a branch in ``decode`` of its model; nothing outside names it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import torch
from torch import Tensor, nn

from reducio_codec.config import CLIP_LENGTH, TilingConfig
from reducio_codec.errors import InputError
from reducio_codec.models.posterior import Posterior
from reducio_codec.models.precision import Dtype


class ModelConfig(Protocol):
    """What every model's configuration says about its latent."""

    @property
    def architecture(self) -> str:
        """Name in config.json: ``"reducio"`` or ``"lite"``."""
        ...

    @property
    def decoders(self) -> tuple[str, ...]:
        """Names of the decoders; the first is the default."""
        ...

    @property
    def latent_channels(self) -> int:
        """Channels z of the latent."""
        ...

    @property
    def temporal_compression_ratio(self) -> int:
        """Frames for each position of the latent in time."""
        ...

    @property
    def spatial_compression_ratio(self) -> int:
        """Pixels for each position of the latent along a side."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values that rebuild the configuration."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """A coded picture that a clip is decoded from: one of its own frames, or one of a clip beside it."""

    picture: Tensor
    """(B, 3, H, W) float in [-1, 1] for a model; the runner also takes uint8."""
    place: int
    """Which of the clip's 16 frames it shows, 0 to 15; below and above for one beside the clip. (One beside a short clip may
    lie among the copies that pad it.)"""
    beside: bool = False
    """Whether it belongs to another clip: this clip's latent was made without it."""
    present: tuple[bool, ...] | None = None
    """Which of the B clips of the batch really have it; None: all."""

    @classmethod
    def of_frame(cls, video: Tensor, place: int) -> Self:
        """Frame ``place`` of a clip (B, 3, 16, H, W), as it is."""
        return cls(picture=video[:, :, place], place=place)


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """How many references."""

    least: int = 0
    most: int | None = 0
    """None: any number."""

    def __contains__(self, count: int) -> bool:
        return self.least <= count and (self.most is None or count <= self.most)

    def __str__(self) -> str:
        if self.most is None:
            return f"{self.least} or more"
        return str(self.least) if self.least == self.most else f"{self.least} to {self.most}"


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """What a decoder needs, and what has to be known of it to run and to train it."""

    name: str
    inside: Allowed = Allowed(least=1, most=1)
    """References inside the clip, the pictures that its latent was made with."""
    beside: Allowed = Allowed()
    """References beside the clip, on each side of it. Training has to offer them, too. A clip that has none inside is told from
    one on each side by any decoder that needs some and allows that."""
    least: int = 0
    """References that it needs, inside and beside together."""
    last_layer: str
    """The layer below ``decoders.<name>`` at whose weight training balances its losses."""
    reach: int | None = None
    """How far away, in pixels and motion aside, a pixel sees the latent and the references; None: everywhere in its tile."""

    @property
    def uses_neighbours(self) -> bool:
        """Whether it makes use of references beside the clip."""
        return self.beside.most != 0

    def select(self, references: Sequence[Reference]) -> tuple[Reference, ...]:
        """Those that it makes use of: of the ones beside the clip the nearest on each side."""
        inside = [item for item in references if not item.beside]
        before, after = _sides(references)
        most = self._most_beside(inside)
        before, after = before[::-1][:most][::-1], after[:most]
        return (*before, *inside[: self.inside.most], *after)

    def _most_beside(self, inside: Sequence[object]) -> int | None:
        if not inside and self.least and 0 in self.inside and self.beside.most == 0:
            return 1
        return self.beside.most

    def check(self, references: Sequence[Reference]) -> None:
        """Refuse references at impossible places, or more or fewer than it takes.

        Raises:
            InputError: names the count or the place, and what is allowed.
        """
        inside = [item.place for item in references if not item.beside]
        for place in inside:
            if not 0 <= place < CLIP_LENGTH:
                raise InputError(f"a reference inside the clip is at {place}; allowed: 0 to {CLIP_LENGTH - 1}")
        places = [item.place for item in references]
        if len(set(places)) < len(places):
            raise InputError(f"references are at {', '.join(map(str, places))}; each needs a place of its own")
        if len(references) < self.least:
            raise InputError(
                f"{len(references)} references are given; the decoder {self.name!r} takes {self.least} or more"
            )
        if len(inside) not in self.inside:
            raise InputError(
                f"{len(inside)} references inside the clip are given; the decoder {self.name!r} takes {self.inside}"
            )
        most = self._most_beside(inside)
        for side, given in zip(("before", "after"), _sides(references), strict=True):
            if len(given) < self.beside.least or (most is not None and len(given) > most):
                unused = "has no use for them" if most == 0 else f"takes {self.beside}"
                raise InputError(
                    f"{len(given)} references {side} the clip are given; the decoder {self.name!r} {unused}"
                )


def _sides(references: Sequence[Reference]) -> tuple[list[Reference], list[Reference]]:
    """References beside the clip, those before it and those after it, in order of time."""
    inside = [item.place for item in references if not item.beside]
    middle = min(inside, default=CLIP_LENGTH // 2)
    beside = sorted((item for item in references if item.beside), key=lambda item: item.place)
    return [item for item in beside if item.place < middle], [item for item in beside if item.place >= middle]


@dataclass(frozen=True, kw_only=True)
class Training:
    """What training can do with a model, by its configuration."""

    block: str
    """Class name of the layers that are sharded and recomputed one by one."""
    starts: tuple[str, ...] = ()
    """Ways to start, beside random weights and another model's: ``"flow"``, ``"image_vae"``."""
    learned_variance: bool = False
    """Whether the posterior's variance is learned, so that a KL divergence teaches something."""
    shared: tuple[str, ...] = ()
    """Parts that all decoders read and the encoder doesn't: they learn only where all decoders do."""
    random_keyframe: bool = False
    """Whether any frame of a clip may be its key frame in training."""


class CodecModel(nn.Module, ABC):
    """A network that turns 16 frames into a motion latent and back, with the help of references.

    Frames are float in [-1, 1]; sides are multiples of 32 (of the spatial ratio, if that is larger). With z, t, h, w
    from the configuration's ratios a latent is (B, z, t, h, w), for example (B, 16, 4, 8, 8) for 16x256x256.
    """

    tiling: ClassVar[TilingConfig] = TilingConfig()
    """How large pictures are cut, unless somebody says otherwise."""

    peak_bytes_per_pixel: ClassVar[int] = 4096
    """Memory that it needs at its peak, per pixel of each of the 16 frames of a tile. The paper's decoder holds four tensors
    of 256 channels in float32 there: 4 GiB for 16x256x256 pixels, that is 4096 bytes for each of a million pixels."""

    takes_bytes: ClassVar[bool] = False
    """Whether ``encode`` takes a video of uint8 as well, and ``decode`` and ``decode_each`` such pictures: it makes floats of a
    few at a time."""

    config: ModelConfig
    optimized_dtype: torch.dtype | None = None
    """What ``optimize_for_inference`` has changed it for; it has no gradients then and can't be saved."""

    # ------------------------------------------------------------------ what it has

    @classmethod
    @abstractmethod
    def describe(cls, config: Any, name: str) -> Decoder:
        """The decoder of that name of a model with that configuration, without building it."""

    @classmethod
    def training_of(cls, config: Any) -> Training:
        """What training can do with a model of that configuration."""
        raise InputError(f"a model of the architecture {config.architecture!r} can't be trained")

    @property
    def decoder_names(self) -> tuple[str, ...]:
        """Decoders that are loaded."""
        return self.config.decoders

    @property
    def default_decoder(self) -> str:
        """The one that ``decode`` takes when none is named."""
        return self.decoder_names[0]

    def decoder(self, name: str | None = None) -> Decoder:
        """A loaded decoder by its name, the default one for None; InputError lists the names."""
        if name is None:
            name = self.default_decoder
        if name not in self.decoder_names:
            raise InputError(f"decoder is {name!r}; allowed: {', '.join(self.decoder_names)}")
        return self.describe(self.config, name)

    def last_layer(self, decoder: str) -> Tensor:
        """The weight at which an adversarial loss is balanced."""
        weight = self.get_submodule(f"decoders.{decoder}.{self.decoder(decoder).last_layer}").weight
        assert isinstance(weight, Tensor)
        return weight

    @property
    def default_keyframe_index(self) -> int:
        """The frame of a clip that is its key frame, 0-based: 7 of 16 for the middle one."""
        return (CLIP_LENGTH - 1) // 2

    @property
    def gradient_checkpointing(self) -> bool:
        """Recompute layers in the backward pass instead of keeping what they made: less memory, about a third more time.
        Layers that can do so have an attribute ``checkpointing``."""
        return any(getattr(module, "checkpointing", False) for module in self.modules())

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, value: bool) -> None:
        for module in self.modules():
            if hasattr(module, "checkpointing"):
                setattr(module, "checkpointing", value)  # noqa: B010  nn.Module's annotations know no such attribute

    def peak_bytes(self, tile_size: int, *, device: torch.device) -> int:
        """Memory that a tile of 16 frames takes at its peak there, beside the model."""
        return CLIP_LENGTH * tile_size * tile_size * self.peak_bytes_per_pixel

    # ------------------------------------------------------------------ what it does

    @abstractmethod
    def encode(self, video: Tensor, *, references: Sequence[Reference] | None = None) -> Posterior:
        """The latent's Gaussian, before the latent norm.

        Args:
            video: (B, 3, 16, H, W).
            references: the pictures inside the clip that the decoder will have, as it will have them; None: the frame
                ``default_keyframe_index``, as it is.
        """

    @abstractmethod
    def latent(self, mean: Tensor) -> Tensor:
        """Normalise the mean of a whole picture (stitched, if it was tiled): (B, z, t, h, w) to the same shape."""

    def latent_scale(self, mean: Tensor) -> Tensor:
        """By how much ``latent`` divides that mean, which broadcasts against it: a variance around the mean, divided by its
        square, is one around the latent."""
        return mean.new_ones(())

    @abstractmethod
    def decode(self, latent: Tensor, references: Sequence[Reference], *, decoder: str | None = None) -> Tensor:
        """The clip, (B, 3, 16, H, W) float, not clipped. A pure function of tensors: no files, no NumPy, and it exports
        (see ``models.export``).

        Args:
            latent: (B, z, t, h, w), normalised.
            references: as many as the decoder takes; ``decoder(name).select(...)`` picks them from any.
            decoder: one of ``decoder_names``; None is ``default_decoder``.

        Raises:
            InputError: references or shapes that the decoder doesn't take.
        """

    def decode_each(
        self,
        latent: Tensor,
        references: Sequence[Reference],
        *,
        decoder: str | None = None,
        put: Callable[[slice, Tensor], object],
    ) -> None:
        """``decode`` for who needs no clip as a whole: frames are given away as they are made, each once.

        Args:
            latent, references, decoder: as for ``decode``; errors likewise.
            put: takes some of the B*16 frames, which run through the batch, (n, 3, H, W) float, not clipped. It may be called
                in any order and by several threads at once, and keeps nothing of what it is given.
        """
        clip = self.decode(latent, references, decoder=decoder)
        put(slice(0, len(clip) * CLIP_LENGTH), clip.transpose(1, 2).flatten(0, 1))

    @property
    def optimizable(self) -> bool:
        """Whether ``optimize_for_inference`` has anything to offer."""
        return False

    def optimize_for_inference(self, *, dtype: Dtype = torch.float32) -> Self:
        """Make this model faster for inference, in place; afterwards it can be neither trained nor saved."""
        raise InputError("this model has nothing to optimise; run it under autocast")

    def set_unit_variance(self, latents: Tensor) -> Tensor:
        """Change the latent's fixed statistics, where a model has such, so that ``latents`` (N, z, t, h, w) would have had
        unit variance; what it computes from pixels to pixels stays the same.

        Returns:
            (z,): how many times larger each channel's standard deviation is now taken to be.
        """
        return torch.ones(latents.shape[1])

    # ------------------------------------------------------------------ for those who write one

    def own_references(self, video: Tensor, references: Sequence[Reference] | None) -> Sequence[Reference]:
        """``references`` of ``encode`` with its default filled in."""
        if references is None:
            return (Reference.of_frame(video, self.default_keyframe_index),)
        beside = [item.place for item in references if item.beside]
        if beside:
            raise InputError(f"references beside the clip, at {beside}, are given; the encoder has no use for them")
        return references

    def check_decode(self, latent: Tensor, references: Sequence[Reference], *, decoder: str | None) -> Decoder:
        """The decoder that is meant, if latent and references are what it takes; InputError otherwise."""
        found = self.decoder(decoder)
        config = self.config
        layout = (config.latent_channels, CLIP_LENGTH // config.temporal_compression_ratio)
        if not latent.is_floating_point() or latent.ndim != 5 or tuple(latent.shape[1:3]) != layout:
            raise InputError(
                f"latent is {latent.dtype} {tuple(latent.shape)}; it must be floating point, (B, {layout[0]}, {layout[1]}, h, w)"
            )
        found.check(references)
        sides = tuple(side * config.spatial_compression_ratio for side in latent.shape[3:])
        self.check_pictures(references, (latent.shape[0], 3, *sides))
        return found

    def check_pictures(self, references: Sequence[Reference], shape: tuple[int, ...]) -> None:
        """Refuse references whose pictures don't have that shape (B, 3, H, W)."""
        for item in references:
            allowed = item.picture.is_floating_point() or (self.takes_bytes and item.picture.dtype == torch.uint8)
            if not allowed or tuple(item.picture.shape) != shape:
                raise InputError(
                    f"a reference is {item.picture.dtype} {tuple(item.picture.shape)}; it must be floating point, {shape}"
                )


class Chosen(NamedTuple):
    """A decoder, and what it is given."""

    decoder: str
    references: int
    """1: the clip's own key frame; 2: those of the clips before and after, too."""


def choose_decoder(
    model: CodecModel, *, decoder: str | None, references: int | None, default_references: int = 2
) -> Chosen:
    """The decoder that is meant, and how many key frames it is given for each clip.

    Args:
        decoder: None for the model's default one; where ``references`` is 2 and that one has no use for it, the first that has.
        references: 1 or 2, see ``Chosen``. None: ``default_references``, or 1 for a decoder that takes no more.
        default_references: 1 for a file that doesn't say where its cuts are.

    Raises:
        InputError: an unknown decoder, or one that doesn't go with ``references``.
    """
    if references is not None and (type(references) is not int or references not in (1, 2)):
        raise InputError(
            f"references is {references!r}; allowed: 1 (the clip's own key frame), 2 (the neighbours', too)"
        )
    both = [name for name in model.decoder_names if model.decoder(name).uses_neighbours]
    if decoder is None:
        if references == 2 and not both:
            names = ", ".join(model.decoder_names)
            raise InputError(
                f"references is 2; no decoder of this model uses the neighbours' key frames, it has {names}"
            )
        decoder = both[0] if references == 2 and model.default_decoder not in both else model.default_decoder
    elif references == 2 and not model.decoder(decoder).uses_neighbours:
        raise InputError(f"references is 2; the decoder {decoder!r} takes 1")
    name = model.decoder(decoder).name
    return Chosen(name, (references or default_references) if name in both else 1)
