"""A model ready to make and read files: who it is, how it runs, and its latent's entropy coder."""

from __future__ import annotations

from dataclasses import dataclass

from reducio_codec.clips.runner import ClipRunner
from reducio_codec.rdc.entropy import LatentCoder


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What compress and decompress need of a codec."""

    runner: ClipRunner
    coder: LatentCoder
    model_id: str
    version: int
    """Of the model."""
    latent_hash: str
    """Files name all three; a file is read with any model that has this hash, whatever its version."""
