"""Files made to cost time or memory: any n bytes are read in O(n), whatever they claim."""

import gc
import io
import json
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reducio_codec.errors import FormatError
from reducio_codec.rdc.header import MAX_HEADER, RdcHeader
from reducio_codec.rdc.info import describe_rdc
from reducio_codec.rdc.layers import LAYERS, index, pictures
from reducio_codec.rdc.layers.index import Index
from reducio_codec.rdc.layers.latent import LatentRecord, Latents, pack
from reducio_codec.rdc.layers.pictures import Pictures
from reducio_codec.rdc.layers.times import Times
from reducio_codec.rdc.reader import RdcReader
from reducio_codec.rdc.records import pack_record
from reducio_codec.rdc.varint import write_varint
from reducio_codec.rdc.writer import RdcWriter
from tests.fuzz.records import deflate, inflate
from tests.rdc.test_reader import HEADER, build, good

MEGABYTE = 1 << 20
_FLOOR = 600_000
"""Bytes of memory that reading anything takes: a block of the search and its checks."""


def start() -> bytes:
    file = io.BytesIO()
    RdcWriter(file, HEADER)
    return file.getvalue()


def head(kind: int, length: int) -> bytes:
    """A record's head that agrees with its check; its payload's checksum is wrong."""
    data = bytearray([kind])
    write_varint(data, length)
    return bytes(data) + struct.pack("<HI", zlib.crc32(data) & 0xFFFF, 12345)


def many_heads(size: int) -> bytes:
    """Each claims all that follows."""
    return b"".join(head(1, size - place) for place in range(0, size, 10))


def alternating(size: int) -> bytes:
    """Good records, each before a bad one that claims all that follows."""
    found = bytearray()
    while len(found) < size:
        found += pack_record(50, b"") + head(2, size - len(found))
    return bytes(found)


