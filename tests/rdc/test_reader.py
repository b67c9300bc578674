"""Files survive truncation at every byte, flipped bytes, and records that moved; a damaged clip costs that clip only."""

import io
import zlib
from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reducio_codec.errors import FormatError, InputError
from reducio_codec.rdc.header import MAGIC, RdcHeader
from reducio_codec.rdc.layers.cuts import Cut
from reducio_codec.rdc.layers.index import Index
from reducio_codec.rdc.layers.latent import Latents
from reducio_codec.rdc.layers.pictures import Pictures
from reducio_codec.rdc.layers.times import Times
from reducio_codec.rdc.reader import ClipRecord, RdcReader
from reducio_codec.rdc.records import Scanner
from reducio_codec.rdc.writer import RdcWriter

HEADER = RdcHeader(
    model="reducio-lite",
    latent_space="0011223344556677",
    width=256,
    height=144,
    time_base=Fraction(1, 16),
    frame_duration=1,
    step=512,
)


def picture(frame: int) -> bytes:
    return b"picture" + frame.to_bytes(3, "little") * 11


def motion(index: int) -> bytes:
    return b"motion" + bytes([index + 7]) * 24


def build(groups: Sequence[int] = (1, 1, 1), header: RdcHeader = HEADER, *, end: int | None = None) -> bytes:
    """Clips of 16, 15, 14, 16 ... frames, whose pictures are coded together in groups; a cut before each third clip."""
    file = io.BytesIO()
    writer = RdcWriter(file, header)
    index = start = 0
    for count in groups:
        after = None
        for _ in range(count):
            frames = 16 - index % 3
            writer.write_picture(picture(start + 7), frame=start + 7, after=after)
            cut = Cut.BACKWARD if index % 3 == 2 else Cut.NONE
            writer.write_clip(frames=frames, latent_bytes=motion(index), cut=cut)
            after = start + 7
            index += 1
            start += frames
    writer.write_audio(b"sound" * 5)
    writer.close(end=end)
    assert writer.size == len(file.getvalue())
    return file.getvalue()


def opened(data: bytes) -> RdcReader:
    return RdcReader(io.BytesIO(data))


def shown(reader: RdcReader, record: ClipRecord) -> list[bytes]:
    """The pictures of a clip."""
    found = []
    for frame in record.references:
        group, place = reader.pictures.group(frame)
        found.append(reader.read_pictures(group)[place])
    return found


def good(reader: RdcReader, record: ClipRecord) -> bool:
    start = sum(16 - number % 3 for number in range(record.index))
    place = start, 16 - record.index % 3, (start + 7,)
    return (record.start, record.frames, record.references) == place and (
        shown(reader, record) == [picture(start + 7)] and record.latent == motion(record.index)
    )


def records(data: bytes) -> tuple[bytes, list[bytes]]:
    """The head of the file, and its records."""
    body = opened(data)._body
    scanner = Scanner(io.BytesIO(data), start=body, size=len(data))
    return data[:body], [data[record.place : record.end] for record in scanner]


def test_everything_comes_back() -> None:
    data = build((1, 1, 3), end=-5)
    reader = opened(data)
    assert reader.header == HEADER
    assert (reader.clips, reader.frames, reader.damage, reader.end) == (5, 16 + 15 + 14 + 16 + 15, [], -5)
    assert all(good(reader, clip) and not clip.damage for clip in reader)
    assert reader.cuts == {2: Cut.BACKWARD}
    assert [reader.clip_at(frame) for frame in (0, 15, 16, 30, 31, 75)] == [0, 0, 1, 1, 2, 4]
    assert b"".join(reader.audio()) == b"sound" * 5
    report = reader.byte_report()
    assert sum(report.values()) == len(data)
    assert set(report) == {"pictures", "latent", "audio", "cuts", "index", "container"}
    assert opened(build()).end is None


def test_overhead_is_small() -> None:
    payload = len(picture(0)) + len(motion(0))
    assert len(build((1,))) - payload - 25 < 95
    assert len(build((4, 4, 2))) - 10 * payload - 25 < 320


