"""Writes ``.rdc`` files, from front to back."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import BinaryIO

from reducio_codec.config import CLIP_LENGTH
from reducio_codec.errors import InputError
from reducio_codec.io.pipe import write_all
from reducio_codec.rdc.header import MAGIC, VERSION, RdcHeader
from reducio_codec.rdc.layers import audio, cuts, index, latent, pictures, times
from reducio_codec.rdc.layers.cuts import Cut
from reducio_codec.rdc.records import MAX_PAYLOAD, pack_record
from reducio_codec.rdc.varint import write_varint


class RdcWriter:
    """Writes to a binary file object, which may be a pipe. Call ``close`` to write the end; it doesn't close the file."""

    def __init__(self, file: BinaryIO, header: RdcHeader) -> None:
        self._file, self._header = file, header
        self._clips = self._frames = self._pieces = 0
        packed = header.pack()
        start = bytearray(MAGIC + bytes([VERSION]))
        write_varint(start, len(packed))
        start += struct.pack("<I", zlib.crc32(packed)) + packed
        self.size = 0
        """Bytes written so far."""
        self._put(bytes(start))

    def write_picture(self, coded: bytes, *, frame: int, after: int | None = None) -> None:
        """The coded picture of a frame, by its number; ``after``: the frame of the one before it, if coded together."""
        self.record(pictures.Pictures.KIND, pictures.pack(frame, coded, after=after))

    def write_clip(
        self,
        *,
        frames: int,
        latent_bytes: bytes,
        lead: int | None = None,
        step: int | None = None,
        references: int = 1,
        timestamps: Sequence[int] | None = None,
        cut: Cut = Cut.NONE,
    ) -> None:
        """The next clip, which begins where the last one ended.

        Args:
            frames: its real frames, 1 to 16.
            latent_bytes: its coded latent.
            lead: copies of the first frame before it among the model's 16, by default half of those that are missing.
            step: in 1/1024, by default the header's.
            references: how many pictures the file has of its frames.
            timestamps: of its frames, in ticks, if they vary.
            cut: between it and the clip before.
        """
        assert 1 <= frames <= CLIP_LENGTH
        assert timestamps is None or len(timestamps) == frames
        if cut:
            self.record(cuts.Cuts.KIND, cuts.pack(self._clips, cut))
        record = latent.LatentRecord(
            number=self._clips,
            start=self._frames,
            frames=frames,
            lead=latent.usual_lead(frames) if lead is None else lead,
            step=self._header.step if step is None else step,
            pictures=references,
        )
        self.record(latent.Latents.KIND, latent.pack(record, latent_bytes, step=self._header.step))
        if timestamps is not None:
            self.record(times.Times.KIND, times.pack(self._clips, timestamps))
        self._clips += 1
        self._frames += frames

    def write_audio(self, chunk: bytes) -> None:
        """The next piece of the audio track, any length."""
        for place in range(0, len(chunk), audio.PIECE):
            self.record(audio.Audio.KIND, audio.pack(self._pieces, chunk[place : place + audio.PIECE]))
            self._pieces += 1

    def record(self, kind: int, payload: bytes) -> None:
        """A record of any kind."""
        if len(payload) > MAX_PAYLOAD:
            raise InputError(f"a record of {len(payload)} bytes is larger than {MAX_PAYLOAD}")
        self._put(pack_record(kind, payload))

    def close(self, *, end: int | None = None) -> None:
        """Write the index; ``end`` is when the last picture stops being shown, in ticks."""
        self.record(index.Index.KIND, index.pack(clips=self._clips, frames=self._frames, end=end))

    def _put(self, data: bytes) -> None:
        write_all(self._file, data)
        self.size += len(data)
