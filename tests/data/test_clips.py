"""A folder as a dataset: the same pixels as its files, in any process, in any order; and what it refuses."""

from __future__ import annotations

import io
import logging
import pickle
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from reducio_codec.codec import ReducioCodec
from reducio_codec.data import ClipPlace, RdcDataset, SizeBatches
from reducio_codec.errors import FormatError, FrameIndexError, InputError, ReducioError, VideoError, WeightsError
from tests.helpers import moving_video
from tests.test_files import damaged

Coded = dict[tuple[int, int, int], bytes]


def whole(codec: ReducioCodec, data: bytes, *, decoder: str | None = None) -> list[np.ndarray]:
    with codec.open_file(io.BytesIO(data)) as video:
        return [video.decode_clip(index, decoder=decoder) for index in range(video.clips)]


# ------------------------------------------------------------------ what is in it


def test_clips_are_those_of_the_files_in_order(folder: Path, codec: ReducioCodec, coded: Coded) -> None:
    dataset = RdcDataset(folder)
    wanted = [clip for shape in ((37, 32, 48), (16, 32, 48), (5, 32, 48)) for clip in whole(codec, coded[shape])]
    assert len(dataset) == len(wanted) == 5
    assert [file.path.name for file in dataset.files] == ["a.rdc", "b.RDC", "c.rdc"]
    for index, clip in enumerate(wanted):
        found = dataset[index]
        assert found.dtype == torch.uint8 and found.shape == clip.shape
        np.testing.assert_array_equal(found.numpy(), clip)
    np.testing.assert_array_equal(dataset[-1].numpy(), wanted[-1])
    assert [len(clip) for clip in dataset] == [16, 16, 5, 16, 5]
    assert dataset.clip(2) == ClipPlace(path=folder / "a.rdc", clip=2, start=32, frames=5)
    assert dataset.clip(-1) == ClipPlace(path=folder / "more/deep/c.rdc", clip=0, start=0, frames=5)


def test_a_decoder_may_be_named(folder: Path, codec: ReducioCodec, coded: Coded) -> None:
    for decoder in codec.decoders:
        clip = whole(codec, coded[37, 32, 48], decoder=decoder)[1]
        np.testing.assert_array_equal(RdcDataset(folder, decoder=decoder)[1].numpy(), clip)


def test_latents_decode_to_the_frames(folder: Path, codec: ReducioCodec) -> None:
    """A batch goes into ``decode`` as it is. The file's pictures and quantised latents are what a clip is decoded from."""
    frames, dataset = RdcDataset(folder), RdcDataset(folder, what="latents")
    latent, keyframe = torch.utils.data.default_collate([dataset[index] for index in range(len(dataset))])
    channels, length = codec.model.config.latent_channels, 16 // codec.model.config.temporal_compression_ratio
    assert latent.shape == (5, channels, length, 1, 2) and keyframe.shape == (5, 3, 1, 32, 48)
    assert latent.dtype == keyframe.dtype == torch.float32 and keyframe.min() >= -1 and keyframe.max() <= 1
    for index in range(len(dataset)):
        count = dataset.clip(index).frames
        one = codec.decode(latent[index : index + 1], keyframe[index : index + 1], num_frames=count, output="uint8")
        np.testing.assert_array_equal(one[0].numpy(), frames[index].numpy())
    together = codec.decode(latent, keyframe, output="uint8")[0]
    assert (together.int() - frames[0].int()).abs().max() <= 1


def test_latents_are_of_clips_with_one_key_frame(
    folder: Path, codec: ReducioCodec, caplog: pytest.LogCaptureFixture
) -> None:
    video = moving_video(32, 32, 48)
    codec.compress(iter(video), folder / "four.rdc", rate=16, keyframes=4)
    assert len(RdcDataset(folder)) == 7 and not caplog.messages
    dataset = RdcDataset(folder, what="latents")
    assert len(dataset) == 5 and [message[:24] for message in caplog.messages] == ["left out 2 of 7 clips, w"]
    assert all(dataset.clip(index).path.name != "four.rdc" for index in range(5))
    alone = folder / "alone"
    alone.mkdir()
    (folder / "four.rdc").rename(alone / "four.rdc")
    with pytest.raises(InputError, match=r"exactly one key frame.*keyframes=1"):
        RdcDataset(alone, what="latents")
    codec.compress(iter(video), alone / "four.rdc", rate=16, keyframes=1, keyframe_index=2)
    with pytest.raises(InputError, match=r"four\.rdc: clip 1 has key frames at its frames \[2\]; .* with one, at 7"):
        RdcDataset(alone, what="latents", on_error="skip")[1]