def test_header_keeps_what_differs_from_the_default() -> None:
    header = RdcHeader(
        model="org/name@abc",
        version=3,
        latent_space="ff",
        width=1,
        height=16384,
        time_base=Fraction(1, 90000),
        start=-5,
        step=16,
        keyframe_codec="png",
        latent=(8, 16),
        sample_aspect_ratio=Fraction(4, 3),
        rate=Fraction(30000, 1001),
    )
    assert opened(build((1,), header)).header == header


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("colour", "bt2020", "bt709"),
        ("step", 15, "16 to 16384"),
        ("step", 16385, "16 to 16384"),
        ("keyframe_codec", "bmp", "avif, webp, jpeg, png"),
        ("version", 0, "1 to"),
        ("references", 3, "1 or 2"),
    ],
)
def test_headers_that_cannot_be(name: str, value: object, allowed: str) -> None:
    """What no coder can do is refused where the file is opened, and as damage of the file: not as a wrong argument."""
    with pytest.raises(FormatError, match=f"{name} is {value!r}; allowed: {allowed}"):
        RdcHeader(**{**HEADER.__dict__, name: value})


def test_timestamps() -> None:
    file = io.BytesIO()
    writer = RdcWriter(file, RdcHeader(**{**HEADER.__dict__, "frame_duration": 0}))
    times = [(5, 9, 1000), (-3, 2**40, 7)]
    for values in times:
        writer.write_clip(frames=3, latent_bytes=b"l", timestamps=values, references=0)
    writer.close()
    assert [clip.timestamps for clip in opened(file.getvalue())] == times


# ------------------------------------------------------------------ references


