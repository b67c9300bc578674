"""Videos, scenes, plans, stores: what clips a run sees, and which videos it can't use."""

from __future__ import annotations

import csv
import json
import os
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reducio_codec.errors import DiskFullError, InputError, ReducioError
from reducio_codec.train.loading import ClipDataset, collate
from reducio_codec.train.options import DataOptions, KeyframeOptions
from reducio_codec.train.sampling import ClipSampler
from reducio_codec.training.loading import ClipKey, PlannedBatches, load_batches
from reducio_codec.training.manifest import find_videos
from reducio_codec.training.scan import ScanOptions, ScanResult, scan
from reducio_codec.training.store import open_store
from tests.helpers import moving_video
from tests.train.conftest import write_video

OPTIONS = ScanOptions(frame_rate=16.0, stored_side=0, store=True, find_cuts=True)


def scanned(folder: Path, cache: Path, options: ScanOptions = OPTIONS) -> ScanResult:
    return scan(find_videos(folder), cache=cache, options=options)


def sampler(found: ScanResult, *, seed: int = 0, data: DataOptions | None = None) -> ClipSampler:
    return ClipSampler(
        found.videos,
        data=data or DataOptions(),
        keyframe=KeyframeOptions(coded=0.5, dropout=0.2),
        seed=seed,
        keyframe_index=7,
    )


