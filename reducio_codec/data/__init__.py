"""Folders of ``.rdc`` files, and the shards of ``reducio-codec extract``, for PyTorch's DataLoader."""

from reducio_codec.data.clips import ClipPlace, RdcDataset, SizeBatches
from reducio_codec.data.shards import latents
from reducio_codec.data.stream import Stream

__all__ = ["ClipPlace", "RdcDataset", "SizeBatches", "Stream", "latents"]
