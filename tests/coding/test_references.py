"""Two references in files and streams: the neighbours' key frames, the cuts that keep them apart, damage, random access."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from reducio_codec import ReducioCodec
from reducio_codec.cli import main
from reducio_codec.clips.scenes import CutFinder
from reducio_codec.coding.decompress import Damage, decoded_clips
from reducio_codec.config import LiteConfig, TilingConfig
from reducio_codec.errors import FormatError, InputError, ReducioError
from reducio_codec.io.video import read_clip
from reducio_codec.measure.roundtrip import roundtrip
from reducio_codec.models.lite.model import ReducioLite
from reducio_codec.rdc.layers.cuts import Cut, Cuts
from reducio_codec.rdc.layers.latent import Latents
from reducio_codec.rdc.reader import RdcReader
from reducio_codec.rdc.writer import RdcWriter
from reducio_codec.weights.card import ModelCard
from reducio_codec.weights.io import save_model
from tests.helpers import moving_video
from tests.models.test_lite import shaken
from tests.test_files import payload_of

MakeVideo = Callable[..., Path]
WIDE = LiteConfig(channels_4=4, channels_8=4, channels_16=4, channels_32=8, decoders=("attention", "linear"))
TILES = TilingConfig(tile_size=64, tile_overlap=32)


def save(folder: Path, config: LiteConfig, state: dict[str, torch.Tensor] | None = None) -> Path:
    torch.manual_seed(0)
    model = ReducioLite(config)
    if state is None:
        shaken(model)
    else:
        model.load_state_dict({key: value for key, value in state.items() if key in model.state_dict()})
    return save_model(model, folder, card=ModelCard(name="wide", licence="MIT", summary="For tests.").text())


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model with the decoder of two references, and the same without it."""
    root = tmp_path_factory.mktemp("models")
    wide = save(root / "wide", WIDE)
    state = dict(ReducioCodec.from_pretrained(wide).model.state_dict())  # type: ignore[attr-defined]
    return wide, save(root / "plain", LiteConfig(**{**WIDE.to_json(), "decoders": ("linear",)}), state)


@pytest.fixture(scope="module")
def codec(folders: tuple[Path, Path]) -> ReducioCodec:
    return ReducioCodec.from_pretrained(folders[0], tiling=TILES)


@pytest.fixture(scope="module")
def plain(folders: tuple[Path, Path]) -> ReducioCodec:
    return ReducioCodec.from_pretrained(folders[1], tiling=TILES)


def with_cut(frames: int, cut: int, height: int = 40, width: int = 72) -> np.ndarray[Any, Any]:
    video = moving_video(frames, height, width)
    video[cut:] = 255 - moving_video(frames, height, width, seed=1)[cut:]
    return video


def compressed(codec: ReducioCodec, video: np.ndarray[Any, Any], **options: Any) -> bytes:
    file = io.BytesIO()
    codec.compress(list(video), file, **{"keyframe_codec": "png", "rate": 16, **options})
    return file.getvalue()


def clips(codec: ReducioCodec, data: bytes, **options: Any) -> list[np.ndarray[Any, Any]]:
    with codec.open_file(io.BytesIO(data)) as video:
        return [video.decode_clip(index, **options) for index in range(video.clips)]


def shown(codec: ReducioCodec, data: bytes) -> np.ndarray[Any, Any]:
    with codec.open_file(io.BytesIO(data)) as video:
        return np.concatenate([video.shown_clip(index) for index in range(video.clips)])


VIDEO = moving_video(56, 40, 72)


