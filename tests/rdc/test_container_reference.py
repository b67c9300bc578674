"""A second reader of the container, written from FORMAT.md alone with plain Python, reads what the product reads.

It knows intact files, and damaged ones as far as the text says what to do.
"""

from __future__ import annotations

import io
import itertools
import json
import random
import zlib
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from reducio_codec.rdc.layers.pictures import Pictures
from reducio_codec.rdc.reader import RdcReader
from reducio_codec.rdc.timing import clock_of_header

ROOT = Path(__file__).parents[2]
GOLDEN = sorted((Path(__file__).parent / "golden").rglob("*.rdc"))
DEFAULTS = {"version": 1, "frame_duration": 0, "rate": [0, 1], "start": 0, "keyframe_codec": "avif", "latent": [16, 4],
            "references": 1, "colour": "bt709", "sample_aspect_ratio": [1, 1]}  # fmt: skip


class Damage(Exception):
    pass


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for count in range(9):
        if at + count >= len(data):
            break
        value += (data[at + count] & 127) << 7 * count
        if data[at + count] < 128:
            return value, at + count + 1
    raise Damage


def signed(data: bytes, at: int) -> tuple[int, int]:
    value, at = varint(data, at)
    return (value // 2 if value % 2 == 0 else -(value + 1) // 2), at


def dictionary() -> bytes:
    """The header's, as FORMAT.md has it."""
    text = (ROOT / "FORMAT.md").read_text(encoding="utf-8")
    return text.split("The header's dictionary", 1)[1].split("```\n")[1].removesuffix("\n").encode()


@dataclass
class Clip:
    start: int
    frames: int
    lead: int
    step: int
    pictures: int
    latent: bytes


@dataclass
class File:
    header: dict[str, Any] = field(default_factory=dict)
    clips: dict[int, Clip] = field(default_factory=dict)
    pictures: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    times: dict[int, list[int]] = field(default_factory=dict)
    cuts: dict[int, int] = field(default_factory=dict)
    sound: dict[int, bytes] = field(default_factory=dict)
    index: tuple[int, int] | None = None
    end: int | None = None

    def sequences(self) -> dict[int, tuple[int, ...]]:
        """For each picture's frame the frames of its sequence up to it."""
        found: dict[int, tuple[int, ...]] = {}
        for frame in sorted(self.pictures):
            distance = self.pictures[frame][0]
            if not distance:
                found[frame] = (frame,)
            elif frame - distance == max(found, default=-1) and len(found[frame - distance]) < 255:
                found[frame] = (*found[frame - distance], frame)
        return found

    def spans(self) -> list[tuple[int, int]]:
        """First frame and frames of every clip, lost ones included."""
        found: list[tuple[int, int]] = []

        def fill(number: int, start: int) -> bool:
            lost, at = number - len(found), sum(found[-1]) if found else 0
            if not 0 <= lost <= start - at <= 16 * lost:
                return False
            for left in range(lost - 1, -1, -1):
                found.append((at, min(16, start - at - left)))
                at = sum(found[-1])
            return True

        for number in sorted(self.clips):
            if fill(number, self.clips[number].start):
                found.append((self.clips[number].start, self.clips[number].frames))
        if self.index is None or not fill(*self.index):
            pictures = self.sequences()
            while pictures and max(pictures) >= (sum(found[-1]) if found else 0):
                found.append((sum(found[-1]) if found else 0, 16))
        return found

    def time(self, number: int, frame: int) -> int:
        """Of a frame of a clip, in ticks."""
        if number in self.times:
            return self.times[number][frame - self.clips[number].start]
        rate = Fraction(*self.header["rate"])
        if not rate:
            return int(self.header["start"] + frame * (self.header["frame_duration"] or 1))
        ticks = frame / (rate * Fraction(*self.header["time_base"]))
        return int(self.header["start"] + (ticks + Fraction(1, 2)).__floor__())


def record(data: bytes, at: int) -> tuple[int, bytes, int]:
    """(type, payload, place behind it)."""
    size, place = varint(data, at + 1)
    if place - at - 1 > 4 or int.from_bytes(data[place : place + 2], "little") != zlib.crc32(data[at:place]) & 0xFFFF:
        raise Damage
    payload = data[place + 6 : place + 6 + size]
    if len(payload) < size or int.from_bytes(data[place + 2 : place + 6], "little") != zlib.crc32(payload):
        raise Damage
    return data[at], payload, place + 6 + size


def read(data: bytes) -> File:
    assert data[:8] == bytes.fromhex("895244430D0A1A0A") and data[8] == 1
    size, at = varint(data, 9)
    packed = data[at + 4 : at + 4 + size]
    assert int.from_bytes(data[at : at + 4], "little") == zlib.crc32(packed)
    text = zlib.decompressobj(wbits=-15, zdict=dictionary()).decompress(packed)
    file, at = File(header=DEFAULTS | json.loads(text)), at + 4 + size
    while at < len(data):
        try:
            kind, payload, at = record(data, at)
            take(file, kind, payload)
        except Damage:
            at += 1
    return file


def take(file: File, kind: int, payload: bytes) -> None:
    if kind == 5:
        clips, at = varint(payload, 0)
        frames, at = varint(payload, at)
        if file.index is None:
            file.index, file.end = (clips, frames), signed(payload, at)[0] if at < len(payload) else None
        return
    if kind not in (1, 2, 3, 4, 7):
        return
    number, at = varint(payload, 0)
    if kind == 1:
        distance, at = varint(payload, at)
        file.pictures.setdefault(number, (distance, payload[at:]))
    elif kind == 2:
        file.clips.setdefault(number, clip(file.header, number, payload, at))
    elif kind == 3:
        file.sound.setdefault(number, payload[at:])
    elif kind == 4:
        deltas, place, times, last = zlib.decompress(payload[at:]), 0, list[int](), 0
        while place < len(deltas):
            delta, place = signed(deltas, place)
            last += delta
            times.append(last)
        file.times.setdefault(number, times)
    else:
        file.cuts.setdefault(number, payload[at])


def clip(header: dict[str, Any], number: int, payload: bytes, at: int) -> Clip:
    flags, at = payload[at], at + 1
    frames = (flags & 15) + 1
    step, start, lead, pictures = header["step"], 16 * number, (16 - frames) // 2, 1
    if flags & 16:
        step, at = varint(payload, at)
    if flags & 32:
        moved, at = signed(payload, at)
        start += moved
    if flags & 64:
        lead, at = payload[at], at + 1
    if flags & 128:
        pictures, at = varint(payload, at)
    return Clip(start, frames, lead, step, pictures, payload[at:])


def compare(file: File, reader: RdcReader) -> None:
    header = reader.header
    for key, value in file.header.items():
        found = getattr(header, key)
        found = [found.numerator, found.denominator] if isinstance(found, Fraction) else found
        assert (list(found) if isinstance(found, tuple) else found) == value, key
    assert sorted(file.clips) == [record.index for record in reader if record.latent is not None]
    spans = file.spans()
    assert spans == [(record.start, record.frames) for record in reader]
    sequences = file.sequences()
    assert sorted(sequences) == reader.pictures.frames
    for frame, members in sequences.items():
        group, place = reader.pictures.group(frame)
        assert tuple(group.frames[: place + 1]) == members
        assert reader.read_pictures(group)[place] == file.pictures[frame][1]
    clock = clock_of_header(header)
    for number, mine in file.clips.items():
        record = reader.read_clip(number)
        assert (record.start, record.frames, record.lead) == (mine.start, mine.frames, mine.lead)
        assert (record.step, record.latent) == (mine.step, mine.latent)
        assert reader.layer(Pictures).declared[number] == mine.pictures
        times = record.timestamps or clock.times(record.start, record.frames)
        assert list(times) == [file.time(number, frame) for frame in range(mine.start, mine.start + mine.frames)]
    cuts = {number: cut for number, cut in file.cuts.items() if number < len(spans)}
    assert {number: int(cut) for number, cut in reader.cuts.items()} == cuts
    pieces = itertools.takewhile(file.sound.__contains__, itertools.count())
    assert b"".join(reader.audio()) == b"".join(file.sound[piece] for piece in pieces)
    assert reader.end == file.end


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_both_read_the_same(path: Path) -> None:
    data = path.read_bytes()
    file, reader = read(data), RdcReader(io.BytesIO(data))
    compare(file, reader)
    video_end = file.end if file.end is not None else file.time(len(file.clips) - 1, reader.frames - 1) + 1
    assert video_end > file.time(len(file.clips) - 1, reader.frames - 1)
    assert not reader.damage and file.index == (len(file.clips), sum(clip.frames for clip in file.clips.values()))
    last = file.clips[len(file.clips) - 1]
    assert file.index[1] == last.start + last.frames


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_both_find_the_same_behind_damage(path: Path) -> None:
    rng = random.Random(path.stem)
    data = path.read_bytes()
    body = RdcReader(io.BytesIO(data))._body
    for _ in range(20):
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(body, len(data))] ^= 1 << rng.randrange(8)
        cut = bytes(damaged[: rng.choice((len(data), rng.randrange(body, len(data))))])
        compare(read(cut), RdcReader(io.BytesIO(cut)))


def test_records_in_any_order_mean_the_same() -> None:
    """FORMAT.md: records may come in any order; unknown types are skipped; of two for the same, the first counts."""
    for path in GOLDEN:
        data, rng = path.read_bytes(), random.Random(path.stem)
        at, found = RdcReader(io.BytesIO(data))._body, []
        start = at
        while at < len(data):
            behind = record(data, at)[2]
            found.append(data[at:behind])
            at = behind
        unknown = bytes([40, 3]) + (zlib.crc32(bytes([40, 3])) & 0xFFFF).to_bytes(2, "little")
        found.append(unknown + zlib.crc32(b"new").to_bytes(4, "little") + b"new")
        rng.shuffle(found)
        shuffled = data[:start] + b"".join([*found, *found[:2]])
        file, reader = read(shuffled), RdcReader(io.BytesIO(shuffled))
        compare(file, reader)
        assert file.clips == read(data).clips and reader.unknown.get(40) in (1, 2)