def test_manifests(videos: Path, tmp_path: Path) -> None:
    names = [str(path) for path in sorted(videos.iterdir())]
    with (tmp_path / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "path"], *([number, name] for number, name in enumerate(names))])
    (tmp_path / "list.jsonl").write_text("\n".join(json.dumps({"video": name}) for name in names))
    for source in (videos, tmp_path / "list.csv", tmp_path / "list.jsonl"):
        assert [str(path) for path in find_videos(source)] == names


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("list.csv", "a,b\n1,2\n", "must name a column path, file, video"),
        ("list.csv", "path\n", "lists no videos"),
        ("list.jsonl", "{", "line 1 isn't JSON"),
        ("list.jsonl", "[1]", "must be an object"),
        ("list.jsonl", '{"path": 5}', "line 1: path is 5; it must be a name"),
        ("list.csv", "path\n" + "x" * 200_000, "isn't CSV"),
        ("list.txt", "", "neither a folder nor"),
    ],
)
def test_bad_manifests(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        find_videos(tmp_path / name)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize(
    "name", [b'a, "b" 100%.mp4', b"new\nline.mp4", b"\xff\xfe.mp4", "\u2028\x85\x0c.mp4".encode(), b"cr\r.mp4"]
)
def test_a_manifest_lists_any_name(tmp_path: Path, kind: str, name: bytes) -> None:
    path, list_ = os.fsdecode(name), tmp_path / f"list.{kind}"
    if kind == "csv":
        with list_.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            csv.writer(file).writerows([["path"], [path], ["b.mp4"]])
    else:
        lines = [json.dumps({"path": item}, ensure_ascii=False) for item in (path, "b.mp4")]
        list_.write_text("\n".join(lines), encoding="utf-8", errors="surrogateescape")
    assert find_videos(list_) == [tmp_path / path, tmp_path / "b.mp4"]


def test_folders_without_videos(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no videos"):
        find_videos(tmp_path)
    with pytest.raises(InputError, match="neither a folder nor"):
        find_videos(tmp_path / "missing")


def test_bad_videos_are_named_and_left_out(videos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "good.mkv").symlink_to(videos / "v0.mkv")
    (folder / "text.mp4").write_text("not a video")
    write_video(folder / "short.mkv", moving_video(15, 48, 64))
    found = scanned(folder, tmp_path / "cache")
    assert [video.name for video in found.videos] == ["good.mkv"]
    reasons = {Path(name).name: reason for name, reason in found.skipped}
    assert reasons.keys() == {"short.mkv", "text.mp4"}
    assert "15 frames, a clip has 16" in reasons["short.mkv"]
    (folder / "good.mkv").unlink()
    with pytest.raises(InputError, match="none of 2 videos can be used"):
        scanned(folder, tmp_path / "cache")


def test_no_clip_crosses_a_cut(tmp_path: Path) -> None:
    first, second = (moving_video(30, 48, 64, seed=seed) for seed in (1, 5))
    second = 255 - second
    write_video(tmp_path / "cut.mkv", np.concatenate((first, second)))
    found = scanned(tmp_path, tmp_path / "cache")
    assert found.videos[0].scenes == ((0, 30), (30, 60))
    drawn = sampler(found, data=DataOptions(frame_steps=(1, 2)))
    for step in range(200):
        frames = drawn.plan(step, 0, side=32).frames
        assert (frames[-1] < 30) == (frames[0] < 30)
        assert len(frames) == 16


def test_faster_videos_are_thinned(tmp_path: Path) -> None:
    write_video(tmp_path / "fast.mkv", moving_video(96, 48, 64), rate=48)
    video = scanned(tmp_path, tmp_path / "cache").videos[0]
    assert video.shape[0] == 32 and video.numbers[:3] == (0, 3, 6)


@pytest.mark.parametrize("storage", ["disk", "memory", "stream"])
def test_stores_give_the_same_frames(videos: Path, tmp_path: Path, storage: str) -> None:
    options = ScanOptions(frame_rate=16.0, stored_side=0, store=storage != "stream", find_cuts=True)
    found = scanned(videos, tmp_path / "cache", options)
    store = open_store(found.videos, storage=storage, device=torch.device("cpu"))
    expected = moving_video(40, 72, 96, seed=1)[[3, 5, 20]]
    assert np.array_equal(store.frames(1, [3, 5, 20]).numpy(), expected)


def test_a_plan_depends_on_its_place_alone(videos: Path, tmp_path: Path) -> None:
    found = scanned(videos, tmp_path / "cache")
    one, other = sampler(found), sampler(found)
    assert [one.plan(7, i, side=32) for i in range(4)] == [other.plan(7, i, side=32) for i in range(4)]
    assert one.plan(7, 0, side=32) != one.plan(8, 0, side=32) != sampler(found, seed=1).plan(8, 0, side=32)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_in_order_whatever_the_workers(videos: Path, tmp_path: Path, workers: int) -> None:
    found = scanned(videos, tmp_path / "cache")
    store = open_store(found.videos, storage="disk", device=torch.device("cpu"))
    dataset = ClipDataset(sampler(found), store, codec="jpeg")
    plan = PlannedBatches(lambda _step: (0, 2, 32), first_step=3, accumulate=2, rank=1, processes=2)
    batches = load_batches(dataset, plan, workers=workers, pinned=False, collate=collate)
    got = [next(batches) for _ in range(3)]
    assert [(batch.step, batch.indices) for batch in got] == [(3, (2, 3)), (3, (6, 7)), (4, (2, 3))]
    assert got[0].video.shape == (2, 3, 16, 32, 32)
    again = dataset[ClipKey(step=3, index=2, stage=0, side=32)]
    assert torch.equal(got[0].video[0], again[1])


def test_a_video_that_vanishes_is_replaced_and_named(videos: Path, tmp_path: Path) -> None:
    found = scanned(videos, tmp_path / "cache")
    gone = found.videos[0].pixels
    assert gone is not None
    gone.unlink()
    dataset = ClipDataset(
        sampler(found), open_store(found.videos, storage="disk", device=torch.device("cpu")), codec="jpeg"
    )
    items = [dataset[ClipKey(step=step, index=0, stage=0, side=32)] for step in range(12)]
    assert any("v0.mkv" in reason for item in items for reason in item[5])
    assert not any("v0.mkv" in item[4] for item in items)


class DyingDataset(ClipDataset):
    """Its worker is gone at the third step, as if the system had killed it for its memory."""

    def __getitem__(self, key: ClipKey) -> Any:
        if key.step == 2:
            os._exit(9)
        return super().__getitem__(key)


def test_a_dead_worker_is_an_error_and_no_hang(videos: Path, tmp_path: Path) -> None:
    found = scanned(videos, tmp_path / "cache")
    store = open_store(found.videos, storage="disk", device=torch.device("cpu"))
    dataset = DyingDataset(sampler(found), store, codec="jpeg")
    plan = PlannedBatches(lambda _step: (0, 2, 32), first_step=0, accumulate=1, rank=0, processes=1)
    with pytest.raises(ReducioError, match="has died"):
        for _ in load_batches(dataset, plan, workers=1, pinned=False, collate=collate):
            pass


def test_a_full_disk_ends_a_scan_and_no_video_is_blamed_for_it(tmp_path: Path) -> None:
    """The error's class says so: a damaged video may be called anything."""
    (tmp_path / "no space left.mkv").write_bytes(b"no video")
    write_video(tmp_path / "b.mkv", moving_video(20, 48, 64))
    found = scanned(tmp_path, tmp_path / "cache")
    assert [video.name for video in found.videos] == ["b.mkv"] and len(found.skipped) == 1
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (100, 20 * 48 * 64 * 3 - 10):  # the second one is met only when the file is closed
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(DiskFullError, match="no space left to write"):
                scanned(tmp_path, tmp_path / "full")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert not list((tmp_path / "full").iterdir())
