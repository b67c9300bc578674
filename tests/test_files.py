"""Video to file and back: exact times, closed loop, sound, damage, interruption, and memory that doesn't grow."""

from __future__ import annotations

import io
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reducio_codec import ReducioCodec
from reducio_codec.coding.decompress import Damage, decoded_clips
from reducio_codec.errors import FormatError, InputError, ReducioError, VideoError, WeightsError
from reducio_codec.io.video import open_video, read_clip
from reducio_codec.models.contract import Reference
from reducio_codec.models.posterior import Posterior
from reducio_codec.rdc.keyframe import PictureDecoder, encode_keyframe
from reducio_codec.rdc.layers import index
from reducio_codec.rdc.layers.index import Index
from reducio_codec.rdc.reader import RdcReader
from reducio_codec.rdc.records import LEAST_RECORD
from reducio_codec.rdc.writer import RdcWriter
from tests.helpers import TinyModel, moving_frames, moving_video

MakeVideo = Callable[..., Path]


def tiny_codec(model_hash: str = "0011223344556677") -> ReducioCodec:
    return ReducioCodec(TinyModel(), model_id="tiny", model_hash=model_hash)


CODEC = tiny_codec()


def compressed(frames: int = 40, height: int = 40, width: int = 56, **options: object) -> bytes:
    """A file with a large enough latent to be found in it; PNG, so that key frames are exact."""
    options = {"keyframe_codec": "png", "latent_step": 1 / 64, "rate": 16} | options
    file = io.BytesIO()
    CODEC.compress(moving_frames(frames, height, width), file, **options)
    return file.getvalue()


def shown(data: bytes, *, conceal: bool = False) -> tuple[np.ndarray, Damage]:
    damage = Damage(conceal=conceal)
    with CODEC.open_file(io.BytesIO(data)) as video:
        for message in video.damage:
            damage.report(message)
        clips = decoded_clips(video, decoder="mean", damage=damage)
        return np.stack([frame for clip in clips for frame, _, _ in clip]), damage


def payload_of(data: bytes, *, clip: int, part: str) -> bytes:
    """The coded latent or picture of a clip."""
    reader = RdcReader(io.BytesIO(data))
    record = reader.read_clip(clip)
    if part == "latent":
        assert record.latent
        return record.latent
    group, place = reader.pictures.group(record.references[0])
    return reader.read_pictures(group)[place]


def damaged(data: bytes, *, clip: int, part: str) -> bytes:
    """One byte of a clip's record changed."""
    payload = payload_of(data, clip=clip, part=part)
    assert data.count(payload) == 1
    place = data.index(payload) + len(payload) // 2
    return data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :]


# ------------------------------------------------------------------ there and back


def test_video_file_there_and_back(make_video: MakeVideo, tmp_path: Path) -> None:
    source = make_video(frames=21, width=70, height=50)
    report = CODEC.compress(source, tmp_path / "a.rdc", keyframe_codec="webp")
    assert (report.frames, report.clips, report.width, report.height) == (21, 2, 70, 50)
    result = CODEC.decompress(tmp_path / "a.rdc", tmp_path / "a.mkv", lossless=True)
    assert (result.frames, result.clips, result.decoder, result.problems) == (21, 2, "mean", ())
    back = read_clip(tmp_path / "a.mkv")
    with CODEC.open_file(tmp_path / "a.rdc") as video:
        clips = [video.decode_clip(index, decoder="mean") for index in range(2)]
    assert np.array_equal(back, np.concatenate(clips))
    assert np.array_equal(CODEC.decode_clip(tmp_path / "a.rdc", 1), clips[1])
    CODEC.decompress(tmp_path / "a.rdc", tmp_path / "a.mp4", decoder="copy")
    with open_video(tmp_path / "a.mp4") as reader:
        assert (reader.info.codec, reader.info.width, reader.info.height) == ("h264", 70, 50)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mkv", "a.mp4", "a.rdc", "clip.mp4"]