def test_short_clips_can_be_left_out(folder: Path) -> None:
    dataset = RdcDataset(folder, drop_short=True)
    assert len(dataset) == 3 and {len(dataset[index]) for index in range(3)} == {16}
    assert next(iter(DataLoader(dataset, batch_size=3))).shape == (3, 16, 32, 48, 3)


def test_a_file_of_it_by_number_and_time(folder: Path, codec: ReducioCodec, coded: Coded) -> None:
    dataset = RdcDataset(folder)
    frames = np.concatenate(whole(codec, coded[37, 32, 48]))
    with dataset.open_file(0) as video:
        for _ in range(2 * len(dataset)):  # reading other files doesn't close it
            dataset[-1]
        np.testing.assert_array_equal(video.get_frames_at([36, 2]).data.numpy(), frames[[36, 2]])
        np.testing.assert_array_equal(video.get_frames_played_at([1.5]).data.numpy(), frames[[24]])
    for wrong in (3, -1):
        with pytest.raises(FrameIndexError, match="files 0 to 2"):
            dataset.open_file(wrong)


# ------------------------------------------------------------------ in a DataLoader


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_read_what_this_process_reads(start: str, folder: Path, coded: Coded) -> None:
    """Also those that are forked from a process that has the file open, whose place for reading they'd share."""
    (folder / "long.rdc").write_bytes(coded[37, 32, 48])
    (folder / "wide.rdc").write_bytes(coded[33, 64, 32])
    dataset = RdcDataset(folder, what="latents")
    alone = [dataset[index] for index in range(len(dataset))]
    loader: DataLoader[Any] = DataLoader(
        dataset, batch_size=2, collate_fn=list, num_workers=2, multiprocessing_context=start, persistent_workers=True
    )
    for _ in range(2):
        found = [item for batch in loader for item in batch]
        assert len(found) == len(alone) == 11
        for (latent, keyframe), (same, picture) in zip(found, alone, strict=True):
            assert torch.equal(latent, same) and torch.equal(keyframe, picture)


def test_batches_of_one_size_come_from_workers(folder: Path, coded: Coded) -> None:
    (folder / "wide.rdc").write_bytes(coded[33, 64, 32])
    dataset = RdcDataset(folder, drop_short=True)
    batches = SizeBatches(dataset, batch_size=2, generator=torch.Generator().manual_seed(3))
    loader = DataLoader(dataset, batch_sampler=batches, num_workers=2, multiprocessing_context="fork")
    found = list(loader)
    assert sorted(batch.shape for batch in found) == [(1, 16, 32, 48, 3), (2, 16, 32, 48, 3), (2, 16, 64, 32, 3)]
    known = {dataset[index].numpy().tobytes() for index in range(len(dataset))}
    assert {clip.numpy().tobytes() for batch in found for clip in batch} == known


def test_shuffling_is_the_samplers(folder: Path) -> None:
    dataset = RdcDataset(folder, what="latents")

    def order(seed: int) -> list[float]:
        generator = torch.Generator().manual_seed(seed)
        loader = DataLoader(dataset, shuffle=True, generator=generator)
        return [float(keyframe.sum()) for _ in range(2) for _, keyframe in loader]

    assert order(1) == order(1) != order(2)
    assert sorted(order(1)[:5]) == sorted(order(1)[5:]) and order(1)[:5] != order(1)[5:]


def test_a_pickled_dataset_reads_the_same(folder: Path) -> None:
    dataset = RdcDataset(folder)
    first = dataset[0]
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again[0], first) and len(again) == len(dataset)
    dataset.close()
    assert torch.equal(dataset[0], first)


def test_few_files_stay_open(folder: Path, coded: Coded) -> None:
    for number in range(12):
        (folder / f"{number}.rdc").write_bytes(coded[5, 32, 48])
    before = len(list(Path("/proc/self/fd").iterdir()))
    dataset = RdcDataset(folder, what="latents")
    for index in range(len(dataset)):
        dataset[index]
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 4
    del dataset
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_batches_of_one_size(folder: Path, coded: Coded) -> None:
    (folder / "wide.rdc").write_bytes(coded[33, 64, 32])
    dataset = RdcDataset(folder)
    batches = SizeBatches(dataset, batch_size=2, generator=torch.Generator().manual_seed(0))
    first, second = list(batches), list(batches)
    assert len(batches) == len(first) and first != second
    assert first == list(SizeBatches(dataset, batch_size=2, generator=torch.Generator().manual_seed(0)))
    for epoch in (first, second):
        assert sorted(index for batch in epoch for index in batch) == list(range(8))
        assert all(len({dataset.shape(index) for index in batch}) == 1 for batch in epoch)
    full = SizeBatches(dataset, batch_size=2, drop_last=True)
    assert [len(batch) for batch in full] == len(full) * [2] and len(full) == 3
    assert list(SizeBatches(dataset, batch_size=9, shuffle=False)) == [[0, 1, 3], [2, 4], [5, 6], [7]]
    latents = RdcDataset(folder, what="latents")
    assert len(SizeBatches(latents, batch_size=9)) == 2  # a short clip's latent is like any other