@pytest.mark.parametrize("frames", [1, 16, 17, 37, 48])
@pytest.mark.parametrize("keyframe", ["middle", "best"])
def test_file_stream_and_random_access_agree(codec: ReducioCodec, frames: int, keyframe: str, tmp_path: Path) -> None:
    data = compressed(codec, VIDEO[:frames], keyframe=keyframe)
    (tmp_path / "a.rdc").write_bytes(data)
    report = codec.decompress(tmp_path / "a.rdc", tmp_path / "a.mkv", lossless=True)
    assert report.decoder == "attention"
    whole = read_clip(tmp_path / "a.mkv")
    count = RdcReader(io.BytesIO(data)).clips
    assert np.array_equal(whole, shown(codec, data))
    with codec.open_file(io.BytesIO(data)) as video:
        assert np.array_equal(whole[::-1], video[::-1])
        encoded = [video.clip(video.record(index)) for index in range(count)]
    alone = {index: codec.decode_clip(io.BytesIO(data), index) for index in reversed(range(count))}
    both = np.concatenate([alone[index] for index in range(count)])
    assert np.array_equal(both, np.stack(list(codec.decode_stream(encoded))))
    single = np.concatenate(clips(codec, data, references=1))
    assert np.array_equal(single, np.concatenate(clips(codec, data, decoder="attention", references=1)))
    assert np.array_equal(single, np.stack(list(codec.decode_stream(encoded, references=1))))
    changed = [not np.array_equal(a, b) for a, b in zip(both, single, strict=True)]
    if keyframe == "middle":
        last = 16 * (count - 1) + (frames - 16 * (count - 1) - 1) // 2  # the last key frame
        expected = [7 < i < last and i % 16 != 7 for i in range(frames)]
        assert changed == expected
    else:
        assert any(changed) == (count > 1)


def test_a_stream_waits_for_one_clip_more(codec: ReducioCodec) -> None:
    for references, needed in ((1, 1), (2, 2), (None, 2)):
        taken: list[int] = []

        def source(taken: list[int] = taken) -> Any:
            for clip in codec.encode_stream(VIDEO):
                taken.append(clip.index)
                yield clip

        next(codec.decode_stream(source(), references=references))
        assert len(taken) == needed


def test_missing_clips_of_a_stream_are_no_neighbours(codec: ReducioCodec) -> None:
    encoded = list(codec.encode_stream(VIDEO[:48]))
    found = np.stack(list(codec.decode_stream([encoded[2], encoded[0]])))
    assert np.array_equal(found, np.stack(list(codec.decode_stream([encoded[2], encoded[0]], references=1))))


def test_without_the_decoder_nothing_changes(codec: ReducioCodec, plain: ReducioCodec) -> None:
    video = with_cut(48, 16)
    data = compressed(plain, video)
    both = compressed(codec, video)
    single = compressed(codec, video, references=1)
    name = RdcReader(io.BytesIO(data)).header
    assert (name.references, RdcReader(io.BytesIO(both)).header.references) == (1, 2)
    # but for the model's name the same file
    assert single[RdcReader(io.BytesIO(single))._body :] == data[RdcReader(io.BytesIO(data))._body :]
    old = np.concatenate(clips(plain, data))
    assert np.array_equal(np.concatenate(clips(codec, data, decoder="linear")), old)
    assert np.array_equal(np.concatenate(clips(plain, both)), old)
    alone = np.concatenate(clips(codec, data, references=1))
    assert np.array_equal(np.concatenate(clips(codec, data)), alone)  # a file without marks: as when it was written
    assert np.array_equal(np.concatenate(clips(codec, data, decoder="attention")), alone)
    assert not np.array_equal(np.concatenate(clips(codec, data, references=2)), alone)
    for call in (
        lambda: compressed(plain, video, references=2),
        lambda: clips(plain, data, references=2),
        lambda: plain.decode_stream([], references=2),
    ):
        with pytest.raises(InputError, match="references is 2; no decoder of this model"):
            call()


def test_wrong_references_are_refused(codec: ReducioCodec) -> None:
    data = compressed(codec, VIDEO[:17])
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"references": 3}, "references is 3; allowed: 1"),
        ({"references": True}, "references is True; allowed: 1"),
        ({"decoder": "linear", "references": 2}, "references is 2; the decoder 'linear' takes 1"),
    ]
    for options, message in wrong:
        with pytest.raises(InputError, match=message):
            clips(codec, data, **options)
        with pytest.raises(InputError, match=message):
            codec.decode_stream([], **options)