def test_file_holds_what_encode_gives() -> None:
    video = moving_video(40, 40, 56)
    decoded, _ = shown(compressed())
    expected = CODEC.decode(*CODEC.encode(video), output="uint8")[0].numpy()
    assert np.abs(decoded.astype(int) - expected).max() <= 2  # the quantiser
    assert np.array_equal(decoded[[7, 23, 35]], video[[7, 23, 35]])


@pytest.mark.parametrize("frames", [1, 2, 16, 33])
@pytest.mark.parametrize("size", [(1, 1), (16, 40), (33, 31)])
def test_any_length_and_size(frames: int, size: tuple[int, int]) -> None:
    decoded, _ = shown(compressed(frames, *size))
    assert decoded.shape == (frames, *size, 3)


def test_same_input_gives_the_same_file() -> None:
    assert compressed() == compressed()


@pytest.mark.parametrize(("codec", "group"), [("avif", 1), ("avif", 2), ("webp", 1), ("jpeg", 1), ("png", 1)])
def test_closed_loop(codec: str, group: int) -> None:
    """The encoder is shown the key frame that the decoder will have."""
    seen: list[torch.Tensor] = []

    class Spy(TinyModel):
        def encode(self, video: torch.Tensor, *, references: Sequence[Reference] | None = None) -> Posterior:
            assert references is not None
            seen.append(references[0].picture)
            return super().encode(video, references=references)

    spy = ReducioCodec(Spy())
    file = io.BytesIO()
    source = moving_video(20, 32, 64)
    quality = {} if codec == "png" else {"keyframe_quality": 10}
    spy.compress(
        source, file, keyframe_codec=codec, seek_every=float(group) if codec == "avif" else None, rate=16, **quality
    )
    with spy.open_file(file) as video:
        for number, given_frame in enumerate(seen):
            picture = video.keyframe(video.record(number))
            found = torch.from_numpy(picture).permute(2, 0, 1).float() / 127.5 - 1
            torch.testing.assert_close(given_frame[0], found, atol=1e-6, rtol=0)
            assert (codec == "png") == np.array_equal(picture, source[[7, 17][number]])


def grouped(data: bytes) -> list[int]:
    """Each clip's place in the group of pictures that its own lies in."""
    reader = RdcReader(io.BytesIO(data))
    return [reader.pictures.group(record.references[0])[1] for record in reader]


def test_key_frames_in_groups() -> None:
    """Five clips in groups of two: the last is alone. Fewer bytes, and every clip can still be read by itself."""
    options = {"keyframe_codec": "avif", "keyframe_quality": 60, "latent_step": 0.5}
    alone, data = (compressed(70, 96, 128, **options, seek_every=float(group)) for group in (1, 2))
    assert len(data) < len(alone)
    assert grouped(data) == [0, 1, 0, 1, 0]
    frames, _ = shown(data)
    assert np.abs(frames.astype(int) - shown(alone)[0]).mean() < 3
    with CODEC.open_file(io.BytesIO(data)) as video:
        for index in (3, 0, 4, 2, 1):
            assert np.array_equal(video.decode_clip(index, decoder="mean"), frames[16 * index : 16 * index + 16])
    assert compressed(70, 96, 128, **options, seek_every=2.0) == data
    assert grouped(compressed(70, **options)) == [0, 1, 2, 3, 0], "the default"
    bad, damage = shown(damaged(data, clip=2, part="keyframe"), conceal=True)
    assert damage.clips == [2, 3] and np.array_equal(bad[:32], frames[:32]) and np.array_equal(bad[64:], frames[64:])


def test_key_frame_index_is_in_the_file() -> None:
    source = moving_video(20, 32, 64)
    decoded, _ = shown(compressed(20, 32, 64, keyframe_index=0))
    assert np.array_equal(decoded[[0, 16]], source[[0, 16]])