def test_a_stream_gives_every_clip_once(folder: Path, coded: Coded) -> None:
    for number in range(12):
        (folder / f"{number}.rdc").write_bytes(coded[37, 32, 48])
    dataset = RdcDataset(folder, what="latents")
    stream = dataset.stream(seed=5)
    order = dataset.shuffled(np.random.default_rng(0))
    assert sorted(order) == list(range(len(dataset)))
    files = dataset._places[order, 0].tolist()
    places = {number: [place for place, other in enumerate(files) if other == number] for number in set(files)}
    assert max(where[-1] - where[0] for where in places.values()) < 4 * 3  # four files at a time,
    assert sum(first != second for first, second in pairwise(files)) > 20  # mixed
    found = [float(item[0].abs().sum()) for item in stream]
    assert sorted(found) == sorted(float(dataset[index][0].abs().sum()) for index in range(len(dataset)))


# ------------------------------------------------------------------ what is wrong with it


def test_a_damaged_clip_is_an_error_that_names_it(folder: Path, coded: Coded) -> None:
    (folder / "a.rdc").write_bytes(damaged(coded[37, 32, 48], clip=1, part="latent"))
    for what in ("frames", "latents"):
        dataset = RdcDataset(folder, what=what)  # type: ignore[arg-type]
        assert len(dataset) == 5
        dataset[0], dataset[2]
        with pytest.raises(FormatError, match=r"a\.rdc: clip 1: .*damaged"):
            dataset[1]


def test_or_is_skipped_for_the_next(folder: Path, coded: Coded, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "a.rdc").write_bytes(damaged(coded[37, 32, 48], clip=1, part="latent"))
    (folder / "cut.rdc").write_bytes(coded[37, 32, 48][:40])
    (folder / "empty.rdc").write_bytes(b"")
    (folder / "text.rdc").write_text("no video")
    with caplog.at_level(logging.WARNING):
        dataset = RdcDataset(folder, on_error="skip")
    assert len(dataset.files) == 3 and len(caplog.messages) == 3
    for name, message in zip(("cut", "empty", "text"), caplog.messages, strict=True):
        assert f"{name}.rdc: " in message
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert torch.equal(dataset[1], dataset[2])
    assert len(caplog.messages) == 1 and "a.rdc: clip 1" in caplog.messages[0]
    loader = DataLoader(dataset, num_workers=2, multiprocessing_context="fork")
    assert sum(1 for _ in loader) == 5


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "cut in the header": lambda data: data[:30],
    "empty": lambda data: b"",
    "other words": lambda data: b"no video",
    "another version": lambda data: data[:8] + b"\x63" + data[9:],
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_file_is_named_at_once(how: str, folder: Path, coded: Coded) -> None:
    (folder / "bad.rdc").write_bytes(BROKEN[how](coded[16, 32, 48]))
    for _ in range(2):  # remembered, too
        with pytest.raises(FormatError, match=r"bad\.rdc: .*on_error='skip'"):
            RdcDataset(folder)
    assert len(RdcDataset(folder, on_error="skip")) == 5
    (folder / "bad.rdc").write_bytes(coded[16, 32, 48])
    assert len(RdcDataset(folder)) == 6


def test_a_file_that_was_cut_gives_what_is_left(folder: Path, coded: Coded) -> None:
    (folder / "a.rdc").write_bytes(coded[37, 32, 48][:-60])
    dataset = RdcDataset(folder, on_error="skip")
    assert torch.equal(dataset[0], RdcDataset(folder)[0])


def test_a_file_without_frames(folder: Path, codec: ReducioCodec) -> None:
    from tests.fuzz.records import INDEX, Pieces

    pieces = Pieces.of((folder / "a.rdc").read_bytes())
    (folder / "none.rdc").write_bytes(Pieces(pieces.header, ((INDEX, bytes([0, 0])),)).join())
    with pytest.raises(FormatError, match=r"none\.rdc: the file holds no clip"):
        RdcDataset(folder)
    assert len(RdcDataset(folder, on_error="skip")) == 5


