"""A group of clips coded together: as it would be written, and what a reader would see of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from reducio_codec.clips.references import Reference, for_model
from reducio_codec.clips.refine import Refinement
from reducio_codec.clips.streams import EncodedClip, FrameClip, decode_clip, encode_clip
from reducio_codec.coding.engine import Engine
from reducio_codec.coding.keyframes import Plan
from reducio_codec.coding.pictures import CodedPictures, PictureCoder
from reducio_codec.io.stages import stage
from reducio_codec.rdc.ranges import KeyframeCodec

_CLIP_BITS = 8 * 12
"""What the container adds to a clip, about."""
_PICTURE_BITS = 8 * 12
"""Likewise to a key frame."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CodedGroup:
    """All that is written of some clips, and that they wait for together."""

    clips: Sequence[FrameClip]
    """Each with its key frames where they are to be."""
    pictures: CodedPictures
    latents: Sequence[bytes]
    """Of each clip; none where all is known without."""
    step: float
    """Of the latents' quantiser."""

    @property
    def bits(self) -> int:
        """In the file, about."""
        data = sum(map(len, self.pictures.coded)) + sum(map(len, self.latents))
        return 8 * data + _CLIP_BITS * len(self.clips) + _PICTURE_BITS * len(self.pictures.coded)


class GroupCoder:
    """Codes one group after another. What is coded counts as written when it is followed; until then there are only trials.

    Args:
        references: 2 where clips are decoded with the key frames beside them.
        decoder: what ``shown`` decodes with.
    """

    def __init__(self, engine: Engine, *, codec: KeyframeCodec, references: int, decoder: str) -> None:
        self._engine, self._references, self._decoder = engine, references, decoder
        self._coder = PictureCoder(codec=codec)

    def code(self, plan: Plan, *, step: float, refinement: Refinement | None = None) -> CodedGroup:
        """As it is written."""
        pictures = self._coder.code(plan.clips, quality=plan.quality)
        coder, latents = self._engine.coder, []
        for number, clip in enumerate(plan.clips):
            latent = self._latent(clip, number, pictures, refinement) if clip.needs_latent else None
            with stage("writing"):  # a latent of zeros takes no bytes
                latents.append(b"" if latent is None else coder.encode(coder.quantize(latent, step=step), step=step))
        return CodedGroup(clips=plan.clips, pictures=pictures, latents=latents, step=step)

    def shown(self, group: CodedGroup) -> Iterator[NDArray[np.uint8]]:
        """What a reader sees of each clip: ``(n, H, W, 3)``. The last one may gain from a key frame behind the group, which isn't
        coded yet."""
        coder, runner = self._engine.coder, self._engine.runner
        for number, (clip, data) in enumerate(zip(group.clips, group.latents, strict=True)):
            size = clip.frames.shape[1:3]
            shape = (runner.latent_channels, runner.latent_frames, *runner.grid(*size))
            own, beside = self._around(number, group.pictures)
            symbols = coder.decode(data, shape, step=group.step)
            latent = torch.from_numpy(coder.dequantize(symbols, step=group.step))
            coded = EncodedClip(index=number, latent=latent, references=tuple(own), span=clip.span, size=size)
            yield decode_clip(runner, coded, decoder=self._decoder, beside=beside)

    def follow(self, group: CodedGroup) -> None:
        """This group is written, and the next one comes."""
        self._coder.follow(group.pictures)

    def _latent(
        self, clip: FrameClip, number: int, pictures: CodedPictures, refinement: Refinement | None
    ) -> NDArray[np.float32]:
        own, beside = self._around(number, pictures)
        # closed loop: the encoder sees the key frames that the decoder will have, so the latent can mend them
        references = for_model(own, beside, span=clip.span)
        latent = encode_clip(
            self._engine.runner, clip.padded(), references=references, span=clip.span, refinement=refinement
        )
        values: NDArray[np.float32] = latent[0].numpy()
        return values

    def _around(self, number: int, pictures: CodedPictures) -> tuple[list[Reference], list[Reference]]:
        """The key frames inside a clip and beside it that it is decoded from."""
        own = [pictures.seen[place] for place in pictures.inside(number)]
        return own, pictures.beside(number) if self._references == 2 or not own else []
