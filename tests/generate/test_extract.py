"""Videos to shards: what is in them, that nothing is lost by a kill, and that nothing is mixed."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from reducio_codec.codec import ReducioCodec
from reducio_codec.errors import InputError, ReducioError
from reducio_codec.generate import latent_space_id
from reducio_codec.generate.buckets import buckets
from reducio_codec.generate.extract import clips as clips_module
from reducio_codec.generate.extract import extraction
from reducio_codec.generate.extract.extraction import ExtractReport, extract
from reducio_codec.generate.extract.maker import Encoders
from reducio_codec.generate.extract.options import ExtractOptions
from reducio_codec.training.store import StreamStore
from tests.generate.conftest import SEMANTIC_CHANNELS, TEXT_CHANNELS
from tests.helpers import moving_video
from tests.train.conftest import write_video

Extract = Callable[..., ExtractReport]


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos of one name and one content, and one with a cut after 30 of 50 frames."""
    folder = tmp_path_factory.mktemp("clips")
    for name in ("a", "b"):
        (folder / name).mkdir()
        write_video(folder / name / "same.mkv", moving_video(24, 72, 96))
    joined = np.concatenate([moving_video(30, 72, 96, seed=1), 255 - moving_video(20, 72, 96, seed=2)])
    write_video(folder / "cut.mkv", joined)
    return folder


@pytest.fixture
def make(codec_folder: Path, clips: Path, tmp_path: Path) -> Extract:
    """``make("shards", distance=4, ...)``: extract with some options, at 64 pixels."""

    def call(name: str = "shards", *, source: Path | None = None, **changes: Any) -> ExtractReport:
        fields = {key: changes.pop(key) for key in ("workers", "runner", "encoders") if key in changes}
        speed = {key: changes.pop(key) for key in ("batch", "loaders") if key in changes}
        encoders = fields.pop("encoders", Encoders(codec=str(codec_folder), threads=1, **speed))
        options = ExtractOptions(**{"size": 64, "keyframe": "png", **changes})
        cache = tmp_path / "cache"
        return extract(source or clips, out=tmp_path / name, options=options, encoders=encoders, cache=cache, **fields)

    return call


def read(folder: Path) -> dict[str, dict[str, bytes]]:
    """Samples by key, with plain tarfile."""
    found: dict[str, dict[str, bytes]] = {}
    for path in sorted(folder.glob("*.tar")):
        for key, parts in read_one(path).items():
            assert key not in found, key
            found[key] = parts
    return found


def read_one(path: Path) -> dict[str, dict[str, bytes]]:
    found: dict[str, dict[str, bytes]] = {}
    with tarfile.open(path) as tar:
        for member in tar:
            key, _, suffix = member.name.partition(".")
            assert suffix not in found.setdefault(key, {}), member.name
            found[key][suffix] = tar.extractfile(member).read()  # type: ignore[union-attr]
    return found


def test_webdataset_reads_what_was_meant(make: Extract, clips: Path, codec: ReducioCodec, tmp_path: Path) -> None:
    import webdataset

    report = make(dtype="float32", shard_samples=3)
    shards = sorted(str(path) for path in (tmp_path / "shards").glob("*.tar"))
    assert len(shards) == report.shards == report.written == 3
    found = list(webdataset.WebDataset(shards, shardshuffle=False).decode("rgb8"))
    assert len(found) == report.samples == len({sample["__key__"] for sample in found})
    for sample in found:
        facts = sample["json"]
        source = moving_video(24, 72, 96) if "same" in facts["video"] else None
        assert facts["size"] == [64, 64] and facts["keyframe_index"] == 7 and facts["motion"] > 0
        if source is None:
            continue
        frames = source[facts["frames"]]  # (16, 72, 96, 3); the largest square in the middle, resized
        box = (12, 0, 84, 72)
        whole = [np.asarray(Image.fromarray(f).crop(box).resize((64, 64), Image.Resampling.BILINEAR)) for f in frames]
        assert np.abs(sample["png"].astype(int) - whole[7]).max() <= 2
        wanted, _ = codec.encode(torch.from_numpy(np.stack(whole)))
        latent = torch.from_numpy(sample["latent.npy"])
        assert latent.shape == (16, 4, 2, 2) and latent.dtype == torch.float32
        # resized by another library, so not to the bit
        assert (latent - wanted[0]).abs().mean() < 0.1 * wanted.abs().mean()