@pytest.mark.parametrize("cut", [1, 7, 8, 12, 16, 20, 24, 55])
def test_a_cut_ends_its_clip_and_no_frame_is_mixed_of_two_scenes(codec: ReducioCodec, cut: int) -> None:
    video = with_cut(56, cut)
    data = compressed(codec, video)
    reader = RdcReader(io.BytesIO(data))
    starts = {record.start: record.index for record in reader}
    assert cut in starts and reader.cuts == {starts[cut]: Cut.BACKWARD | Cut.FORWARD}
    assert max(record.frames for record in reader) <= 16 and reader.frames == 56
    other = video.copy()
    other[cut:] = 255 - other[cut:, ::-1]
    found, changed = (np.concatenate(clips(codec, file)) for file in (data, compressed(codec, other)))
    assert np.array_equal(found[:cut], changed[:cut])
    other = video.copy()
    other[:cut] = video[:cut, ::-1]
    changed = np.concatenate(clips(codec, compressed(codec, other)))
    assert np.array_equal(found[cut:], changed[cut:]) and not np.array_equal(found[:cut], changed[:cut])


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_flash_is_no_cut(codec: ReducioCodec, length: int) -> None:
    video = moving_video(40, 40, 72)
    video[20 : 20 + length] = 255 - video[20 : 20 + length] // 4
    reader = RdcReader(io.BytesIO(compressed(codec, video)))
    assert not reader.cuts and [record.frames for record in reader] == [16, 16, 8]


def test_a_film_with_a_cut_every_second(codec: ReducioCodec) -> None:
    scenes = [moving_video(25, 40, 72, seed=seed) // (1 + seed % 2) + 60 * (seed % 3) for seed in range(5)]
    reader = RdcReader(io.BytesIO(compressed(codec, np.concatenate(scenes), rate=25)))
    assert [record.start for record in reader if record.index in reader.cuts] == [25, 50, 75, 100]


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        (16, {1: Cut.BACKWARD | Cut.FORWARD}),
        (12, {1: Cut.BACKWARD}),  # frames 12 to 15 are the next key frame's
        (20, {1: Cut.FORWARD}),  # frames 16 to 19 are the key frame's before
        (24, {2: Cut.BACKWARD}),
        (8, {1: Cut.BACKWARD}),
        (7, {}),
    ],
)
def test_cuts_of_a_stream(codec: ReducioCodec, cut: int, expected: dict[int, Cut]) -> None:
    """Its clips have 16 frames, come what may."""
    video = with_cut(56, cut)
    encoded = list(codec.encode_stream(video))
    assert {clip.index: clip.cut for clip in encoded if clip.cut} == expected
    found, single = (np.stack(list(codec.decode_stream(encoded, references=n))) for n in (2, 1))
    last = 48 + 3
    allowed = [7 < i < last and i % 16 != 7 for i in range(56)]
    for clip, flags in expected.items():
        for i in range(16):
            if flags & Cut.BACKWARD and i < 7:
                allowed[16 * clip + i] = False
            if flags & Cut.FORWARD and i > 7:
                allowed[16 * (clip - 1) + i] = False
    assert [not np.array_equal(a, b) for a, b in zip(found, single, strict=True)] == allowed


@pytest.mark.parametrize("size", [(1, 1), (11, 15), (12, 16), (48, 64)])
def test_cuts_of_any_size(size: tuple[int, int]) -> None:
    finder = CutFinder()
    assert finder(np.full((16, *size, 3), 20, np.uint8), key=7) == Cut.NONE
    assert finder(np.full((3, *size, 3), 200, np.uint8), key=1) == Cut.BACKWARD | Cut.FORWARD
    assert finder(np.full((1, *size, 3), 200, np.uint8), key=0) == Cut.NONE


def damaged(data: bytes, *, clip: int, part: str) -> bytes:
    payload = payload_of(data, clip=clip, part=part)
    assert data.count(payload) == 1
    place = data.index(payload) + len(payload) // 2
    return data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :]


def concealed(codec: ReducioCodec, data: bytes) -> tuple[np.ndarray[Any, Any], Damage]:
    damage = Damage(conceal=True)
    with codec.open_file(io.BytesIO(data)) as video:
        return np.stack([frame for frame, _, _ in chain.from_iterable(decoded_clips(video, damage=damage))]), damage