def test_report_adds_up(make_video: MakeVideo, tmp_path: Path) -> None:
    report = CODEC.compress(make_video(frames=40), tmp_path / "a.rdc")
    size = (tmp_path / "a.rdc").stat().st_size
    assert report.bytes == size == report.video_bytes
    parts = report.keyframe_bytes + report.latent_bytes + report.container_bytes + report.audio_bytes
    assert parts == size and report.container_bytes > 0
    assert report.duration == Fraction(40, 16)
    assert report.kbits_per_second == pytest.approx(size * 8 / 2500)
    assert report.bpp == pytest.approx(size * 8 / (64 * 48 * 40))
    assert report.bpp_without_keyframe == pytest.approx((size - report.keyframe_bytes) * 8 / (64 * 48 * 40))
    assert report.elapsed_s > 0 and report.frames_per_second > 0


def test_progress_counts_frames(make_video: MakeVideo, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []

    def note(done: int, total: int | None) -> None:
        seen.append((done, total))

    CODEC.compress(make_video(frames=40), tmp_path / "a.rdc", keyframe_codec="jpeg", progress=note)
    assert seen == [(16, 40), (32, 40), (40, 40)]
    seen.clear()
    CODEC.decompress(tmp_path / "a.rdc", tmp_path / "a.mkv", progress=note)
    assert seen == [(16, 40), (32, 40), (40, 40)]


# ------------------------------------------------------------------ times


@pytest.mark.parametrize(
    ("name", "pts", "time_base", "constant"),
    [
        ("a.mp4", range(40), Fraction(1, 16), True),
        ("a.mp4", [1001 * n for n in range(40)], Fraction(1, 30000), True),
        ("a.mp4", range(7, 47), Fraction(1, 16), True),
        ("a.mkv", range(40), Fraction(1, 16), True),  # rounded to 0, 63, 125, 188 ms
        ("a.mp4", [40 * n + (n * 7919) % 30 for n in range(40)], Fraction(1, 1000), False),
        ("a.mp4", [n if n < 20 else 3 * n for n in range(40)], Fraction(1, 25), False),  # from the second clip on
    ],
)
def test_times_are_exact(
    make_video: MakeVideo, tmp_path: Path, name: str, pts: list[int], time_base: Fraction, constant: bool
) -> None:
    source = make_video(name, frames=40, pts=pts, time_base=time_base)
    with open_video(source) as reader:
        before = [frame.pts * reader.info.time_base for frame in reader]
    assert np.allclose([float(when) for when in before], [float(n * time_base) for n in pts], atol=1e-3)
    CODEC.compress(source, tmp_path / "a.rdc", keyframe_codec="jpeg")
    CODEC.decompress(tmp_path / "a.rdc", tmp_path / "b.mp4")
    with open_video(tmp_path / "b.mp4") as reader:
        assert [frame.pts * reader.info.time_base for frame in reader] == [when - before[0] for when in before]
    with CODEC.open_file(tmp_path / "a.rdc") as video:
        stored = [video.record(index).timestamps for index in range(3)]
    assert (stored == [None] * 3) == constant


@pytest.mark.parametrize(
    ("rate", "exact"), [(30, 30), (Fraction(24000, 1001), Fraction(24000, 1001)), (29.97, Fraction(30000, 1001))]
)
def test_rate_of_frames(rate: object, exact: object) -> None:
    with CODEC.open_file(io.BytesIO(compressed(4, rate=rate))) as video:
        assert video.rate == exact
        assert video.times(video.record(0)) == [0, 1, 2, 3]


def test_frames_need_a_rate() -> None:
    with pytest.raises(InputError, match="give rate="):
        CODEC.compress(moving_frames(3, 32, 32), io.BytesIO())
    for rate in (0, -3, "fast", float("nan")):
        with pytest.raises(InputError, match="frames per second above 0"):
            CODEC.compress(moving_frames(3, 32, 32), io.BytesIO(), rate=rate)


# ------------------------------------------------------------------ sound


def with_sound(path: Path, *, seconds: int = 2) -> Path:
    frames = moving_video(16 * seconds, 48, 64)
    tone = (8000 * np.sin(np.arange(48000 * seconds) / 20)).astype(np.int16)
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libx264", rate=16)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("aac", rate=48000, layout="mono")
        for rgb in frames:
            container.mux(picture.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(picture.encode(None))
        for start in range(0, len(tone), 1024):
            piece = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], format="s16", layout="mono")
            piece.sample_rate, piece.pts = 48000, start
            container.mux(sound.encode(piece))
        container.mux(sound.encode(None))
    return path


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def test_sound_is_carried_unchanged(tmp_path: Path) -> None:
    source = with_sound(tmp_path / "in.mp4")
    report = CODEC.compress(source, tmp_path / "a.rdc")
    assert report.audio_codec == "aac" and report.audio_bytes > 1000
    assert report.video_bytes == report.bytes - report.audio_bytes
    CODEC.decompress(tmp_path / "a.rdc", tmp_path / "out.mp4")
    assert packets(tmp_path / "out.mp4") == packets(source)
    CODEC.decompress(tmp_path / "a.rdc", tmp_path / "part.mp4", start=3, frames=5)
    with open_video(tmp_path / "part.mp4") as reader:
        assert not reader.info.has_audio
    silent = CODEC.compress(source, tmp_path / "b.rdc", audio=False)
    assert silent.audio_bytes == 0 and silent.bytes < report.bytes