def test_no_clip_crosses_a_cut_and_steps_that_fit_are_taken(make: Extract, tmp_path: Path) -> None:
    make(frame_steps=(1, 2), distance=2, find_cuts=True)
    facts = [json.loads(parts["json"]) for parts in read(tmp_path / "shards").values()]
    cut = [one["frames"] for one in facts if one["video"] == "cut.mkv"]
    assert {(frames[0] < 30, frames[-1] < 30) for frames in cut} == {(True, True), (False, False)}
    assert {frames[1] - frames[0] for frames in cut if frames[0] < 30} == {1}  # 31 frames would be needed for step 2
    make("uncut", frame_steps=(1, 2), distance=2, find_cuts=False)
    facts = [json.loads(parts["json"]) for parts in read(tmp_path / "uncut").values()]
    assert {one["frames"][1] - one["frames"][0] for one in facts if one["video"] == "cut.mkv"} == {1, 2}


def test_names_cannot_collide(make: Extract, clips: Path, tmp_path: Path) -> None:
    report = make(crop="random", crop_range=(0.7, 1.0), crops=2, flip=True, distance=4)
    found = read(tmp_path / "shards")
    assert len(found) == report.samples
    videos = {json.loads(parts["json"])["video"]: key[:16] for key, parts in found.items()}
    assert len(videos) == len(set(videos.values())) == 3  # a/same.mkv and b/same.mkv are two
    mirrored = [key for key in found if key.endswith("m")]
    assert len(mirrored) == report.samples / 2
    for key in mirrored[:3]:
        one, other = (np.asarray(Image.open(io.BytesIO(found[name]["png"]))) for name in (key, key[:-1]))
        assert np.array_equal(one[:, ::-1], other)
    listed = tmp_path / "twice.csv"
    listed.write_text(f"path\n{clips / 'cut.mkv'}\n{clips / 'cut.mkv'}\n")
    with pytest.raises(InputError, match="list it once"):
        make("twice", source=listed)