def test_a_damaged_key_frame_leaves_its_neighbours_one_reference_less(codec: ReducioCodec, tmp_path: Path) -> None:
    data = compressed(codec, VIDEO)
    bad = damaged(data, clip=1, part="keyframe")
    good, single = np.concatenate(clips(codec, data)), np.concatenate(clips(codec, data, references=1))
    found, damage = concealed(codec, bad)
    assert damage.clips == [1]
    assert [text for text in damage.problems if "clip 0 is decoded without it" in text]
    assert [text for text in damage.problems if "clip 2 is decoded without it" in text]
    assert np.array_equal(found[:16], single[:16])
    assert np.array_equal(found[32:40], single[32:40]) and np.array_equal(found[40:], shown(codec, data)[40:])
    assert not np.array_equal(good[40:48], single[40:48])
    for index in (0, 2):
        with pytest.raises(FormatError, match=rf"clip 1: .* clip {index} uses that key frame, with references=1 not"):
            codec.decode_clip(io.BytesIO(bad), index)
        part = slice(16 * index, 16 * index + 16)
        assert np.array_equal(codec.decode_clip(io.BytesIO(bad), index, references=1), single[part])
    assert np.array_equal(codec.decode_clip(io.BytesIO(bad), 3), good[48:])
    (tmp_path / "a.rdc").write_bytes(bad)
    with pytest.raises(FormatError, match="conceal"):
        codec.decompress(tmp_path / "a.rdc", tmp_path / "a.mkv")
    assert not (tmp_path / "a.mkv").exists()
    report = codec.decompress(tmp_path / "a.rdc", tmp_path / "a.mkv", on_error="conceal")
    assert report.concealed_clips == (1,) and len(report.problems) >= 3


def test_a_damaged_latent_costs_its_own_clip(codec: ReducioCodec) -> None:
    data = compressed(codec, VIDEO, latent_step=1 / 64)
    found, damage = concealed(codec, damaged(data, clip=1, part="latent"))
    good = np.concatenate(clips(codec, data))
    assert damage.clips == [1]
    assert np.array_equal(found[:16], good[:16]) and np.array_equal(found[32:46], good[32:46])
    assert np.array_equal(found[46:], shown(codec, data)[46:])