def clips_with_one_number(size: int) -> bytes:
    record = LatentRecord(number=3, start=48, frames=16, lead=0, step=512, pictures=1)
    one = pack_record(Latents.KIND, pack(record, b"", step=512))
    return one * (size // len(one))


def pictures_of_one_frame(size: int) -> bytes:
    one = pack_record(Pictures.KIND, b"\7\0k")
    return one * (size // len(one))


def chains(size: int) -> bytes:
    """Pictures that all follow one another."""
    found, frame = bytearray(), 0
    while len(found) < size:
        found += pack_record(Pictures.KIND, pictures.pack(frame, b"k", after=frame - 1 if frame else None))
        frame += 1
    return bytes(found)


def empty_clips(size: int) -> bytes:
    """As many clips as fit, without pictures, of a frame each."""
    found, number = bytearray(), 0
    while len(found) < size:
        record = LatentRecord(number=number, start=16 * number, frames=16, lead=0, step=512, pictures=1)
        found += pack_record(Latents.KIND, pack(record, b"", step=512))
        number += 1
    return bytes(found)


def bombs(size: int) -> bytes:
    """Times that inflate to megabytes."""
    deflated = zlib.compress(bytes(4 * MEGABYTE), 9)
    found, number = bytearray(), 0
    while len(found) < size:
        payload = bytearray()
        write_varint(payload, number)
        found += pack_record(Times.KIND, bytes(payload) + deflated)
        number += 1
    return bytes(found)


HOSTILE: list[Callable[[int], bytes]] = [
    many_heads,
    alternating,
    clips_with_one_number,
    pictures_of_one_frame,
    chains,
    empty_clips,
    bombs,
    bytes,
    lambda size: b"\1" * size,
    lambda size: np.random.default_rng(0).integers(1, 8, size, dtype=np.uint8).tobytes(),
    lambda size: np.random.default_rng(1).bytes(size),
]


def cost(data: bytes) -> tuple[float, int]:
    """Seconds of this thread, the least of three times, and bytes at the peak, of reading all that can be read. What other tests
    have left is kept out of it: their threads, and the collection of their garbage."""
    gc.disable()
    times = []
    for _ in range(3):
        began = time.thread_time()
        describe_rdc(io.BytesIO(data))
        times.append(time.thread_time() - began)
    gc.enable()
    tracemalloc.start()
    describe_rdc(io.BytesIO(data))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return min(times), peak


@pytest.mark.parametrize("make", HOSTILE)
def test_twice_the_bytes_take_twice_as_long(make: Callable[[int], bytes]) -> None:
    """Measured so, a quadratic reader takes 16 times as long; and no byte takes more than some 150 of memory."""
    small, large = (start() + make(size) for size in (32_000, 128_000))
    (short, _), (long, peak) = cost(small), cost(large)
    assert long < 8 * max(short, 0.03), (short, long)
    assert long < 3
    assert peak < _FLOOR + 150 * len(large), peak / len(large)


def test_a_claim_of_a_million_clips_costs_nothing() -> None:
    """It took 0.9 GB."""
    data = start() + pack_record(Index.KIND, index.pack(clips=1_000_000, frames=16_000_000, end=None))
    assert len(data) < 150
    seconds, peak = cost(data)
    assert seconds < 0.1 and peak < _FLOOR
    info = describe_rdc(io.BytesIO(data))
    assert (info.clips, info.frames) == (0, 0)
    assert "the index claims 1000000 clips; the file's bytes hold at most" in info.damage[0]


def test_a_record_that_claims_a_far_clip_or_frame_costs_nothing() -> None:
    record = LatentRecord(number=1 << 23, start=1 << 27, frames=16, lead=0, step=512, pictures=1)
    far = bytearray()
    write_varint(far, 1 << 50)
    data = (
        start()
        + pack_record(Latents.KIND, pack(record, b"", step=512))
        + pack_record(Pictures.KIND, bytes(far) + b"\0k")
    )
    seconds, peak = cost(data + build()[len(start()) :])
    assert seconds < 0.1 and peak < _FLOOR
    reader = RdcReader(io.BytesIO(data + build()[len(start()) :]))
    assert reader.clips == 3 and all(good(reader, clip) for clip in reader) and len(reader.damage) == 2


def test_claims_of_terabytes_cost_no_memory() -> None:
    claim = head(1, (1 << 28) - 1)
    tracemalloc.start()
    reader = RdcReader(io.BytesIO(start() + claim + build()[len(start()) :]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reader.damage and peak < _FLOOR
    assert all(good(reader, clip) and not clip.damage for clip in reader)


def test_headers_that_inflate_to_more_are_refused() -> None:
    deflate = zlib.compressobj(9, wbits=-15)
    packed = deflate.compress(b'{"model":"' + b"a" * 50 * MAX_HEADER + b'"}') + deflate.flush()
    tracemalloc.start()
    with pytest.raises(FormatError, match="longer than 65536"):
        RdcHeader.unpack(packed)
    assert tracemalloc.get_traced_memory()[1] < _FLOOR
    tracemalloc.stop()
    for text in (b"[" * 60_000, b'{"width":' + b"9" * 60_000 + b"}", b'{"model":{"a":' * 9_000):
        deflate = zlib.compressobj(9, wbits=-15)
        with pytest.raises(FormatError, match="header"):
            RdcHeader.unpack(deflate.compress(text) + deflate.flush())


def test_good_records_behind_hostile_ones_are_found() -> None:
    """However much false heads have claimed."""
    behind = build()[len(start()) :]
    for make in (many_heads, alternating):
        reader = RdcReader(io.BytesIO(start() + make(40_000) + behind))
        assert all(good(reader, clip) and not clip.damage for clip in reader), make


@settings(max_examples=150, deadline=None)
@given(
    payloads=st.lists(st.tuples(st.sampled_from([layer.KIND for layer in LAYERS]), st.binary(max_size=24)), max_size=8),
    cut=st.integers(0, 12),
)
def test_any_payload_is_read_or_reported(payloads: list[tuple[int, bytes]], cut: int) -> None:
    body = b"".join(pack_record(kind, payload) for kind, payload in payloads)
    data = start() + body[: len(body) - cut]
    info = describe_rdc(io.BytesIO(data))
    assert sum(part.bytes for part in info.parts.values()) == len(data) == info.bytes
    assert info.frames <= 16 * info.clips <= 16 * len(data)


def test_a_headers_odd_value_is_quoted_in_one_line() -> None:
    """However long it is."""
    for values in (
        {"keyframe_codec": "x" * 60_000},
        {"rate": [1] * 20_000},
        {"width": [[1]] * 9_000},
        {"start": 10**4000},
    ):
        text = json.dumps({**json.loads(inflate(HEADER.pack())), **values}).encode()
        with pytest.raises(FormatError) as caught:
            RdcHeader.unpack(deflate(text))
        assert len(str(caught.value)) < 300 and "\n" not in str(caught.value)