def test_buckets(make: Extract, tmp_path: Path) -> None:
    folder = tmp_path / "shapes"
    folder.mkdir()
    for name, (height, width) in {"wide": (64, 160), "high": (160, 64), "square": (96, 96)}.items():
        write_video(folder / f"{name}.mkv", moving_video(16, height, width))
    make(source=folder, buckets=True, size=128)
    found = {}
    for parts in read(tmp_path / "shards").values():
        facts = json.loads(parts["json"])
        found[facts["video"]] = tuple(facts["size"])
        latent = np.load(io.BytesIO(parts["latent.npy"]))
        assert latent.dtype == np.float16 and latent.shape == (16, 4, facts["size"][0] // 32, facts["size"][1] // 32)
        assert Image.open(io.BytesIO(parts["png"])).size == (facts["size"][1], facts["size"][0])
    assert set(found.values()) <= set(buckets(128))
    assert found["square.mkv"] == (128, 128)
    assert found["wide.mkv"][0] < 128 < found["wide.mkv"][1] and found["high.mkv"][0] > 128 > found["high.mkv"][1]


KILLED = """
import os, signal, tarfile
from pathlib import Path
from reducio_codec.cli import main

write = tarfile.TarFile.addfile

def write_and_die(tar, *member):
    write(tar, *member)
    if len(list(Path(tar.name).parent.glob("*.tar"))) == 2:
        os.kill(os.getpid(), signal.SIGKILL)

tarfile.TarFile.addfile = write_and_die
main()
"""
"""The command line, until SIGKILL in the middle of the third shard. A watcher outside would come too late on a busy machine."""


def test_a_killed_extraction_goes_on(make: Extract, clips: Path, codec_folder: Path, tmp_path: Path) -> None:
    """SIGKILL with some shards written: they stay as they are, and the end is what it would have been."""
    make("whole", distance=1, shard_samples=2)
    out = tmp_path / "killed"
    words = ["extract", str(clips), "--codec", str(codec_folder), "--out", str(out), "--recipe", "dit-smoke"]
    words += ["--cache", str(tmp_path / "cache"), "--threads", "1"]
    for change in ("distance=1", "shard_samples=2", "keyframe=png", "stored_side=288"):
        words += ["--set", change]
    env = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    killed = subprocess.run([sys.executable, "-c", KILLED, *words], env=env, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    kept = {path.name: path.stat().st_ino for path in out.glob("*.tar")}
    assert len(kept) == 2 < len(list((tmp_path / "whole").glob("*.tar")))
    assert len(list(out.glob(".*.tmp"))) == 1  # half a shard
    done = subprocess.run([sys.executable, "-m", "reducio_codec", *words], env=env, check=True, capture_output=True)
    assert b" new" in done.stdout
    assert {name: (out / name).stat().st_ino for name in kept} == kept
    assert not list(out.glob(".*.tmp"))
    for path in (tmp_path / "whole").glob("*.tar"):
        assert path.read_bytes() == (out / path.name).read_bytes()


def test_other_codecs_and_options_are_refused(
    make: Extract, other_codec_folder: Path, codec: ReducioCodec, tmp_path: Path
) -> None:
    make()
    before = {path.name: path.read_bytes() for path in (tmp_path / "shards").iterdir()}
    assert json.loads(before["shards.json"])["latent_space"] == latent_space_id(codec.model)
    with pytest.raises(InputError, match=r"don't go with them: choose another --out"):
        make(encoders=Encoders(codec=str(other_codec_folder)))
    with pytest.raises(InputError, match=r"other videos or options \(options\.flip: False -> True; plan"):
        make(flip=True)
    assert make().written == 0
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "shards").iterdir()}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("words")
    with pytest.raises(InputError, match=r"isn't empty and holds no shards\.json"):
        make("mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_processes_give_the_same_bytes(make: Extract, tmp_path: Path) -> None:
    make("one", shard_samples=2)
    make("two", shard_samples=2, workers=2)
    for path in (tmp_path / "one").glob("*.tar"):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


@pytest.mark.parametrize("storage", ["disk", "stream"])
def test_loaders_and_batches_change_nothing_but_the_time(make: Extract, tmp_path: Path, storage: str) -> None:
    options = {"shard_samples": 5, "distance": 2, "crop": "random", "crop_range": (0.7, 1.0), "storage": storage}
    make("one", **options)
    make("two", **options, loaders=1, batch=3)
    for path in (tmp_path / "one").glob("*.tar"):
        one, two = read_one(path), read_one(tmp_path / "two" / path.name)
        assert list(one) == list(two), "in the order of the plan"
        for key, parts in one.items():
            assert parts["png"] == two[key]["png"] and parts["json"] == two[key]["json"]
            latents = [np.load(io.BytesIO(which[key]["latent.npy"])).astype(np.float32) for which in (one, two)]
            assert np.abs(latents[0] - latents[1]).max() < 0.01  # other kernels for other batches


def test_sizes_are_not_mixed_and_frames_are_read_once(
    make: Extract, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "shapes"
    folder.mkdir()
    for name, (height, width) in {"a": (64, 128), "b": (96, 96), "c": (64, 128)}.items():
        write_video(folder / f"{name}.mkv", moving_video(24, height, width, seed=ord(name)))
    batches: list[tuple[int, ...]] = []
    reads: list[list[int]] = []
    encode, frames = ReducioCodec.encode, StreamStore.frames

    def noted(self: ReducioCodec, video: Any, **words: Any) -> Any:
        batches.append(tuple(video.shape))
        return encode(self, video, **words)

    def counted(self: StreamStore, video: int, numbers: Any) -> Any:
        reads.append(list(numbers))
        return frames(self, video, numbers)

    monkeypatch.setattr(ReducioCodec, "encode", noted)
    monkeypatch.setattr(StreamStore, "frames", counted)
    make(source=folder, buckets=True, size=128, distance=8, batch=4, storage="stream")
    assert sorted(shape[0] for shape in batches) == [2, 4] and len({shape[3:] for shape in batches}) == 2
    assert reads == [list(range(24))] * 3, "two clips of a video that overlap are read together"


def test_a_large_picture_is_read_in_parts(make: Extract, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make("one", batch=8, distance=4)
    monkeypatch.setattr(clips_module, "_READ_BYTES", 1)
    make("two", batch=8, distance=4)
    for path in (tmp_path / "one").glob("*.tar"):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_a_dead_loader_is_an_error(make: Extract, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(clips_module, "ClipDataset", _Dying)
    with pytest.raises(ReducioError, match=r"prepares clips has died.*finished shards are kept.*--loaders 0"):
        make(loaders=1)
    assert not list((tmp_path / "shards").glob("*.tar"))


class _Dying(clips_module.ClipDataset):
    def __getitem__(self, work: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_dead_worker_is_an_error(make: Extract, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(extraction, "_work", _die)
    with pytest.raises(ReducioError, match=r"a worker process has died.*goes on"):
        make(workers=1)
    assert not list((tmp_path / "shards").glob("*.tar"))


def _die(_shard: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_video_that_is_gone_is_left_out(make: Extract, tmp_path: Path) -> None:
    """It was there for the scan; its frames are read from the file again."""
    folder = tmp_path / "going"
    folder.mkdir()
    for name in ("a", "b"):
        write_video(folder / f"{name}.mkv", moving_video(16, 64, 64, seed=ord(name)))
    real = extraction.plan_samples

    def gone(*args: Any) -> Any:
        found = real(*args)
        (folder / "b.mkv").write_bytes(b"")
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extraction, "plan_samples", gone)
        report = make(source=folder, storage="stream")
    assert len(report.failures) == 1 and "b.mkv" in report.failures[0]
    assert len(read(tmp_path / "shards")) == 1


def test_captions(make: Extract, clips: Path, codec_folder: Path, t5_folder: Path, tmp_path: Path) -> None:
    encoders = Encoders(codec=str(codec_folder), text_encoder=str(t5_folder), text_tokens=8)
    with pytest.raises(InputError, match=r"none of 3 videos has a caption: a file clip\.txt beside clip\.mp4"):
        make(encoders=encoders)
    folder = tmp_path / "told"
    folder.mkdir()
    for name in ("a", "b"):
        write_video(folder / f"{name}.mkv", moving_video(16, 64, 64, seed=ord(name)))
    (folder / "a.txt").write_text("a red\nball\n")
    make("told-shards", source=folder, encoders=encoders)
    by_name = {json.loads(parts["json"])["video"]: parts for parts in read(tmp_path / "told-shards").values()}
    assert json.loads(by_name["a.mkv"]["json"])["caption"] == "a red ball"
    tokens = np.load(io.BytesIO(by_name["a.mkv"]["text.npy"]))
    assert tokens.shape == (8, TEXT_CHANNELS) and tokens.dtype == np.float16 and np.abs(tokens).max() > 0
    assert "text.npy" not in by_name["b.mkv"]


def test_semantic_tokens_reach_the_model(make: Extract, codec_folder: Path, clip_folder: Path, tmp_path: Path) -> None:
    from reducio_codec.generate.train.samples import LatentDataset, Samples, collate
    from reducio_codec.training.loading import ClipKey

    make(encoders=Encoders(codec=str(codec_folder), image_encoder=str(clip_folder)))
    dataset = LatentDataset(Samples([tmp_path / "shards"]), motion_power=0.5, seed=0, in_memory=True)
    batch = collate([dataset[ClipKey(step=0, index=index, stage=0, side=0)] for index in range(3)])
    semantic = batch.conditions.semantic
    assert semantic is not None and semantic.shape == (3, 1 + 4, SEMANTIC_CHANNELS)


def test_one_line_for_what_is_wrong(clips: Path, codec_folder: Path, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from reducio_codec.cli import main

    common = ["--codec", str(codec_folder), "--out", str(tmp_path / "out")]
    for words, code, message in (
        ([str(tmp_path / "missing"), *common], 2, "neither a folder nor"),
        ([str(clips), *common, "--set", "flips=true"], 2, "unknown option 'flips'"),
        ([str(clips), *common, "--set", "size=100"], 2, "a multiple of 32"),
        ([str(clips), *common, "--set", "frame_steps=[9]"], 2, "none of 3 videos has a clip"),
        ([str(clips), "--codec", "nosuch", "--out", "x"], 1, "nosuch"),
    ):
        result = CliRunner().invoke(main, ["extract", *words])
        assert result.exit_code == code, result.output
        assert message in result.output
    assert not (tmp_path / "out" / "shards.json").exists()