def referenced(counts: Sequence[int], *, cuts: dict[int, Cut] | None = None, frames: int = 16) -> bytes:
    """A clip of ``frames`` frames for each of ``counts``, with so many pictures, evenly spread, a sequence each."""
    file = io.BytesIO()
    writer = RdcWriter(file, HEADER)
    for index, count in enumerate(counts):
        after = None
        for frame in [index * frames + frames * number // count for number in range(count)]:
            writer.write_picture(picture(frame), frame=frame, after=after)
            after = frame
        writer.write_clip(frames=frames, latent_bytes=b"", references=count, cut=(cuts or {}).get(index, Cut.NONE))
    writer.close()
    return file.getvalue()


def test_zero_one_and_many_references_in_a_clip() -> None:
    reader = opened(referenced([1, 0, 4, 0, 0, 2]))
    assert not reader.damage and not any(clip.damage for clip in reader)
    inside = [(0,), (), (32, 36, 40, 44), (), (), (80, 88)]
    assert [clip.references for clip in reader] == inside
    beside = [(found.before, found.after) for found in map(reader.beside, range(6))]
    assert beside == [(None, 32), (0, 32), (0, 80), (44, 80), (44, 80), (44, None)]
    assert all(clip.latent == b"" for clip in reader)


def test_references_end_at_a_cut() -> None:
    reader = opened(referenced([1, 0, 0, 1], cuts={1: Cut.FORWARD, 2: Cut.BACKWARD, 3: Cut.FORWARD | Cut.BACKWARD}))
    beside = [(found.before, found.after) for found in map(reader.beside, range(4))]
    assert beside == [(None, None), (0, None), (None, None), (None, None)]


def test_a_lost_reference_is_named_and_not_replaced_by_one_further_away() -> None:
    data = referenced([1, 2, 1])
    place = data.index(picture(16)) + 5
    reader = opened(data[:place] + b"X" + data[place + 1 :])
    assert [clip.references for clip in reader] == [(0,), (), (32,)]
    assert reader.read_clip(1).damage == ("clip 1: 0 of its 2 pictures are left",)
    assert (reader.beside(0).after, reader.beside(2).before) == (None, None)
    assert reader.beside(2).lost == ("clip 1: 0 of its 2 pictures are left",)


def test_clips_of_any_length_lie_where_they_lay_when_others_are_lost() -> None:
    head, parts = records(referenced([1] * 6, frames=5))
    whole = opened(head + b"".join(parts))
    for lost in range(1, 12, 2):  # latents
        reader = opened(head + b"".join(parts[:lost] + parts[lost + 1 :]))
        assert [(clip.start, clip.frames) for clip in reader] == [(clip.start, clip.frames) for clip in whole]
    reader = opened(head + b"".join(parts[:3] + parts[8:]))  # clips 2, 3 and the picture of 1's successor
    assert reader.frames == 30 and reader.read_clip(4).start == 20
    assert sum(clip.frames for clip in reader) == 30


# ------------------------------------------------------------------ damage


@pytest.mark.parametrize("groups", [(1, 1, 1), (4,), (2, 3)])
def test_truncation_at_every_byte_gives_what_came_before(groups: Sequence[int]) -> None:
    data = build(groups)
    head, parts = records(data)
    ends = list(accumulate(map(len, parts), initial=len(head)))[1:]
    for length in range(len(data)):
        try:
            reader = opened(data[:length])
        except FormatError:
            assert length < len(head)
            continue
        assert reader.damage
        left = [clip for clip in reader if not clip.damage]
        assert all(good(reader, clip) for clip in left)
        whole = [part[0] for part, end in zip(parts, ends, strict=True) if end <= length]
        assert len(left) == whole.count(Latents.KIND)
        assert len(reader.pictures.frames) == whole.count(Pictures.KIND)


@pytest.mark.parametrize("change", [0xFF, 0x01, 0x80])
@pytest.mark.parametrize("groups", [(1, 1, 1), (2, 1, 2)])
def test_a_changed_byte_costs_one_record_at_most(change: int, groups: Sequence[int]) -> None:
    data = build(groups)
    for place in range(len(data)):
        try:
            reader = opened(data[:place] + bytes([data[place] ^ change]) + data[place + 1 :])
        except FormatError:
            continue
        assert reader.damage, place
        left = [clip for clip in reader if not clip.damage]
        assert len(left) >= sum(groups) - max(groups), place
        assert all(good(reader, clip) for clip in left)
        assert reader.frames == opened(data).frames, place


def test_a_changed_byte_in_a_group_leaves_the_pictures_before_it() -> None:
    data = build((4,))
    whole = [clip.references[0] for clip in opened(data)]
    for number, frame in enumerate(whole):
        place = data.index(picture(frame)) + 20
        reader = opened(data[:place] + b"\x99" + data[place + 1 :])
        assert reader.pictures.frames == whole[:number]
        assert [clip.index for clip in reader if not clip.damage] == list(range(number))


def test_sequences_that_cannot_be() -> None:
    """Two pictures that follow the same one, one that follows a lost one, one too many."""
    file = io.BytesIO()
    writer = RdcWriter(file, HEADER)
    for frame, after in ((3, None), (5, 3), (6, 3), (7, 5), (9, 8), (10, None)):
        writer.write_picture(picture(frame), frame=frame, after=after)
    writer.write_clip(frames=16, latent_bytes=b"", references=6)
    writer.close()
    reader = opened(file.getvalue())
    assert reader.pictures.frames == [3, 5, 7, 10]
    assert reader.damage == ["frame 6: its picture follows that of frame 3, which can't be"]
    assert reader.read_clip(0).damage == ("clip 0: 4 of its 6 pictures are left",)
    file = io.BytesIO()
    writer = RdcWriter(file, HEADER)
    for frame in range(300):
        writer.write_picture(picture(frame), frame=frame, after=frame - 1 if frame else None)
    for _ in range(30):
        writer.write_clip(frames=10, latent_bytes=b"", references=10)
    writer.close()
    assert len(opened(file.getvalue()).pictures.frames) == 255


def test_moved_repeated_and_missing_records() -> None:
    head, parts = records(build())
    reader = opened(head + b"".join(reversed(parts)))
    assert all(good(reader, clip) and not clip.damage for clip in reader)
    reader = opened(head + b"".join(part * 2 for part in parts))
    assert all(good(reader, clip) for clip in reader)
    assert sum("second" in problem for problem in reader.damage) == len(parts)
    reader = opened(head + b"".join(parts[:2] + parts[3:]))
    assert [not clip.damage for clip in reader] == [True, False, True]


def test_unknown_records_are_skipped_and_counted() -> None:
    file = io.BytesIO()
    writer = RdcWriter(file, HEADER)
    for _ in range(2):
        writer.record(29, b"from the future")
    writer.write_picture(picture(7), frame=7)
    writer.write_clip(frames=16, latent_bytes=motion(0))
    writer.close()
    reader = opened(file.getvalue())
    assert not reader.damage and good(reader, reader.read_clip(0))
    assert reader.unknown == {29: 2} and reader.byte_report()["unknown"] == 30


def test_pipes() -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    reader = RdcReader(Pipe(build()))
    assert all(good(reader, clip) and not clip.damage for clip in reader)


def test_other_files_are_refused_in_words() -> None:
    for data, words in (
        (b"", "empty"),
        (b"hello world, this is text", "not an .rdc file"),
        (MAGIC + b"\x09" + b"\0" * 20, "format version 9"),
    ):
        with pytest.raises(FormatError, match=words):
            opened(data)
    with pytest.raises(InputError, match="clips 0 to 2"):
        opened(build()).read_clip(3)


def test_a_clip_may_have_a_step_and_a_place_of_its_own() -> None:
    file = io.BytesIO()
    writer = RdcWriter(file, HEADER)
    for step, lead in ((None, None), (77, None), (None, 0), (16384, 13), (HEADER.step, 6)):
        writer.write_clip(frames=3, latent_bytes=b"latent", step=step, lead=lead, references=0)
    writer.close()
    clips = list(opened(file.getvalue()))
    assert [(clip.step, clip.lead) for clip in clips] == [(512, 6), (77, 6), (512, 0), (16384, 13), (512, 6)]
    assert [clip.start for clip in clips] == [0, 3, 6, 9, 12]
    assert all(clip.latent == b"latent" and not clip.damage for clip in clips)


TOO_MANY = b"\xff\xff\xff\x07"


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (Latents, b"\1"),  # no flags
        (Latents, b"\1\x1f"),  # a step that isn't there
        (Latents, b"\1\x1f\x0f"),  # a step that no coder has: 15 / 1024
        (Latents, b"\1\x1f\x81\x80\x01"),  # or 16385 / 1024
        (Latents, b"\1\x2f\x02"),  # begins at frame 17, more than 16 behind
        (Latents, b"\1\x2f\x1f"),  # begins at frame 0, as the clip before
        (Latents, b"\1\x4f\x01"),  # 16 frames from place 1 on
        (Latents, b"\1\x4f"),
        (Latents, b"\1\x8f\x11"),  # 17 pictures in 16 frames
        (Latents, TOO_MANY + b"\x0f"),
        (Pictures, b""),
        (Pictures, b"\7"),
        (Pictures, b"\7\0"),  # no bytes
        (Pictures, TOO_MANY + b"\0key"),
        (Pictures, b"\x08\x09key"),  # follows frame -1
        (Times, b"\1"),
        (Times, b"\1" + zlib.compress(b"\0" * 17)),
        (Times, b"\1" + zlib.compress(b"\0" * 1_000_000)),
        (Times, b"\1" + zlib.compress(b"\0" * 16) + b"more"),
        (Times, b"\1" + zlib.compress(b"\xfe" + b"\xff" * 7 + b"\x7f" * 1)),
        (Index, b""),
        (Index, b"\2"),
        (Index, b"\2\1"),  # clips without frames
        (Index, b"\1\x11"),  # 17 frames in a clip
        (Index, b"\1\1\0\0"),
        (Index, TOO_MANY + TOO_MANY),
    ],
)
def test_records_that_cannot_be_are_damage(kind: type[Latents], payload: bytes) -> None:
    file = io.BytesIO()
    writer = RdcWriter(file, HEADER)
    writer.record(kind.KIND, payload)
    writer.write_picture(picture(7), frame=7)
    writer.write_clip(frames=16, latent_bytes=motion(0))
    writer.close()
    reader = opened(file.getvalue())
    assert len(reader.damage) == 1
    assert reader.clips == 1 and good(reader, reader.read_clip(0)) and not reader.read_clip(0).damage