def test_files_that_change_or_go_meanwhile(folder: Path, coded: Coded) -> None:
    dataset = RdcDataset(folder)
    skipping = RdcDataset(folder, on_error="skip")
    (folder / "a.rdc").write_bytes(coded[16, 32, 48])
    (folder / "more" / "b.RDC").unlink()
    with pytest.raises(
        FormatError, match=r"a\.rdc has 1 clips of 16 frames; when the dataset was opened it had 3 of 37"
    ):
        dataset[0]
    with pytest.raises(VideoError, match=r"b\.RDC doesn't exist"):
        dataset[3]
    assert torch.equal(skipping[0], dataset[4])
    (folder / "more" / "deep" / "c.rdc").unlink()
    skipping.close()
    with pytest.raises(FormatError, match="none of the dataset's clips"):
        skipping[0]


def test_a_dataset_has_one_latent_space(folder: Path, coded: Coded) -> None:
    from tests.fuzz.records import Pieces

    pieces = Pieces.of(coded[16, 32, 48])
    (folder / "other.rdc").write_bytes(pieces.say(latent_space="0011223344556677", model="other").join())
    for options in ({}, {"model": "reducio-test"}, {"on_error": "skip"}):
        with pytest.raises(InputError, match=r"a\.rdc .*reducio-test.*other\.rdc with 'other'"):
            RdcDataset(folder, **options)
    for name in ("a.rdc", "more/b.RDC", "more/deep/c.rdc"):
        (folder / name).unlink()
    with pytest.raises(WeightsError, match=r"'other'.*isn't bundled"):
        RdcDataset(folder)
    for on_error in ("raise", "skip"):  # no damage: no other clip would do
        with pytest.raises(WeightsError, match=r"other\.rdc: the file needs model 'other'"):
            RdcDataset(folder, model="reducio-test", on_error=on_error)[0]  # type: ignore[arg-type]


WRONG: dict[str, tuple[Callable[[Path], Any], type[ReducioError], str]] = {
    "no folder": (lambda folder: RdcDataset(folder / "none"), InputError, "not there"),
    "a file": (lambda folder: RdcDataset(folder / "a.rdc"), InputError, "a file; allowed: a folder"),
    "no path": (lambda folder: RdcDataset(5), InputError, "a path is needed"),  # type: ignore[arg-type]
    "what": (lambda folder: RdcDataset(folder, what="pixels"), InputError, "frames, latents"),  # type: ignore[arg-type]
    "on_error": (lambda folder: RdcDataset(folder, on_error="conceal"), InputError, "raise, skip"),  # type: ignore[arg-type]
    "no effect": (lambda folder: RdcDataset(folder, what="latents", decoder="add"), InputError, "no effect"),
    "no model": (lambda folder: RdcDataset(folder, model="nosuch"), WeightsError, "nosuch"),
    "no decoder": (lambda folder: RdcDataset(folder, decoder="nosuch")[0], ReducioError, "nosuch"),
    "beyond the end": (lambda folder: RdcDataset(folder)[5], FrameIndexError, "clips 0 to 4"),
    "half a clip": (lambda folder: RdcDataset(folder)[0.5], InputError, "0.5"),  # type: ignore[index]
    "a slice": (lambda folder: RdcDataset(folder)[0:2], InputError, "slice"),  # type: ignore[index]
    "a batch of none": (lambda folder: SizeBatches(RdcDataset(folder), batch_size=0), InputError, "batch_size"),
    "an idle generator": (
        lambda folder: SizeBatches(RdcDataset(folder), batch_size=1, shuffle=False, generator=torch.Generator()),
        InputError,
        "no effect",
    ),
    "a part": (lambda folder: RdcDataset(folder).stream(part=(2, 2)), InputError, "part"),
    "a seed": (lambda folder: RdcDataset(folder).stream(seed=-1), InputError, "seed"),
    "an epoch": (lambda folder: RdcDataset(folder).stream().set_epoch(-1), InputError, "epoch"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_use_is_an_error_of_ours(what: str, folder: Path) -> None:
    call, kind, message = WRONG[what]
    with pytest.raises(kind, match=message):
        call(folder)


def test_folders_without_files(tmp_path: Path, folder: Path, coded: Coded) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.mp4").write_bytes(b"")
    with pytest.raises(InputError, match=r"no \.rdc files"):
        RdcDataset(tmp_path / "none")
    (tmp_path / "none" / "a.rdc").write_bytes(coded[5, 32, 48])
    with pytest.raises(InputError, match=r"no clip in .* has 16 frames"):
        RdcDataset(tmp_path / "none", drop_short=True)
