"""What the codec needs of a model. The paper's network and the small one both satisfy it; nothing inherits from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from reducio_codec.errors import InputError
from reducio_codec.models.posterior import Posterior


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


@runtime_checkable
class CodecModel(Protocol):
    """A network that turns 16 frames into a key frame and a motion latent, and back.

    Frames are float in [-1, 1]; sides are multiples of 32 (of the spatial ratio, if that is larger). With z, t, h, w
    from the configuration's ratios a latent is (B, z, t, h, w), for example (B, 16, 4, 8, 8) for 16x256x256.
    """

    @property
    def config(self) -> ModelConfig: ...

    @property
    def decoder_names(self) -> tuple[str, ...]:
        """Decoders that are loaded."""
        ...

    @property
    def default_decoder(self) -> str:
        """The one that ``decode`` takes when none is named."""
        ...

    @property
    def default_keyframe_index(self) -> int:
        """The frame of a clip that is its key frame, 0-based: 7 of 16 for the middle one."""
        ...

    def encode(self, video: Tensor, *, keyframe_index: int | None = None, keyframe: Tensor | None = None) -> Posterior:
        """The latent's Gaussian, before the latent norm.

        Args:
            video: (B, 3, 16, H, W).
            keyframe_index: which frame is the key frame; None is ``default_keyframe_index``.
            keyframe: (B, 3, H, W), the picture that the decoder will have; None is that frame itself.
        """
        ...

    def latent(self, mean: Tensor) -> Tensor:
        """Normalise the mean of a whole picture (stitched, if it was tiled): (B, z, t, h, w) to the same shape."""
        ...

    def decode(
        self,
        latent: Tensor,
        keyframe: Tensor,
        *,
        decoder: str | None = None,
        keyframe_index: int | None = None,
        neighbours: Sequence[Tensor | None] | None = None,
        neighbour_places: tuple[int, int] | None = None,
        present: Tensor | None = None,
    ) -> Tensor:
        """The clip, (B, 3, 16, H, W) float, not clipped.

        Args:
            latent: (B, z, t, h, w), normalised.
            keyframe: (B, 3, H, W) in [-1, 1].
            decoder: one of ``decoder_names``; None is ``default_decoder``.
            keyframe_index: which frame the key frame is; None is ``default_keyframe_index``.
            neighbours: key frames of the clips before and after, (B, 3, H, W) each or None, for a decoder that
                ``uses_neighbours``. The arguments of neighbours need not exist in a model without such decoders.
            neighbour_places: where those key frames lie, in frames of this clip; None is 16 before and after its own.
            present: (B, 2) bool, which clips of the batch really have those neighbours; None: all.
        """
        ...


def choose_decoder(
    model: CodecModel, *, decoder: str | None, references: int | None, default_references: int = 2
) -> str:
    """The decoder that is meant: ``decoder``, or one that takes so many key frames for each clip.

    Args:
        references: 1, the clip's own key frame, or 2, the neighbours', too. None: as many as ``decoder`` takes; without
            ``decoder`` 2 where the model has a decoder for that.
        default_references: 1 where None means one all the same, as in a file that doesn't say where its cuts are.

    Raises:
        InputError: an unknown decoder, or one that doesn't go with ``references``.
    """
    if references is not None and (type(references) is not int or references not in (1, 2)):
        raise InputError(
            f"references is {references!r}; allowed: 1 (the clip's own key frame), 2 (the neighbours', too)"
        )
    names = ", ".join(model.decoder_names)
    if decoder is not None:
        if decoder not in model.decoder_names:
            raise InputError(f"decoder is {decoder!r}; allowed: {names}")
        takes = 2 if uses_neighbours(model, decoder) else 1
        if references not in (None, takes):
            raise InputError(f"references is {references}; the decoder {decoder!r} takes {takes}")
        return decoder
    both = [name for name in model.decoder_names if uses_neighbours(model, name)]
    if references == 2 and not both:
        raise InputError(f"references is 2; no decoder of this model uses the neighbours' key frames, it has {names}")
    if both and (references or default_references) == 2:
        return both[0]
    alone = [name for name in (model.default_decoder, *model.decoder_names) if name not in both]
    return (alone or both)[0]


def uses_neighbours(model: CodecModel, decoder: str) -> bool:
    """Whether this decoder makes use of the key frames of the clips before and after."""
    return decoder in getattr(model, "neighbour_decoders", ())
