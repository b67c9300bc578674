"""Results on disk: finished ones are skipped, and nothing that doesn't fit is averaged in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.methods import Candidate
from bench.protocol import KEYFRAME, Protocol, SampleSet, fit, read_frames
from bench.quality import Quality
from bench.rd import protocol
from bench.results import ResultStore, unfit
from bench.runner import Runner
from reducio_codec.errors import InputError
from tests.bench.fakes import NO_NETWORKS, Noise, quiet, video_folder

CLIPS = Protocol(name="rd/1", unit="clip")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = video_folder(tmp_path_factory.mktemp("data"), {"a.mp4": 37, "deep/b.mp4": 16, "short.mp4": 9})
    (folder / "broken.mp4").write_bytes(b"not a video at all" * 50)
    return folder


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(folder=tmp_path / "results", protocol=CLIPS)


def measured(noise: Noise, sample: object) -> dict[str, object]:
    coded = noise(sample.pixels, rate=sample.rate)  # type: ignore[attr-defined]
    return {"bytes": coded.bytes, "metrics": {"psnr_pooled": 30.0, "lpips": "not run: needs a.pth"}}


def run(store: ResultStore, data: Path, noise: Noise, *, name: str = "noise", quality: Quality = NO_NETWORKS) -> Runner:
    samples = SampleSet(folder=data, protocol=store.protocol)
    runner: Runner = Runner(store=store, samples=samples, quality=quality, measure=measured, console=quiet())
    runner.run([Candidate(name=name, points={"p0": lambda: noise})])
    return runner


def change_line(store: ResultStore, sample: str, change: Callable[[dict[str, Any]], str]) -> None:
    """Replace the line of one sample in the file of ``noise``."""
    path = store.path("noise")
    lines = path.read_text().splitlines()
    (number,) = (number for number, line in enumerate(lines) if f'"sample": "{sample}"' in line)
    lines[number] = change(json.loads(lines[number]))
    path.write_text("\n".join(lines) + "\n")


# ------------------------------------------------------------------ protocol


def test_clips_of_a_folder(videos: Path) -> None:
    samples = SampleSet(folder=videos, protocol=CLIPS)
    found = list(samples)
    assert [sample.name for sample in found] == ["a.mp4@00000", "a.mp4@00016", "deep__b.mp4@00000"]
    assert all(sample.pixels.shape == (16, 256, 256, 3) for sample in found)
    assert "9 frames" in samples.skipped["short.mp4"]
    assert "broken.mp4" in samples.skipped
    whole = list(SampleSet(folder=videos, protocol=protocol("video")))
    assert [len(sample.pixels) for sample in whole] == [32, 16]
    assert np.array_equal(whole[0].clips()[1], found[1].pixels)
    assert len({sample.digest for sample in found}) == 3


def test_frames_are_resized_once_and_cut_from_the_middle(videos: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (256, 300, 3), dtype=np.uint8)
    assert np.array_equal(fit(picture, size=256), picture[:, 22:278])
    for height, width in ((512, 700), (240, 320), (100, 300), (301, 301)):
        assert fit(np.full((height, width, 3), 77, np.uint8), size=256).tolist() == np.full((256, 256, 3), 77).tolist()
    frames, rate = read_frames(videos / "a.mp4", size=64)
    assert frames.shape == (37, 64, 64, 3) and rate == 16


def test_antialiased_halving_is_a_mean() -> None:
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 200
    assert abs(int(fit(stripes, size=256)[128, 128, 0]) - 100) <= 1


def test_the_validation_clips_are_129(corpus: Path) -> None:
    rows = [line.split("\t") for line in (corpus / "MANIFEST.tsv").read_text().splitlines()]
    frames = {row[1]: int(row[2]) for row in rows if row[0] == "val"}
    samples = SampleSet(folder=corpus / "val", protocol=CLIPS)
    assert {path.name for path in samples.videos} == set(frames)
    assert sum(count // 16 for count in frames.values()) == 129


def test_folders_without_videos(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no video"):
        SampleSet(folder=tmp_path, protocol=CLIPS)
    with pytest.raises(InputError, match="isn't a folder"):
        SampleSet(folder=tmp_path / "nowhere", protocol=CLIPS)


# ------------------------------------------------------------------ skipping and resuming


def test_a_result_says_everything(store: ResultStore, videos: Path) -> None:
    run(store, videos, Noise(5, 0.1))
    data = store.load("noise").points["p0"]["deep__b.mp4@00000"]
    assert data["protocol"] == CLIPS.to_json()
    assert data["protocol"]["keyframe_left_out"] == KEYFRAME == 7
    assert (data["method"], data["point"], data["sample"], data["frames"]) == ("noise", "p0", "deep__b.mp4@00000", 16)
    assert data["machine"]["versions"]["torch"] and data["seed"] == 0 and data["settings"] == {"version": 1}
    assert store.skipped().keys() == {"short.mp4", "broken.mp4"}


def test_a_method_is_one_file_that_says_shared_facts_once(store: ResultStore, videos: Path) -> None:
    run(store, videos, Noise(5, 0.1))
    assert {path.name for path in store.root.iterdir()} == {"samples.json", "noise.jsonl"}
    lines = [json.loads(line) for line in (store.root / "noise.jsonl").read_text().splitlines()]
    assert [line.get("sample") for line in lines] == [None, "a.mp4@00000", "a.mp4@00016", "deep__b.mp4@00000"]
    assert "machine" in lines[0]["facts"] and not any("machine" in line for line in lines[1:])


def test_finished_points_are_skipped(store: ResultStore, videos: Path) -> None:
    first, second = Noise(5, 0.1), Noise(5, 0.1)
    run(store, videos, first)
    run(store, videos, second)
    assert first.calls == [16, 16, 16] and second.calls == []


def test_an_interrupted_run_goes_on(store: ResultStore, videos: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(store, videos, Noise(5, 0.1, interrupt_after=2))
    rows = store.load("noise").points["p0"]
    assert "incomplete: 2 of 3" in str(unfit(rows, samples=store.samples()))
    again = Noise(5, 0.1)
    run(store, videos, again)
    assert again.calls == [16]
    assert unfit(store.load("noise").points["p0"], samples=store.samples()) is None
    assert not list(store.root.rglob("*.tmp"))


def test_other_settings_are_measured_again(store: ResultStore, videos: Path) -> None:
    run(store, videos, Noise(5, 0.1))
    with pytest.raises(KeyboardInterrupt):
        run(store, videos, Noise(5, 0.1, settings={"version": 2}, interrupt_after=1))
    assert "different settings" in str(unfit(store.load("noise").points["p0"], samples=store.samples()))
    retrained = Noise(5, 0.1, settings={"version": 2})
    run(store, videos, retrained)
    assert retrained.calls == [16, 16]
    assert unfit(store.load("noise").points["p0"], samples=store.samples()) is None


def test_weights_that_came_since_are_used(store: ResultStore, videos: Path) -> None:
    run(store, videos, Noise(5, 0.1))
    again = Noise(5, 0.1)

    class Network:
        def describe(self) -> dict[str, str]:
            return {"net": "alex"}

    run(store, videos, again, quality=Quality(lpips=Network(), i3d="not run: no"))  # type: ignore[arg-type]
    assert again.calls == [16, 16, 16]


# ------------------------------------------------------------------ what doesn't fit


def test_an_older_protocol_is_named_and_measured_anew(store: ResultStore, videos: Path) -> None:
    run(store, videos, Noise(5, 0.1))
    change_line(store, "a.mp4@00016", lambda row: json.dumps({**row, "protocol": CLIPS.to_json() | {"name": "rd/0"}}))
    assert len(store.load("noise").points["p0"]) == 2
    assert store.problems == ["noise/p0/a.mp4@00016: protocol rd/0; this is rd/1, unit clip"]
    again = Noise(5, 0.1)
    run(store, videos, again)
    assert again.calls == [16]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"metrics": {}}', '{"run": 7, "point": "p0"}', "\x00\x01"])
def test_a_damaged_result_is_named(store: ResultStore, videos: Path, content: str) -> None:
    run(store, videos, Noise(5, 0.1))
    change_line(store, "a.mp4@00016", lambda row: content)
    assert set(store.load("noise").points["p0"]) == {"a.mp4@00000", "deep__b.mp4@00000"}
    assert "noise.jsonl line 3 can't be read" in store.problems[0]
    again = Noise(5, 0.1)
    run(store, videos, again)
    assert again.calls == [16]


@pytest.mark.parametrize(("key", "value"), [("frames", 15), ("digest", "0123456789abcdef")])
def test_other_frames_are_refused(store: ResultStore, videos: Path, key: str, value: object) -> None:
    run(store, videos, Noise(5, 0.1))
    change_line(store, "a.mp4@00000", lambda row: json.dumps(row | {key: value}))
    rows = store.load("noise").points["p0"]
    assert len(rows) == 2 and str(value) in store.problems[0]
    assert "a.mp4@00000 is missing" in str(unfit(rows, samples=store.samples()))


def test_other_data_of_the_same_name_is_refused(store: ResultStore, videos: Path, tmp_path: Path) -> None:
    run(store, videos, Noise(5, 0.1))
    other = video_folder(tmp_path / "other", {"z.mp4": 16, "a.mp4": 16})
    with pytest.raises(InputError, match="another results folder"):
        run(store, other, Noise(5, 0.1))


def test_a_method_that_cannot_run_says_why(store: ResultStore, videos: Path) -> None:
    store.write_not_run("peer", "needs weights")
    assert store.load("peer").why_not == "needs weights"
    run(store, videos, Noise(5, 0.1), name="peer")
    assert store.load("peer").why_not is None
    store.write_not_run("peer", "gone now")
    assert store.load("peer").why_not is None, "earlier results stay"


def test_a_sample_that_fails_is_named(store: ResultStore, videos: Path) -> None:
    def fail(_noise: Noise, _sample: object) -> dict[str, object]:
        raise RuntimeError("no memory")

    samples = SampleSet(folder=videos, protocol=CLIPS)
    runner: Runner = Runner(store=store, samples=samples, quality=NO_NETWORKS, measure=fail, console=quiet())
    runner.run([Candidate(name="noise", points={"p0": lambda: Noise(1, 1)})])
    assert len(runner.failures) == 3 and "no memory" in runner.failures[0]
    assert "no memory" in str(store.load("noise").why_not)
