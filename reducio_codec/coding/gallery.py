"""The pictures of an open file, decoded once as long as they are asked for about in order."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from reducio_codec.errors import FormatError
from reducio_codec.rdc.keyframe import PictureDecoder
from reducio_codec.rdc.layers.pictures import PictureGroup
from reducio_codec.rdc.reader import RdcReader

_KEPT_BYTES = 1 << 28
_KEPT_PICTURES = 4
"""So many at least: a clip's own, those beside it, and the next."""
_OPEN_GROUPS = 2


class Gallery:
    """Decodes pictures by frame number. Of the last ones it keeps 256 MB, and 4 at least."""

    def __init__(self, reader: RdcReader) -> None:
        self._reader = reader
        self._kept: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        self._bytes = 0
        self._open: OrderedDict[int, tuple[PictureDecoder, int]] = (
            OrderedDict()
        )  # a group's first frame -> its next place

    def picture(self, frame: int) -> NDArray[np.uint8]:
        """The picture ``(H, W, 3)`` that the file has of a frame; FormatError if it is missing or damaged."""
        if frame not in self._kept:
            group, place = self._reader.pictures.group(frame)
            self._decode(group, place)
        self._kept.move_to_end(frame)
        return self._kept[frame]

    def nearest(self, frame: int) -> tuple[int, NDArray[np.uint8]] | None:
        """The frame nearest to ``frame`` whose picture decodes, and that picture; None if none does."""
        while (found := next(self._reader.pictures.nearest(frame), None)) is not None:
            try:
                return found, self.picture(found)
            except FormatError:
                continue  # it is forgotten by now
        return None

    def _decode(self, group: PictureGroup, place: int) -> None:
        """Keep the picture at ``place`` and, as it is predicted from those before it, them too."""
        first, header = group.frames[0], self._reader.header
        if first not in self._open:
            coded = self._reader.read_pictures(group)
            decoder = PictureDecoder(coded, codec=header.keyframe_codec, width=header.width, height=header.height)
            self._open[first] = decoder, 0
        decoder, done = self._open[first]
        self._open.move_to_end(first)
        if len(self._open) > _OPEN_GROUPS:
            self._open.popitem(last=False)
        alone = header.keyframe_codec != "avif" or place < done
        for number in range(place if alone else done, place + 1):
            try:
                picture = decoder.decode(number)
            except FormatError as error:
                self._reader.pictures.forget(group.frames[number])
                raise FormatError(f"frame {group.frames[number]}: {error}") from error
            self._keep(group.frames[number], picture)
            self._open[first] = decoder, max(done, number + 1)

    def _keep(self, frame: int, picture: NDArray[np.uint8]) -> None:
        if frame not in self._kept:
            self._bytes += picture.nbytes
        self._kept[frame] = picture
        self._kept.move_to_end(frame)
        while len(self._kept) > _KEPT_PICTURES and self._bytes > _KEPT_BYTES:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
