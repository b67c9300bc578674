"""The quick look at a file finds the clips that the reader finds, whatever happened to it, and reads little."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reducio_codec.errors import FormatError
from reducio_codec.rdc.layers.latent import Latents
from reducio_codec.rdc.outline import read_outline
from reducio_codec.rdc.ranges import STEPS
from reducio_codec.rdc.reader import RdcReader
from reducio_codec.rdc.writer import RdcWriter
from tests.fuzz.records import AUDIO, Pieces
from tests.rdc.test_golden import GOLDEN, HEADER
from tests.test_files import compressed


class Counted(io.BytesIO):
    """Counts the bytes that are read."""

    count = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


def lengths(data: bytes) -> tuple[int, ...]:
    reader = RdcReader(io.BytesIO(data))
    return tuple(reader.span(number).frames for number in range(reader.clips))


@pytest.mark.parametrize("path", sorted(GOLDEN.rglob("*.rdc")), ids=lambda path: path.stem)
def test_stored_files(path: Path) -> None:
    data = path.read_bytes()
    found = read_outline(io.BytesIO(data))
    assert found.header == RdcReader(io.BytesIO(data)).header
    assert found.lengths == lengths(data)


def test_clips_of_any_length_and_large_numbers() -> None:
    file = io.BytesIO()
    writer = RdcWriter(file, HEADER)
    wanted = [*np.random.default_rng(0).integers(1, 17, 300), 16, 1]
    for number, frames in enumerate(wanted):
        writer.write_clip(frames=int(frames), latent_bytes=bytes(200), step=STEPS[1], lead=0, references=number % 2)
    writer.close(end=1 << 59)
    found = read_outline(file)
    assert found.lengths == tuple(wanted) == lengths(file.getvalue())
    assert found.pictures == tuple(number % 2 for number in range(302))


def test_little_is_read() -> None:
    pieces = Pieces.of(compressed(40, 16, 16))
    sound = [(AUDIO, bytes([number]) + bytes(10_000)) for number in range(10)]
    file = Counted(replace(pieces, records=(*pieces.records[:-1], *sound, pieces.records[-1])).join())
    assert read_outline(file).lengths == (16, 16, 8)
    assert file.count < 2000


def test_a_file_that_was_cut_or_changed_has_the_clips_that_the_reader_finds() -> None:
    data = compressed(70, 16, 16)
    for end in range(len(data) - 1, 60, -37):
        try:
            wanted = lengths(data[:end])
        except FormatError:
            with pytest.raises(FormatError):
                read_outline(io.BytesIO(data[:end]))
            continue
        assert read_outline(io.BytesIO(data[:end])).lengths == wanted, end
    for place in range(60, len(data), 29):
        changed = data[:place] + bytes([data[place] ^ 0x41]) + data[place + 1 :]
        try:
            wanted = lengths(changed)
        except FormatError:
            with pytest.raises(FormatError):
                read_outline(io.BytesIO(changed))
            continue
        assert read_outline(io.BytesIO(changed)).lengths == wanted, place


def test_records_that_contradict_one_another_are_read_as_the_reader_reads_them() -> None:
    pieces = Pieces.of(compressed(40, 16, 16))
    latents = [record for record in pieces.records if record[0] == Latents.KIND]
    for records in (
        [*pieces.records, latents[0]],
        [*latents, pieces.records[-1]],
        [*latents[1:], pieces.records[-1]],
        [*latents, *pieces.records],
        [],
    ):
        data = replace(pieces, records=tuple(records)).join()
        assert read_outline(io.BytesIO(data)).lengths == lengths(data)


@pytest.mark.parametrize("data", [b"", b"words", compressed(1)[:9], compressed(1)[:30]])
def test_what_is_no_file(data: bytes) -> None:
    with pytest.raises(FormatError):
        read_outline(io.BytesIO(data))
