"""The kinds of records in a file, one module each. A new one is a module more and a line here."""

from __future__ import annotations

from reducio_codec.rdc.layers.audio import Audio
from reducio_codec.rdc.layers.cuts import Cuts
from reducio_codec.rdc.layers.index import Index
from reducio_codec.rdc.layers.latent import Latents
from reducio_codec.rdc.layers.layer import Layer
from reducio_codec.rdc.layers.pictures import Pictures
from reducio_codec.rdc.layers.times import Times

LAYERS: tuple[type[Layer], ...] = (Pictures, Latents, Times, Audio, Cuts, Index)
"""Readers skip and count records of any other kind. Kinds up to 63 are assigned here, the others are for trials."""
