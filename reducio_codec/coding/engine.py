"""A model ready to make and read files: who it is, how it runs, and its latent's entropy coder."""

from __future__ import annotations

from dataclasses import dataclass

from reducio_codec.clips.runner import ClipRunner
from reducio_codec.errors import FormatError, WeightsError
from reducio_codec.rdc.entropy import LatentCoder
from reducio_codec.rdc.header import RdcHeader


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

    def check_reads(self, header: RdcHeader) -> None:
        """WeightsError for a file that needs another model, FormatError for one that contradicts itself about its model."""
        if header.latent_space != self.latent_hash:
            other = "another version of it" if header.model == self.model_id else f"{self.model_id!r}"
            raise WeightsError(
                f"the file needs model {header.model!r} version {header.version} (latent space {header.latent_space}); "
                f"loaded is {other}, version {self.version} (latent space {self.latent_hash})"
            )
        found = (self.runner.latent_channels, self.runner.latent_frames)
        if header.latent != found:
            raise FormatError(f"the file's latent has {header.latent} channels and times; its model has {found}")
