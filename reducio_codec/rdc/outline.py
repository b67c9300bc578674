"""Which clips a file has, found out fast: for a look at thousands of files."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import BinaryIO

from reducio_codec.errors import FormatError
from reducio_codec.rdc.header import RdcHeader
from reducio_codec.rdc.layers.index import Index
from reducio_codec.rdc.layers.latent import Latents
from reducio_codec.rdc.layers.layer import Limits
from reducio_codec.rdc.reader import RdcReader, read_header
from reducio_codec.rdc.records import LONGEST_HEAD, read_head
from reducio_codec.rdc.timeline import lay_out

_LOOK = 48
"""Bytes of a payload that hold all but a clip's latent itself."""


@dataclass(frozen=True, kw_only=True)
class Outline:
    """What a file says of its clips."""

    header: RdcHeader
    lengths: tuple[int, ...]
    """Frames of each clip, 1 to 16."""
    pictures: tuple[int, ...]
    """Key frames of each clip, 0 to 16, as its record says; 1 where that is lost."""


def read_outline(file: BinaryIO) -> Outline:
    """The outline of a file that can seek: the same clips as ``RdcReader`` finds.

    It goes from record to record by their heads and reads no picture and no latent, so damage inside of one shows only when
    it is decoded. Where a head isn't intact or the end is missing, the whole file is read, as ``RdcReader`` does.

    Raises:
        FormatError: not an ``.rdc`` file, or its header is damaged.
    """
    size = file.seek(0, 2)
    header, place = read_header(file, size=size)
    clips = _by_heads(file, place, size=size, limits=Limits.of_file(header, size=size))
    if clips is None:
        reader = RdcReader(file)
        declared = reader.pictures.declared
        clips = [(reader.span(number).frames, declared.get(number, 1)) for number in range(reader.clips)]
    return Outline(
        header=header, lengths=tuple(frames for frames, _ in clips), pictures=tuple(pictures for _, pictures in clips)
    )


def _by_heads(file: BinaryIO, place: int, *, size: int, limits: Limits) -> list[tuple[int, int]] | None:
    """Frames and key frames of each clip, or None where that takes more than the heads."""
    latents, index = Latents(limits), Index(limits)
    layers = {Latents.KIND: latents, Index.KIND: index}
    while place < size:
        file.seek(place)
        data = file.read(LONGEST_HEAD + _LOOK)
        head = read_head(data)
        if head is None:
            return None
        if head.kind in layers:
            payload = data[head.size : head.size + min(head.length, _LOOK)]
            if len(payload) == head.length and zlib.crc32(payload) != head.checksum:
                return None
            try:
                layers[head.kind].take(payload, offset=place + head.size)
            except FormatError:
                return None
        place += head.size + head.length
    if place != size or index.count is None:
        return None
    clips, problems = lay_out(latents.found, count=index.count, pictured=0)
    if problems or not all(clip.known for clip in clips):
        return None
    return [(clip.frames, latents.found[clip.index].pictures) for clip in clips]