def test_damaged_sound_costs_the_sound_only(tmp_path: Path) -> None:
    CODEC.compress(with_sound(tmp_path / "in.mp4"), tmp_path / "a.rdc")
    data = (tmp_path / "a.rdc").read_bytes()
    (audio,) = RdcReader(io.BytesIO(data)).audio()
    place = data.index(audio) + 500
    (tmp_path / "a.rdc").write_bytes(data[:place] + b"!!!!" + data[place + 4 :])
    with pytest.raises(FormatError, match="damaged"):
        CODEC.decompress(tmp_path / "a.rdc", tmp_path / "out.mp4")
    report = CODEC.decompress(tmp_path / "a.rdc", tmp_path / "out.mp4", on_error="conceal")
    assert report.frames == 32 and report.problems and not report.concealed_clips


# ------------------------------------------------------------------ file objects and parts


class Pipe(io.RawIOBase):
    """Can be read or written once, from front to back."""

    def __init__(self, data: bytes = b"") -> None:
        self._source = io.BytesIO(data)
        self.written = bytearray()

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def readinto(self, buffer: bytearray) -> int:
        return self._source.readinto(buffer)

    def write(self, data: bytes) -> int:
        self.written += data
        return len(data)


def test_pipes(tmp_path: Path) -> None:
    target = Pipe()
    CODEC.compress(moving_frames(20, 32, 32), target, keyframe_codec="png", rate=16)
    report = CODEC.decompress(Pipe(bytes(target.written)), tmp_path / "a.mkv", lossless=True)
    assert report.frames == 20


def test_parts(tmp_path: Path) -> None:
    (tmp_path / "a.rdc").write_bytes(compressed(40))
    whole, _ = shown(compressed(40))
    for start, frames in ((0, 5), (5, 20), (16, 16), (39, None), (30, None)):
        report = CODEC.decompress(tmp_path / "a.rdc", tmp_path / "a.mkv", lossless=True, start=start, frames=frames)
        expected = whole[start:] if frames is None else whole[start : start + frames]
        assert report.frames == len(expected)
        assert np.array_equal(read_clip(tmp_path / "a.mkv"), expected)
    with open_video(tmp_path / "a.mkv") as reader:
        assert next(iter(reader)).pts == 0
    for bad in ({"start": 40}, {"start": -1}, {"frames": 0}, {"start": 30, "frames": 11}):
        with pytest.raises(InputError, match="the video has"):
            CODEC.decompress(tmp_path / "a.rdc", tmp_path / "b.mkv", **bad)
    for bad in ({"start": 1.5}, {"start": True}, {"start": "1"}, {"frames": 2.0}, {"frames": False}):
        with pytest.raises(InputError, match="was asked for; allowed: a whole number"):
            CODEC.decompress(tmp_path / "a.rdc", tmp_path / "b.mkv", **bad)
    with pytest.raises(InputError, match="clip 3 was asked for; the file has clips 0 to 2"):
        CODEC.decode_clip(tmp_path / "a.rdc", 3)


