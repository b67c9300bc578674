"""Files survive truncation at every byte, flipped bytes, and records that moved; a damaged clip costs that clip only."""

import io
import tracemalloc
import zlib
from fractions import Fraction

import pytest

from reducio_codec.errors import FormatError, InputError
from reducio_codec.rdc.container import MAGIC, ClipRecord, RdcReader, RdcWriter, RecordType
from reducio_codec.rdc.entropy import write_varint
from reducio_codec.rdc.header import RdcHeader

HEADER = RdcHeader(
    model="reducio-lite",
    model_hash="0011223344556677",
    width=256,
    height=144,
    time_base=Fraction(1, 16),
    frame_duration=1,
    step=512,
)


def build(clips: int = 3, header: RdcHeader = HEADER) -> bytes:
    file = io.BytesIO()
    writer = RdcWriter(file, header)
    for index in range(clips):
        writer.write_clip(frames=16 - index % 3, keyframe=bytes([index]) * 40, latent=bytes([index + 7]) * 30)
    writer.write_audio(b"sound" * 5)
    writer.close()
    assert writer.size == len(file.getvalue())
    return file.getvalue()


def intact(clip: ClipRecord) -> bool:
    return not clip.damage


def good(clip: ClipRecord) -> bool:
    return clip.keyframe == bytes([clip.index]) * 40 and clip.latent == bytes([clip.index + 7]) * 30


def test_everything_comes_back() -> None:
    data = build(5)
    reader = RdcReader(io.BytesIO(data))
    assert reader.header == HEADER
    assert (reader.clips, reader.frames, reader.damage) == (5, 16 + 15 + 14 + 16 + 15, [])
    assert all(good(clip) and intact(clip) for clip in reader)
    assert good(reader.read_clip(3))
    assert b"".join(reader.audio()) == b"sound" * 5
    assert sum(reader.byte_report().values()) == len(data)


def test_overhead_is_small() -> None:
    assert len(build(1)) - 70 - 25 < 80
    assert len(build(10)) - 700 - 25 < 240


def test_header_keeps_what_differs_from_the_default() -> None:
    header = RdcHeader(
        model="org/name@abc",
        model_hash="ff",
        width=1,
        height=16384,
        time_base=Fraction(1, 90000),
        start=-5,
        step=1,
        keyframe_codec="png",
        keyframe_index=0,
        latent=(8, 16),
        sample_aspect_ratio=Fraction(4, 3),
        rate=Fraction(30000, 1001),
    )
    assert RdcReader(io.BytesIO(build(1, header))).header == header


def test_unknown_colour_is_refused() -> None:
    """A file of a later version that means other colours by its numbers must not come out with wrong ones."""
    with pytest.raises(FormatError, match="colour is 'bt2020'; allowed: bt709"):
        RdcHeader(**{**HEADER.__dict__, "colour": "bt2020"})


def test_timestamps() -> None:
    file = io.BytesIO()
    writer = RdcWriter(file, RdcHeader(**{**HEADER.__dict__, "frame_duration": 0}))
    times = [(5, 9, 1000), (-3, 2**40, 7)]
    for values in times:
        writer.write_clip(frames=3, keyframe=b"k", latent=b"l", timestamps=values)
    writer.close()
    assert [clip.timestamps for clip in RdcReader(io.BytesIO(file.getvalue()))] == times


@pytest.mark.parametrize("end", [None, 0, 7, -3, 1 << 50])
def test_the_end_of_the_last_picture_is_kept(end):
    file = io.BytesIO()
    writer = RdcWriter(file, HEADER)
    writer.write_clip(frames=3, keyframe=b"k", latent=b"l")
    writer.close(end=end)
    reader = RdcReader(io.BytesIO(file.getvalue()))
    assert (reader.end, reader.clips, reader.damage) == (end, 1, [])


def test_truncation_at_every_byte() -> None:
    data = build()
    for length in range(len(data)):
        try:
            reader = RdcReader(io.BytesIO(data[:length]))
        except FormatError:
            continue
        assert reader.damage
        assert all(good(clip) for clip in reader if intact(clip))


def build_grouped() -> bytes:
    """Five clips: the key frames of two, of one, and of two."""
    file = io.BytesIO()
    writer = RdcWriter(file, HEADER)
    for count in (2, 1, 2):
        keyframes = bytes([writer._clips]) * 40
        if count > 1:
            writer.write_keyframes(keyframes, count=count)
        for _ in range(count):
            latent = bytes([writer._clips + 7]) * 30
            writer.write_clip(frames=16, keyframe=keyframes if count == 1 else None, latent=latent)
    writer.close()
    return file.getvalue()


def good_grouped(clip: ClipRecord) -> bool:
    first = (0, 0, 2, 3, 3)[clip.index]
    found = (clip.keyframe, clip.keyframe_place, clip.latent)
    return found == (bytes([first]) * 40, clip.index - first, bytes([clip.index + 7]) * 30)


def test_key_frames_of_several_clips_in_one_record() -> None:
    data = build_grouped()
    reader = RdcReader(io.BytesIO(data))
    assert reader.clips == 5 and not reader.damage
    assert all(good_grouped(clip) and intact(clip) for clip in reader)
    parts = reader.byte_report()
    assert sum(parts.values()) == len(data) and 120 < parts["keyframe"] < 130


