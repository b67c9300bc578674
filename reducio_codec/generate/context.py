"""What a clip is made from, as the transformer's blocks take it: made once for a clip, used at each step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reducio_codec.generate.blocks import KeyValue
from reducio_codec.generate.config import GuidanceOf


@dataclass(frozen=True)
class Told:
    """Something with and without what a user tells."""

    told: Tensor
    nothing: Tensor
    """The same shape."""

    def guided(self, guidance_of: GuidanceOf) -> Told:
        """Twice the batch: as it is told, then without, or for guidance of the text once more."""
        other = self.nothing if guidance_of == "all" else self.told
        return Told(torch.cat([self.told, other]), torch.cat([self.nothing, self.nothing]))


@dataclass(frozen=True)
class Context:
    """Conditions as the blocks take them: made once for a clip, used at each step."""

    key_values: tuple[KeyValue, ...]
    """Of each block."""
    mask: Tensor
    """(B, S) bool: which condition tokens count."""
    nothing: Tensor
    """(B, S) bool: the same for a clip of which nothing is told."""
    wordless: Tensor
    """(B, S) bool: the same for a clip of which all but the text is told."""
    size: Tensor
    """(B, 2)."""
    sides: tuple[int, int]
    """That of each clip, height and width in pixels, as the host knows it."""
    places: Told | None = None
    """(B, places, C): what is added to latent tokens, of content at their places."""
    controls: Told | None = None
    """(B, C): what is added to the vector that modulates blocks."""
    known: Tensor | None = None
    """(B, z, t, h, w): latents that are given in part."""
    is_known: Tensor | None = None
    """(B, 1, t, 1, 1) bool: which part."""

    def guided(self, guidance_of: GuidanceOf = "all") -> Context:
        """Twice the batch: the clips with their conditions, then the same with none, or with all but the text
        (classifier-free guidance)."""
        other = self.nothing if guidance_of == "all" else self.wordless
        return Context(
            key_values=tuple((torch.cat([k, k]), torch.cat([v, v])) for k, v in self.key_values),
            mask=torch.cat([self.mask, other]),
            nothing=torch.cat([self.nothing, self.nothing]),
            wordless=torch.cat([self.wordless, self.wordless]),
            size=torch.cat([self.size, self.size]),
            sides=self.sides,
            places=None if self.places is None else self.places.guided(guidance_of),
            controls=None if self.controls is None else self.controls.guided(guidance_of),
            known=None if self.known is None else torch.cat([self.known, self.known]),
            is_known=None if self.is_known is None else torch.cat([self.is_known, self.is_known]),
        )