class Counting(io.BytesIO):
    """Notes where it is read."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.seen: list[tuple[int, int]] = []

    def read(self, size: int | None = -1, /) -> bytes:
        place = self.tell()
        data = super().read(size)
        self.seen.append((place, place + len(data)))
        return data


def test_random_access_reads_only_what_it_needs(codec: ReducioCodec) -> None:
    video = with_cut(80, 48)
    data = compressed(codec, video)
    reader = RdcReader(io.BytesIO(data))
    latents = [reader.layer(Latents).found[index].place for index in range(5)]
    pictures = [reader.pictures.group(record.references[0])[0].places[0] for record in reader]
    for index, beside in ((0, [1]), (1, [0, 2]), (2, [1]), (3, [4]), (4, [3])):
        file = Counting(data)
        with codec.open_file(file) as opened_file:
            file.seen.clear()
            opened_file.decode_clip(index)
        allowed = {latents[index], *(pictures[other] for other in (index, *beside))}
        assert {(first, last - first) for first, last in file.seen} == allowed


def test_cut_records_that_cannot_be(codec: ReducioCodec) -> None:
    file = io.BytesIO()
    with codec.open_file(io.BytesIO(compressed(codec, VIDEO[:17]))) as video:
        header = video.header
    writer = RdcWriter(file, header)
    for payload in (b"\0\1", b"\1", b"\1\0", b"\1\4", b"\1\1\1", b"\1\3", b"\1\1", b"\x05\1"):
        writer.record(Cuts.KIND, payload)
    for _ in range(2):
        writer.write_picture(b"k", frame=16 * writer._clips + 7)
        writer.write_clip(frames=16, latent_bytes=b"l")
    writer.close()
    reader = RdcReader(io.BytesIO(file.getvalue()))
    assert reader.cuts == {1: Cut.BACKWARD | Cut.FORWARD} and reader.clips == 2
    assert sum("says what can't be" in text for text in reader.damage) == 5
    assert sum("second cut record" in text for text in reader.damage) == 1
    with pytest.raises(FormatError, match="references is 3; allowed: 1 or 2"):
        type(header)(**{**header.__dict__, "references": 3})


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_damage_is_concealed_or_refused(codec: ReducioCodec, data: st.DataObject) -> None:
    if not hasattr(test_any_damage_is_concealed_or_refused, "file"):
        whole = compressed(codec, with_cut(36, 16, 20, 24), keyframe_codec="jpeg")
        test_any_damage_is_concealed_or_refused.file = whole  # type: ignore[attr-defined]
    changed = bytearray(test_any_damage_is_concealed_or_refused.file)  # type: ignore[attr-defined]
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    kept = data.draw(st.sampled_from([len(changed), len(changed) // 2, len(changed) - 9]))
    try:
        frames, _ = concealed(codec, bytes(changed[:kept]))
    except ReducioError:
        return
    assert frames.shape[1:] == (20, 24, 3)


def test_roundtrip_uses_them(codec: ReducioCodec, make_video: MakeVideo, tmp_path: Path) -> None:
    source = make_video(frames=36)
    found = roundtrip(codec, source, tmp_path / "two")
    assert found.decoder == "attention"
    assert RdcReader(io.BytesIO(found.outputs[0].read_bytes())).header.references == 2
    found = roundtrip(codec, source, tmp_path / "one", references=1, effort=1)
    assert found.decoder == "attention"
    assert RdcReader(io.BytesIO(found.outputs[0].read_bytes())).header.references == 1


def test_commands(folders: tuple[Path, Path], make_video: MakeVideo, tmp_path: Path) -> None:
    source = make_video(content=with_cut(36, 16, 48, 64))

    def run(*arguments: Any, code: int = 0) -> str:
        done = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert done.exit_code == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    model = ("-m", folders[0], "--precision", "float32")
    run("encode", source, "-o", tmp_path / "a.rdc", *model)
    info = json.loads(run("info", tmp_path / "a.rdc", "--json"))
    assert (info["references"], info["cuts"]) == (2, [1])
    assert "2 references, cuts before 1 of 3 clips" in run("info", tmp_path / "a.rdc")
    shown = {}
    for name, options in {
        "two": (),
        "named": ("--decoder", "attention"),
        "one": ("--references", 1),
        "alone": ("--decoder", "attention", "--references", 1),
        "linear": ("--decoder", "linear"),
    }.items():
        run("decode", tmp_path / "a.rdc", "-o", tmp_path / f"{name}.mkv", "--lossless", *model, *options)
        shown[name] = read_clip(tmp_path / f"{name}.mkv")
    assert np.array_equal(shown["two"], shown["named"]) and np.array_equal(shown["one"], shown["alone"])
    assert len({shown[name].tobytes() for name in ("two", "one", "linear")}) == 3
    run("encode", source, "-o", tmp_path / "b.rdc", *model, "--references", 1)
    assert json.loads(run("info", tmp_path / "b.rdc", "--json"))["references"] == 1
    error = run("encode", source, "-o", tmp_path / "c.rdc", "-m", folders[1], "--references", 2, code=2)
    assert "references is 2; no decoder of this model" in error and not (tmp_path / "c.rdc").exists()
    run("roundtrip", source, "-o", tmp_path / "trip", *model)


def test_effort_sees_the_key_frames_that_the_decoder_will_see(codec: ReducioCodec) -> None:
    """Of 4 clips in groups of 3: all but the one behind the group, which isn't coded yet; none across a cut."""
    video = with_cut(56, 32)
    seen: list[list[tuple[int, torch.Tensor]]] = []
    decode = codec.model.decode

    def watched(*args: Any, **options: Any) -> torch.Tensor:
        seen.append([(item.place, item.picture) for item in args[1] if item.beside])
        return decode(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec.model, "decode", watched)
        data = compressed(codec, video, effort=1, seek_every=3.0, keyframe_codec="avif")
        encoding, seen = seen, []
        patch.setattr(codec.runner, "_decode", watched)
        clips(codec, data)
    count = len(encoding) // 4  # batches of tiles
    assert len(encoding) == len(seen) == 4 * count > 0
    for number, (known, used) in enumerate(zip(encoding, seen, strict=True)):
        if number // count == 2:
            assert not known and [place > 7 for place, _ in used] == [True]
            continue
        assert [place for place, _ in known] == [place for place, _ in used]
        assert all(torch.equal(first, second) for (_, first), (_, second) in zip(known, used, strict=True))
    sides = [[place > 7 for place, _ in seen[number * count]] for number in range(4)]
    assert sides == [[True], [False], [True], [False]]


def test_effort_for_one_reference_sees_no_other(codec: ReducioCodec) -> None:
    places: set[int] = set()
    decode = codec.model.decode

    def watched(*args: Any, **options: Any) -> torch.Tensor:
        places.update(item.place for item in args[1])
        return decode(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec.model, "decode", watched)
        compressed(codec, VIDEO, effort=1, references=1, keyframes=1, keyframe_codec="avif")
    assert places == {7}