@pytest.mark.parametrize("change", [0xFF, 0x01, 0x80])
@pytest.mark.parametrize("grouped", [False, True])
def test_a_changed_byte_costs_the_clips_that_share_a_record_at_most(change: int, grouped: bool) -> None:
    data, same, left = (build_grouped(), good_grouped, 3) if grouped else (build(), good, 2)
    for place in range(len(data)):
        damaged = data[:place] + bytes([data[place] ^ change]) + data[place + 1 :]
        try:
            reader = RdcReader(io.BytesIO(damaged))
        except FormatError:
            continue
        assert reader.damage, place
        clips = [clip for clip in reader if intact(clip)]
        assert len(clips) >= left, place
        assert all(same(clip) for clip in clips)


@pytest.mark.parametrize("payload", [b"\0", b"\0\0key", b"\0\x11key", b"\xff\xff\xff\x07\2key"])
def test_groups_that_cannot_be(payload: bytes) -> None:
    file = io.BytesIO()
    writer = RdcWriter(file, HEADER)
    writer.record(RecordType.KEYFRAMES, payload)
    writer.write_clip(frames=16, keyframe=b"key", latent=b"latent")
    writer.close()
    reader = RdcReader(io.BytesIO(file.getvalue()))
    assert reader.clips == 1 and reader.read_clip(0).keyframe == b"key" and reader.damage


def records(data: bytes) -> tuple[bytes, list[bytes]]:
    """The head of the file, and its records."""
    reader = RdcReader(io.BytesIO(data))
    place, found = reader._body, []
    while place < len(data):
        head = reader._head(place)
        assert head
        found.append(data[place : head[1] + head[2]])
        place = head[1] + head[2]
    return data[: reader._body], found


def test_moved_repeated_and_missing_records() -> None:
    head, parts = records(build())
    moved = RdcReader(io.BytesIO(head + b"".join(reversed(parts))))
    assert all(good(clip) and intact(clip) for clip in moved)
    repeated = RdcReader(io.BytesIO(head + b"".join(part * 2 for part in parts)))
    assert all(good(clip) for clip in repeated)
    assert any("second" in problem for problem in repeated.damage)
    missing = RdcReader(io.BytesIO(head + b"".join(parts[:2] + parts[3:])))
    assert [intact(clip) for clip in missing] == [True, False, True]


def test_unknown_records_are_skipped() -> None:
    file = io.BytesIO()
    writer = RdcWriter(file, HEADER)
    writer.record(29, b"from the future")
    writer.write_clip(frames=16, keyframe=b"\0" * 40, latent=b"\7" * 30)
    writer.close()
    reader = RdcReader(io.BytesIO(file.getvalue()))
    assert not reader.damage
    assert good(reader.read_clip(0))


def test_claims_of_terabytes_cost_no_memory() -> None:
    head, parts = records(build())
    claim = bytearray([RecordType.KEYFRAME])
    write_varint(claim, 1 << 42)
    claim += bytes([zlib.crc32(claim) & 255]) + b"\0\0\0\0"
    many = bytearray()
    write_varint(many, 1 << 50)
    file = io.BytesIO()
    writer = RdcWriter(file, HEADER)
    writer.record(RecordType.KEYFRAME, bytes(many) + b"x")
    tracemalloc.start()
    reader = RdcReader(io.BytesIO(head + bytes(claim) + file.getvalue()[len(head) :] + b"".join(parts)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reader.damage
    assert all(good(clip) and intact(clip) for clip in reader)
    assert peak < 1 << 20


def test_pipes() -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    reader = RdcReader(Pipe(build()))
    assert all(good(clip) and intact(clip) for clip in reader)


def test_other_files_are_refused_in_words() -> None:
    for data, words in (
        (b"", "empty"),
        (b"hello world, this is text", "not an .rdc file"),
        (MAGIC + b"\x09" + b"\0" * 20, "format version 9"),
    ):
        with pytest.raises(FormatError, match=words):
            RdcReader(io.BytesIO(data))
    with pytest.raises(InputError, match="clips 0 to 2"):
        RdcReader(io.BytesIO(build())).read_clip(3)


def test_a_clip_may_have_a_step_and_a_key_frame_of_its_own() -> None:
    file = io.BytesIO()
    writer = RdcWriter(file, HEADER)
    for step, place in ((None, None), (77, None), (None, 0), (65536, 15), (HEADER.step, HEADER.keyframe_index)):
        writer.write_clip(frames=16, keyframe=b"key", latent=b"latent", step=step, keyframe_index=place)
    writer.close()
    clips = list(RdcReader(io.BytesIO(file.getvalue())))
    usual = HEADER.step, HEADER.keyframe_index
    expected = [usual, (77, usual[1]), (usual[0], 0), (65536, 15), usual]
    assert [(clip.step, clip.keyframe_index) for clip in clips] == expected
    assert all(clip.latent == b"latent" and not clip.damage for clip in clips)


@pytest.mark.parametrize(
    "payload", [b"\x01\x80x", b"\x01\x30", b"\x01\x21", b"\x01\x50\x10x", b"\x01\x20\x00x", b"\x01"]
)
def test_clips_that_cannot_be(payload: bytes) -> None:
    """Flags of a later version, no frames, a step or place that isn't there or is too large."""
    file = io.BytesIO()
    writer = RdcWriter(file, HEADER)
    writer.record(RecordType.KEYFRAME, b"\x01key")
    writer.record(RecordType.LATENT, payload)
    writer.write_clip(frames=1, keyframe=b"key", latent=b"l")
    writer.record(RecordType.INDEX, b"\x02")
    reader = RdcReader(io.BytesIO(file.getvalue()))
    assert reader.damage and reader.read_clip(1).latent is None