# ------------------------------------------------------------------ damage


def test_damaged_latent_shows_its_own_key_frame(tmp_path: Path) -> None:
    data = compressed()
    bad = damaged(data, clip=1, part="latent")
    with pytest.raises(FormatError, match="conceal"):
        shown(bad)
    good, _ = shown(data)
    found, damage = shown(bad, conceal=True)
    assert damage.clips == [1] and "its own key frame is shown" in damage.problems[-1]
    assert np.array_equal(found[:16], good[:16]) and np.array_equal(found[32:], good[32:])
    assert np.array_equal(found[16:32], np.repeat(good[23:24], 16, 0))
    (tmp_path / "a.rdc").write_bytes(bad)
    report = CODEC.decompress(tmp_path / "a.rdc", tmp_path / "a.mkv", on_error="conceal")
    assert report.frames == 40 and report.concealed_clips == (1,) and report.problems
    with pytest.raises(FormatError, match="clip 1"):
        CODEC.decode_clip(tmp_path / "a.rdc", 1)
    assert len(CODEC.decode_clip(tmp_path / "a.rdc", 2)) == 8


def test_damaged_key_frame_shows_the_nearest() -> None:
    data = compressed()
    good, _ = shown(data)
    found, damage = shown(damaged(data, clip=1, part="keyframe"), conceal=True)
    assert damage.clips == [1] and "the key frame of clip 2 is shown" in damage.problems[-1], "frame 35, 12 behind"
    assert np.array_equal(found[16:32], np.repeat(good[35:36], 16, 0))
    found, _ = shown(damaged(damaged(data, clip=1, part="keyframe"), clip=0, part="keyframe"), conceal=True)
    assert np.array_equal(found[:32], np.repeat(good[35:36], 32, 0))


def test_an_impossible_number_of_clips_is_damage(tmp_path: Path) -> None:
    """An index of a million clips costs nothing and hides nothing."""
    data = compressed(16)
    file = io.BytesIO()
    writer = RdcWriter(file, RdcReader(io.BytesIO(data)).header)
    start = writer.size
    writer.record(Index.KIND, index.pack(clips=1 << 20, frames=1 << 24, end=None))
    last = len(index.pack(clips=1, frames=16, end=None)) + LEAST_RECORD
    bad = data[:-last] + file.getvalue()[start:]
    with pytest.raises(FormatError, match="the index claims 1048576 clips; the file's bytes hold at most"):
        shown(bad)
    found, damage = shown(bad, conceal=True)
    assert np.array_equal(found, shown(data)[0]) and not damage.clips


