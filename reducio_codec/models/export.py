"""Encoder and decoders as modules of tensors alone, for ``torch.export``, ONNX and other runtimes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from reducio_codec.config import CLIP_LENGTH
from reducio_codec.models.contract import CodecModel, Reference
from reducio_codec.models.lite.model import ReducioLite
from reducio_codec.models.lite.plan import Plan, plan_references


class Decode(nn.Module):
    """One decoder of a model with the references' places fixed: tensors in, a tensor out.

    Args:
        model: in eval mode.
        decoder: one of its decoders; None is its default.
        inside, beside: places of the references, in the order in which ``forward`` takes their pictures: first those
            inside the clip, then those beside it.
    """

    def __init__(
        self, model: CodecModel, *, decoder: str | None = None, inside: Sequence[int] = (), beside: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.model = model
        self.decoder = model.decoder(decoder).name
        self.places = [(place, False) for place in inside] + [(place, True) for place in beside]

    def forward(self, latent: Tensor, *pictures: Tensor) -> Tensor:
        """(B, z, t, h, w) normalised and (B, 3, H, W) each in [-1, 1] -> (B, 3, 16, H, W), not clipped."""
        references = [
            Reference(picture=picture, place=place, beside=beside)
            for picture, (place, beside) in zip(pictures, self.places, strict=True)
        ]
        return self.model.decode(latent, references, decoder=self.decoder)


class DecodeClip(nn.Module):
    """``Decode`` for one clip and at most one reference, the model's own key frame; frames first, as a player shows them."""

    def __init__(self, model: CodecModel, decoder: str) -> None:
        super().__init__()
        inside = () if model.decoder(decoder).inside.most == 0 else (model.default_keyframe_index,)
        self.decode = Decode(model, decoder=decoder, inside=inside)

    def forward(self, latent: Tensor, references: Tensor | None = None) -> Tensor:
        """(1, z, t, h, w) normalised and (1, 3, H, W) in [-1, 1] -> (16, 3, H, W), not clipped."""
        clip = self.decode(latent) if references is None else self.decode(latent, references)
        frames: Tensor = rearrange(clip, "1 c t h w -> t c h w")
        return frames


class DecodePlanned(nn.Module):
    """A decoder of ``ReducioLite`` for one clip with the plan's tensors as inputs: any number of references at any places."""

    def __init__(self, model: ReducioLite, decoder: str) -> None:
        super().__init__()
        self.model = model
        self.decoder = decoder

    def forward(
        self,
        latent: Tensor,
        references: Tensor,
        near: Tensor,
        between: Tensor | None = None,
        far: Tensor | None = None,
        pairs: Tensor | None = None,
        pair: Tensor | None = None,
        time: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Frames (16, 3, H, W), not clipped, before ``Plan.shown``; and the references as they are shown, (R, 3, H, W).

        Args:
            latent: (1, 16, 4, h, w), normalised.
            references: (R, 3, H, W) in [-1, 1].
            near, between, far, pairs, pair, time: see ``Plan``; the last five only for decoders that use two references.
        """
        nothing = near.new_empty(0)
        between, far, pairs, pair, time = (
            nothing if value is None else value for value in (between, far, pairs, pair, time)
        )
        plan = Plan(near=near, between=between, far=far, pairs=pairs, pair=pair, time=time, shown=nothing.reshape(2, 0))
        made, mended = self.model.decode_planned((self.decoder,), latent, references, plan)
        return made[self.decoder], mended


class EncodeClip(nn.Module):
    """The encoder for one clip and one reference, the model's own key frame."""

    def __init__(self, model: CodecModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, video: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
        """(1, 3, 16, H, W) and (1, 3, H, W) in [-1, 1] -> raw and latent, (1, z, t, h, w) each.

        Raw is the mean, by which tiles are joined; the latent is that of a picture that is no larger than the tile.
        """
        own = Reference(picture=references, place=self.model.default_keyframe_index)
        mean = self.model.encode(video, references=[own]).mode()
        return mean, self.model.latent(mean)


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """A module, and what its tensors are called."""

    module: nn.Module
    inputs: Mapping[str, Tensor]
    """Some, by name, in the order of the module's arguments."""
    axes: Mapping[str, Mapping[int, Any]]
    """Of the inputs, axes of any size, by ``torch.export``'s names for sizes."""
    outputs: tuple[str, ...]


def decoder_graph(model: CodecModel, name: str) -> Graph:
    """A decoder for clips of any size. ``ReducioLite``'s take any references; those of others the model's own key frame.

    Inputs are ``latent`` and, but for decoders without references, ``references``; ``ReducioLite``'s the plan as well (see
    ``DecodePlanned``). Outputs are ``frames`` and, of ``ReducioLite``, ``mended``.
    """
    ratio = model.config.spatial_compression_ratio
    h, w = torch.export.Dim("h"), torch.export.Dim("w")
    slots = CLIP_LENGTH // model.config.temporal_compression_ratio
    inputs = {"latent": torch.zeros(1, model.config.latent_channels, slots, 2, 3)}
    axes: dict[str, dict[int, Any]] = {"latent": {3: h, 4: w}}
    if model.decoder(name).inside.most == 0:
        return Graph(module=DecodeClip(model, name), inputs=inputs, axes=axes, outputs=("frames",))
    axes["references"] = {2: ratio * h, 3: ratio * w}
    if not isinstance(model, ReducioLite):
        inputs["references"] = torch.zeros(1, 3, 2 * ratio, 3 * ratio)
        return Graph(module=DecodeClip(model, name), inputs=inputs, axes=axes, outputs=("frames",))
    places = (-9, 3, 11, 23)  # no two sizes may be the same by chance
    plan = plan_references(places, beside=(True, False, False, True), present=((True,) * 4,))
    inputs |= {"references": torch.zeros(len(places), 3, 2 * ratio, 3 * ratio), "near": plan.near}
    axes["references"][0] = torch.export.Dim("R")
    if model.decoder(name).uses_neighbours:
        frames, pairs = torch.export.Dim("N"), torch.export.Dim("P")
        inputs |= {"between": plan.between, "far": plan.far, "pairs": plan.pairs, "pair": plan.pair, "time": plan.time}
        axes |= {key: {0: frames} for key in ("between", "far", "pair", "time")} | {"pairs": {1: pairs}}
    return Graph(module=DecodePlanned(model, name), inputs=inputs, axes=axes, outputs=("frames", "mended"))


def encoder_graph(model: CodecModel, *, tile: int) -> Graph:
    """The encoder for clips of ``tile`` by ``tile`` pixels: ``video`` and ``references`` to ``raw`` and ``latent``."""
    inputs = {"video": torch.zeros(1, 3, CLIP_LENGTH, tile, tile), "references": torch.zeros(1, 3, tile, tile)}
    return Graph(module=EncodeClip(model), inputs=inputs, axes={}, outputs=("raw", "latent"))