@pytest.mark.parametrize(("clips", "frames"), [(2, 32), (2, 31), (3, 46), (1, 1), (4, 45), (5, 46), (5, 78)])
def test_an_index_that_claims_other_than_what_is_there_hides_nothing(clips: int, frames: int) -> None:
    head, parts = records(build())
    file = io.BytesIO()
    writer = RdcWriter(file, HEADER)
    writer._clips, writer._frames = clips, frames
    writer.close()
    last = records(file.getvalue())[1]
    reader = opened(head + b"".join(parts[:-1] + last))
    assert any("the index claims" in text for text in reader.damage)
    assert reader.clips == 3 and all(good(reader, clip) and not clip.damage for clip in reader)


def test_clips_that_overlap_are_damage() -> None:
    """Two clips that claim the same frames: the later one is lost."""
    head, parts = records(build())
    other = records(referenced([1, 1, 1], frames=5))[1]
    reader = opened(head + parts[0] + parts[1] + other[3] + parts[-1])
    assert any("clip 1 claims to begin at frame 5" in text for text in reader.damage)
    assert good(reader, reader.read_clip(0)) and reader.read_clip(1).latent is None


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_records_in_any_order_are_laid_out_without_contradiction(data: st.DataObject) -> None:
    """Well-formed records of several files, mixed: whatever comes out is one video, clip behind clip."""
    sources = [build(), build((3,)), referenced([1, 0, 2], frames=4), referenced([2] * 4, frames=9)]
    pool = [part for source in sources for part in records(source)[1]]
    chosen = data.draw(st.lists(st.sampled_from(pool), max_size=12))
    reader = opened(records(sources[0])[0] + b"".join(chosen))
    end = 0
    for clip in reader:
        assert clip.start == end and 1 <= clip.frames <= 16
        end += clip.frames
        found = reader.beside(clip.index)
        assert found.before is None or found.before < clip.start
        assert found.after is None or found.after >= end
        assert all(clip.start <= frame < end for frame in clip.references)
    assert reader.frames == end
    assert sum(reader.byte_report().values()) == reader._size