def test_a_flipped_byte_or_a_cut_leaves_what_came_before() -> None:
    """A file of 4 seconds whose key frames are one group: the clips before the damage decode as ever."""
    data = compressed(64, 96, 128, keyframe_codec="avif", seek_every=4.0, latent_step=0.5)
    good, _ = shown(data)
    for clip in range(4):
        found, damage = shown(damaged(data, clip=clip, part="keyframe"), conceal=True) if clip else (good, None)
        assert np.array_equal(found[: 16 * clip], good[: 16 * clip])
        assert damage is None or damage.clips == list(range(clip, 4))
    found, damage = shown(data[: 2 * len(data) // 3], conceal=True)
    intact = min(damage.clips, default=len(found) // 16)
    assert intact >= 1 and np.array_equal(found[: 16 * intact], good[: 16 * intact])
    reader = RdcReader(io.BytesIO(data))
    group, _ = reader.pictures.group(reader.read_clip(0).references[0])
    inside = group.places[2][0] + 3  # in the third picture
    with CODEC.open_file(io.BytesIO(data[:inside])) as video:
        assert video.clips == 2
        assert np.array_equal(video.decode_clip(1, decoder="mean"), good[16:32])


def test_pictures_of_a_group_are_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    decode = PictureDecoder.decode

    def watched(self: PictureDecoder, place: int) -> np.ndarray:
        asked.append(place)
        return decode(self, place)

    data = compressed(128, 40, 56, keyframe_codec="avif", seek_every=8.0, latent_step=0.5)
    monkeypatch.setattr(PictureDecoder, "decode", watched)
    whole, _ = shown(data)
    assert asked == list(range(8))
    asked.clear()
    with CODEC.open_file(io.BytesIO(data)) as video:
        for index in reversed(range(8)):
            assert np.array_equal(video.decode_clip(index, decoder="mean"), whole[16 * index : 16 * index + 16])
    assert asked == list(range(8)), "backwards, too"


def test_what_no_coder_can_do_is_damage_of_that_clip(tmp_path: Path) -> None:
    """A quantiser step out of range isn't a wrong argument of the reader's."""
    data = compressed(40)
    reader = RdcReader(io.BytesIO(data))
    file = io.BytesIO()
    writer = RdcWriter(file, reader.header)
    for record in reader:
        writer.write_picture(payload_of(data, clip=record.index, part="keyframe"), frame=record.references[0])
        step = 1 << 16 if record.index == 1 else None
        writer.write_clip(frames=record.frames, latent_bytes=record.latent, step=step)
    writer.close()
    (tmp_path / "a.rdc").write_bytes(file.getvalue())
    with pytest.raises(
        FormatError, match="clip 1: its latent record claims a quantiser step of 65536; allowed: 16 to 16384"
    ):
        CODEC.decompress(tmp_path / "a.rdc", tmp_path / "a.mkv")
    report = CODEC.decompress(tmp_path / "a.rdc", tmp_path / "a.mkv", on_error="conceal", lossless=True)
    assert report.concealed_clips == (1,)
    good, _ = shown(data)
    assert np.array_equal(read_clip(tmp_path / "a.mkv")[:16], good[:16])


def test_clips_of_any_length_anywhere(tmp_path: Path) -> None:
    """Shorter clips in the middle of a file, with pictures where they lie: starts, times and parts follow from them."""
    source = moving_video(29, 40, 56)
    file = io.BytesIO()
    header = replace(RdcReader(io.BytesIO(compressed(16))).header, frame_duration=1)
    writer = RdcWriter(file, header)
    start = 0
    for frames, own in ((5, 4), (16, 0), (1, 0), (7, 3)):
        writer.write_picture(encode_keyframe(source[start + own], codec="png"), frame=start + own)
        writer.write_clip(frames=frames, latent_bytes=b"")
        start += frames
    writer.close()
    decoded, damage = shown(file.getvalue())
    assert not damage.problems and len(decoded) == 29
    assert np.array_equal(decoded[[4, 5, 21, 25]], source[[4, 5, 21, 25]])
    (tmp_path / "a.rdc").write_bytes(file.getvalue())
    for first, count in ((0, 6), (4, 2), (5, 16), (20, 9), (21, 1), (28, 1)):
        report = CODEC.decompress(tmp_path / "a.rdc", tmp_path / "a.mkv", lossless=True, start=first, frames=count)
        assert np.array_equal(read_clip(tmp_path / "a.mkv"), decoded[first : first + count])
        assert report.frames == count
    with CODEC.open_file(tmp_path / "a.rdc") as video:
        assert [video.times(video.record(index))[0] for index in range(4)] == [0, 5, 21, 22]


def test_variable_times_that_are_lost_still_increase() -> None:
    data = compressed(16)
    with CODEC.open_file(io.BytesIO(data)) as video:
        times = iter([list(range(100, 116)), list(range(16))])
        video.clips, video.frames = 2, 32
        record = video.record(0)
        video.record = lambda index: record  # type: ignore[method-assign]
        video.times = lambda _: next(times)  # type: ignore[method-assign]
        video.end = lambda _: 117  # type: ignore[method-assign]
        damage = Damage(conceal=True)
        found = [when for clip in decoded_clips(video, decoder="mean", damage=damage) for _, when, _ in clip]
    assert found == list(range(100, 132))


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_damage_is_survived(data: st.DataObject) -> None:
    """Either the frames come, concealed where needed, or one of our own errors."""
    whole = data.draw(st.sampled_from([SMALL, GROUPED]))
    if data.draw(st.booleans()):
        bad = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        changed = bytearray(whole)
        for _ in range(data.draw(st.integers(1, 3))):
            changed[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
        bad = bytes(changed)
    try:
        frames, _ = shown(bad, conceal=True)
    except ReducioError:
        return
    assert frames.shape[1:] == (20, 24, 3)


SMALL = compressed(20, 20, 24, keyframe_codec="jpeg", latent_step=0.5)
GROUPED = compressed(20, 20, 24, keyframe_codec="avif", seek_every=2.0, latent_step=0.5)


# ------------------------------------------------------------------ models


def test_another_model_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.rdc").write_bytes(compressed())
    other = ReducioCodec(TinyModel(), model_id="large", model_hash="ffff")
    with pytest.raises(WeightsError, match=r"a.rdc: the file needs model 'tiny' version 1 \(.*0011.*loaded is 'large'"):
        other.decompress(tmp_path / "a.rdc", tmp_path / "a.mp4")
    with pytest.raises(WeightsError, match="loaded is another version of it"):
        tiny_codec("ffff").decode_clip(tmp_path / "a.rdc", 0)
    assert not (tmp_path / "a.mp4").exists()


def test_another_version_of_the_same_latent_space_reads_the_file_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.rdc").write_bytes(compressed())
    later = ReducioCodec(TinyModel(), model_id="tiny", latent_hash="0011223344556677", version=2)
    with later.open_file(tmp_path / "a.rdc") as video:
        assert "model 'tiny' version 1; it is decoded with 'tiny' version 2" in video.notes[0]
        assert video.decode_clip(0).shape == (16, 40, 56, 3)
    assert "version 2" in caplog.text
    with CODEC.open_file(tmp_path / "a.rdc") as video:
        assert video.notes == ()
    file = io.BytesIO()
    later.compress(moving_frames(3, 32, 32), file, rate=16)
    assert RdcReader(file).header.version == 2


# ------------------------------------------------------------------ refusals leave nothing


def test_a_refused_option_leaves_nothing(make_video: MakeVideo, tmp_path: Path) -> None:
    source = make_video()
    for options in ({"keyframe_quality": 101}, {"keyframe_codec": "png", "keyframe_quality": 50}, {"references": 2}):
        with pytest.raises(InputError):
            CODEC.compress(source, tmp_path / "a.rdc", **options)
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]


def test_paths_are_refused(make_video: MakeVideo, tmp_path: Path) -> None:
    source = make_video()
    before = source.read_bytes()
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "empty").mkdir()
    for src, dst, error in (
        (tmp_path / "none.mp4", tmp_path / "a.rdc", "doesn't exist"),
        (tmp_path / "text.mp4", tmp_path / "a.rdc", "text.mp4"),
        (tmp_path / "empty", tmp_path / "a.rdc", "empty"),
        (source, source, "is the input"),
        (source, tmp_path / "empty", "is a folder"),
        (source, tmp_path / "none" / "a.rdc", "doesn't exist"),
        (source, 5, "allowed: a path or a binary file object"),
        (5, tmp_path / "a.rdc", "allowed: a path, or frames"),
        (iter([]), tmp_path / "a.rdc", "0 frames"),
    ):
        with pytest.raises((InputError, VideoError), match=error):
            CODEC.compress(src, dst, **({} if isinstance(src, Path | int) else {"rate": 16}))
    CODEC.compress(source, tmp_path / "a.rdc")
    for src, dst, error in (
        (source, tmp_path / "b.mp4", "clip.mp4: not an .rdc file"),
        (tmp_path / "a.rdc", tmp_path / "a.rdc", "a.rdc"),
        (tmp_path / "empty", tmp_path / "b.mp4", "is a folder"),
        (tmp_path / "a.rdc", tmp_path / "b.xyz", "b.xyz"),
        (5, tmp_path / "b.mp4", "allowed: a path or a binary"),
    ):
        with pytest.raises(ReducioError, match=error):
            CODEC.decompress(src, dst)
    with pytest.raises(InputError, match="on_error is 'ignore'; allowed: raise, conceal"):
        CODEC.decompress(tmp_path / "a.rdc", tmp_path / "b.mp4", on_error="ignore")
    with pytest.raises(InputError, match="decoder is 'wrap'"):
        CODEC.decompress(tmp_path / "a.rdc", tmp_path / "b.mp4", decoder="wrap")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.rdc", "clip.mp4", "empty", "text.mp4"]
    assert source.read_bytes() == before


def test_frames_of_different_sizes_leave_nothing(tmp_path: Path) -> None:
    frames = itertools.chain(moving_frames(20, 32, 32), moving_frames(1, 32, 40))
    with pytest.raises(InputError, match="the ones before were 32x32"):
        CODEC.compress(frames, tmp_path / "a.rdc", rate=16)
    assert not list(tmp_path.iterdir())


def test_interruption_leaves_the_old_file(make_video: MakeVideo, tmp_path: Path) -> None:
    source = make_video(frames=40)
    (tmp_path / "a.rdc").write_bytes(compressed())
    (tmp_path / "a.mp4").write_text("old")
    names = {p.name for p in tmp_path.iterdir()}

    def stop(done: int, _total: int | None) -> None:
        if done > 16:
            raise KeyboardInterrupt

    before = (tmp_path / "a.rdc").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        CODEC.compress(source, tmp_path / "a.rdc", progress=stop)
    with pytest.raises(KeyboardInterrupt):
        CODEC.decompress(tmp_path / "a.rdc", tmp_path / "a.mp4", progress=stop)
    assert (tmp_path / "a.rdc").read_bytes() == before and (tmp_path / "a.mp4").read_text() == "old"
    assert {p.name for p in tmp_path.iterdir()} == names


def test_full_disk_is_one_clear_error() -> None:
    class Full(io.RawIOBase):
        def write(self, data: bytes) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(ReducioError, match="no space left"):
        CODEC.compress(moving_frames(3, 32, 32), Full(), rate=16)


# ------------------------------------------------------------------ memory

_GROWTH = """
import io, json, sys, tempfile, torch
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from reducio_codec import ReducioCodec
from reducio_codec.measure.memory import PeakMemory
from tests.helpers import TinyModel, moving_frames
torch.set_num_threads(1)
codec, peaks = ReducioCodec(TinyModel()), {}
with tempfile.TemporaryDirectory() as folder:
    file, video = Path(folder) / "a.rdc", Path(folder) / "a.mkv"
    for frames in (96, 192, 1536):
        peak = PeakMemory(torch.device("cpu"))
        codec.compress(moving_frames(frames, 96, 96), file, keyframe_codec="jpeg", rate=16)
        peaks[f"compress {frames}"] = peak.bytes()
        peak = PeakMemory(torch.device("cpu"))
        codec.decompress(file, video)
        peaks[f"decompress {frames}"] = peak.bytes()
print(json.dumps(peaks))
"""


def test_memory_does_not_grow_with_length() -> None:
    """All frames of the long one are 42 MB, as floats 170 MB."""
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", _GROWTH, str(root)], capture_output=True, text=True, check=True)
    peaks = json.loads(done.stdout)
    for work in ("compress", "decompress"):
        assert peaks[f"{work} 1536"] < peaks[f"{work} 192"] + 20_000_000, peaks


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
