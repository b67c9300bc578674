"""The published protocols on tiny stand-ins: real encoded videos in the data sets' layouts, made-up feature networks."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from torch import nn

from reducio_codec.errors import InputError
from reducio_codec.generate.protocols.__main__ import main
from reducio_codec.generate.protocols.items import Item
from reducio_codec.generate.protocols.making import read_real
from reducio_codec.generate.protocols.msrvtt import read_msrvtt
from reducio_codec.generate.protocols.ucf101 import in_words, read_ucf101
from reducio_codec.generate.protocols.vbench import read_vbench
from reducio_codec.generate.protocols.vbench_scores import DIMENSIONS, columns, read_scores, totals
from reducio_codec.io.video import read_clip
from reducio_codec.metrics.frechet import frechet_distance
from reducio_codec.metrics.fvd import I3d
from reducio_codec.metrics.inception_score import C3d, inception_score
from tests.conftest import write_clip
from tests.generate.conftest import SaveDit
from tests.helpers import moving_video
from tests.train.conftest import write_video

CLASSES = ("ApplyEyeMakeup", "HandstandPushups", "YoYo")
BROKEN, SHORT, MISNAMED = "YoYo/v_YoYo_g09_c01.avi", "YoYo/v_YoYo_g09_c02.avi", "YoYo/holiday.avi"


class Features(nn.Module):
    """I3D's calling convention."""

    def forward(self, x: torch.Tensor, rescale: bool, resize: bool, return_features: bool) -> torch.Tensor:
        assert rescale and resize and return_features
        return torch.cat([x.mean((2, 3, 4)), x.std((2, 3, 4)), x[:, :, 0].mean((2, 3))], 1)


class Classes(nn.Module):
    """C3D's calling convention."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.dtype == torch.uint8
        return torch.softmax(x.float().mean((2, 3, 4)).repeat(1, 34)[:, :101] / 9, 1)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("networks")
    torch.jit.script(Features()).save(str(folder / "i3d.pt"))
    torch.jit.script(Classes()).save(str(folder / "c3d.pt"))
    return {"i3d": folder / "i3d.pt", "c3d": folder / "c3d.pt"}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def ucf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 4, 2 and 6 videos as the published ones are written, and files that can't be used."""
    folder = tmp_path_factory.mktemp("data") / "UCF-101"
    for number, (name, count) in enumerate(zip(CLASSES, (4, 2, 6), strict=True)):
        (folder / name).mkdir(parents=True)
        written = "HandStandPushups" if name == "HandstandPushups" else name  # as in the published set
        for group in range(count):
            frames = moving_video(20 + group, 48, 64, seed=10 * number + group)
            write_clip(folder / name / f"v_{written}_g{group + 1:02d}_c01.avi", frames, codec="mpeg4")
    whole = (folder / "YoYo" / "v_YoYo_g01_c01.avi").read_bytes()
    (folder / BROKEN).write_bytes(b"RIFF" + bytes(len(whole) // 2))
    write_clip(folder / SHORT, moving_video(9, 48, 64), codec="mpeg4")
    (folder / MISNAMED).write_bytes(whole)
    return folder.parent


@pytest.fixture(autouse=True)
def empty_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(pytest.importorskip("huggingface_hub.constants"), "HF_HUB_CACHE", str(tmp_path / "hub"))


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def result_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "result.json").read_text())
    return found


# ---------------------------------------------------------------------- UCF-101


def test_ucf101_from_the_command_to_the_result(
    ucf: Path, networks: dict[str, Path], dit_folder: SaveDit, codec_folder: Path, tmp_path: Path
) -> None:
    out, model = tmp_path / "out", dit_folder()
    words = ["ucf101", ucf, "-m", model, "--codec", codec_folder, "--steps", 2, "--clips", 0, "-o", out]
    first = run(*words)
    assert first.exit_code == 0, first.output
    found = result_of(out)
    assert found["fvd"] == "not run: needs i3d_torchscript.pt"
    assert found["inception_score"] == "not run: needs c3d_ucf101.pt"
    assert found["clips"] == {"planned": 14, "made": 12, "left_out": 3}
    assert set(found["left_out"]) == {MISNAMED, Path(BROKEN).stem, Path(SHORT).stem}
    assert "9 frames" in found["left_out"][Path(SHORT).stem]
    assert Path(SHORT).stem in first.stderr
    clips = {path: path.stat().st_mtime_ns for path in (out / "clips").iterdir()}
    assert len(clips) == 12

    second = run(*words, "--i3d", networks["i3d"], "--i3d-sha256", sha256(networks["i3d"]), "--c3d", networks["c3d"])
    assert second.exit_code == 0, second.output
    assert {path: path.stat().st_mtime_ns for path in (out / "clips").iterdir()} == clips, "nothing is made again"
    found = result_of(out)
    names = [path.stem for path in sorted(clips)]
    real = {path.stem: path for path in (ucf / "UCF-101").rglob("*.avi")}
    i3d, c3d = I3d(networks["i3d"], sha256=sha256(networks["i3d"])), C3d(networks["c3d"])
    made = [read_clip(out / "clips" / f"{name}.mkv") for name in names]
    distance = frechet_distance(
        np.stack([i3d(read_real(real[name], width=64, height=64)) for name in names]),
        np.stack([i3d(clip) for clip in made]),
    )
    assert found["fvd"]["value"] == pytest.approx(distance, rel=1e-4)
    assert {key: found["fvd"][key] for key in ("clips", "frames", "height", "width")} == {
        "clips": 12, "frames": 16, "height": 64, "width": 64,
    }  # fmt: skip
    assert found["fvd"]["i3d_sha256"] == sha256(networks["i3d"])
    rows = np.stack([c3d(clip) for clip in made])
    expected = inception_score(rows)
    assert found["inception_score"]["mean"] == pytest.approx(expected.mean, rel=1e-4)
    assert found["inception_score"]["c3d_sha256"] == sha256(networks["c3d"])
    request = found["request"]
    assert request["model"] == {"id": "toy-dit", "sha256": sha256(model / "model.safetensors")}
    assert request["codec"]["sha256"] == sha256(codec_folder / "model.safetensors")
    assert len(request["latent_space"]) == 16 and request["sampler"] == "dpm++" and request["steps"] == 2
    assert request["picture"] == "the real clip's key frame" and request["prompts"].startswith("not told")
    assert found["published"]["zero-shot"]["fvd"] == 318.5
    assert any("3 classes and 14 videos" in note for note in found["notes"])
    assert any("doesn't compare" in note for note in found["notes"])
    assert any("another file than that of published FVD" in note for note in found["notes"])
    assert found["environments"][0]["versions"]["torch"] == torch.__version__.split("+")[0]
    for name, clip in zip(names, made, strict=True):  # the key picture is the real clip's
        keyframe = read_real(real[name], width=64, height=64)[7]
        assert np.abs(clip[7].astype(float) - keyframe).mean() < 3

    # another request is refused; features of finished parts are read and not computed again
    other = run(*words, "--guidance", 1.5)
    assert other.exit_code == 2 and "guidance is 2.5 there and 1.5 here" in other.stderr
    damaged = out / "clips" / f"{names[0]}.mkv"
    damaged.write_bytes(damaged.read_bytes()[:300])
    again = run(*words, "--i3d", networks["i3d"], "--i3d-sha256", sha256(networks["i3d"]))
    assert again.exit_code == 0 and result_of(out)["fvd"]["value"] == found["fvd"]["value"]
    for part in (out / "features").rglob("*.safetensors"):
        part.unlink()
    again = run(*words, "--i3d", networks["i3d"], "--i3d-sha256", sha256(networks["i3d"]))
    assert again.exit_code == 0, again.output
    less = result_of(out)
    assert less["fvd"]["clips"] == 11 and names[0] in less["left_out"] and less["clips"]["left_out"] == 4


def test_a_run_that_is_ended_goes_on(ucf: Path, dit_folder: SaveDit, codec_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["ucf101", str(ucf), "-m", str(dit_folder()), "--codec", str(codec_folder), "--clips", "5", "-o", str(out)]
    words += ["--batch", "1", "--steps", "60"]
    env = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, "-m", "reducio_codec.generate.protocols", *words]
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 200
    while not list(out.glob("clips/*.mkv")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 143, message
    made = {path: path.stat().st_mtime_ns for path in out.glob("clips/*.mkv")}
    assert 1 <= len(made) < 5 and not list(out.glob("clips/.*"))
    assert not (out / "result.json").exists()
    assert run(*words).exit_code == 0
    assert len(list(out.glob("clips/*"))) == result_of(out)["clips"]["made"] >= 4
    assert made == {path: path.stat().st_mtime_ns for path in made}


def test_the_same_clips_whatever_was_made_before(
    ucf: Path, dit_folder: SaveDit, codec_folder: Path, tmp_path: Path
) -> None:
    words = ["ucf101", ucf, "-m", dit_folder(), "--codec", codec_folder, "--clips", 4, "--steps", 2]
    words += ["--precision", "float32"]
    assert run(*words, "--batch", 3, "-o", tmp_path / "a").exit_code == 0
    clips = sorted((tmp_path / "a" / "clips").iterdir())
    assert len(clips) >= 3
    before = {path.name: read_clip(path) for path in clips}
    clips[1].unlink()
    assert run(*words, "--batch", 2, "-o", tmp_path / "a").exit_code == 0
    for path in clips:
        difference = np.abs(read_clip(path).astype(int) - before[path.name])
        assert difference.max() <= 2  # another batch rounds otherwise


def test_a_student_makes_clips_as_it_was_distilled_to(
    ucf: Path, dit_folder: SaveDit, codec_folder: Path, tmp_path: Path
) -> None:
    student = dit_folder(objective="flow", distilled_steps=3, distilled_guidance=2.5)
    words = ["ucf101", ucf, "-m", student, "--codec", codec_folder, "--clips", 2, "-o", tmp_path / "out"]
    for wrong, message in ((("--steps", 20), "distilled for 3"), (("--guidance", 2.5), "guidance 2.5 inside"),
                           (("--sampler", "heun"), "distilled for 'euler'")):  # fmt: skip
        refused = run(*words, *wrong)
        assert refused.exit_code == 2 and message in refused.stderr
        assert not (tmp_path / "out").exists()
    done = run(*words)
    assert done.exit_code == 0, done.output
    request = result_of(tmp_path / "out")["request"]
    assert (request["steps"], request["guidance"], request["sampler"]) == (3, 1.0, "euler")


def test_every_class_has_its_share(ucf: Path) -> None:
    plan = read_ucf101(ucf, count=7, seed=0)
    groups = [item.real.parent.name for item in plan.items if item.real is not None]
    assert {name: groups.count(name) for name in CLASSES} == {"ApplyEyeMakeup": 2, "HandstandPushups": 1, "YoYo": 4}
    assert [item.name for item in read_ucf101(ucf, count=7, seed=0).items] == [item.name for item in plan.items]
    assert [item.name for item in read_ucf101(ucf, count=7, seed=1).items] != [item.name for item in plan.items]
    assert {item.prompt for item in plan.items} == {"apply eye makeup", "handstand pushups", "yo yo"}
    assert plan.skipped == {MISNAMED: "isn't named CLASS/v_CLASS_gNN_cNN.avi"}
    assert any("100 clips were asked for" in note for note in read_ucf101(ucf, count=100, seed=0).notes)


def test_official_lists_and_captions(ucf: Path, tmp_path: Path) -> None:
    listed = tmp_path / "trainlist01.txt"
    listed.write_text(
        "YoYo/v_YoYo_g02_c01.avi 101\nHandstandPushups/v_HandStandPushups_g01_c01.avi 37\nYoYo/no.avi 1\n"
    )
    plan = read_ucf101(ucf, count=0, seed=0, listed=listed)
    assert [item.name for item in plan.items] == ["v_HandStandPushups_g01_c01", "v_YoYo_g02_c01"]
    assert "is in" in plan.skipped["YoYo/no.avi"]
    captions = tmp_path / "captions.json"
    captions.write_text(json.dumps({"v_YoYo_g02_c01.avi": "a boy plays with a yo-yo"}))
    plan = read_ucf101(ucf, count=0, seed=0, captions=captions)
    assert [(item.name, item.prompt) for item in plan.items] == [("v_YoYo_g02_c01", "a boy plays with a yo-yo")]
    assert "no caption" in plan.skipped["YoYo/v_YoYo_g01_c01.avi"]
    for text, message in (("[1]", "must be an object"), ("{", "can't be read")):
        captions.write_text(text)
        with pytest.raises(InputError, match=message):
            read_ucf101(ucf, count=0, seed=0, captions=captions)
    listed.write_text("no list\n")
    with pytest.raises(InputError, match="lines must be CLASS/FILE"):
        read_ucf101(ucf, count=0, seed=0, listed=listed)
    with pytest.raises(InputError, match="isn't a folder"):
        read_ucf101(tmp_path / "nowhere", count=0, seed=0)
    with pytest.raises(InputError, match="no usable video"):
        read_ucf101(tmp_path, count=0, seed=0)


def test_words_of_class_names() -> None:
    assert in_words("BasketballDunk") == "basketball dunk"
    assert in_words("PlayingDhol") == "playing dhol" and in_words("TaiChi") == "tai chi"


def test_a_real_clip_is_the_middle_at_16_frames_a_second(tmp_path: Path) -> None:
    levels = np.arange(96).repeat(48 * 64 * 3).reshape(96, 48, 64, 3).astype(np.uint8) * 2
    video = write_video(tmp_path / "a.mkv", levels, rate=32)  # 3 s: 48 frames of 16 a second
    clip = read_real(video, width=32, height=32)
    assert clip.shape == (16, 32, 32, 3)
    assert clip[:, 0, 0, 0].tolist() == [2 * 2 * number for number in range(16, 32)]
    with pytest.raises(InputError, match="squares"):
        read_real(video, width=32, height=64)


# ---------------------------------------------------------------------- MSR-VTT


@pytest.fixture
def vtt(tmp_path: Path) -> tuple[Path, Path]:
    """Six videos of which four are in the test split; one of these isn't there, one has no caption."""
    folder = tmp_path / "MSR-VTT"
    (folder / "TestVideo").mkdir(parents=True)
    rows, sentences = [], []
    for number in range(6):
        name = f"video{7010 + number}"
        rows.append({"video_id": name, "id": number, "category": 1, "split": "test" if number < 4 else "train"})
        if number != 3:
            sentences += [{"video_id": name, "caption": f"caption {k} of {name}", "sen_id": k} for k in range(20)]
        if number != 2:
            write_clip(folder / "TestVideo" / f"{name}.mp4", moving_video(20, 48, 64, seed=number))
    annotations = tmp_path / "test_videodatainfo.json"
    annotations.write_text(json.dumps({"info": {}, "videos": rows, "sentences": sentences}))
    return annotations, folder


def test_msrvtt_takes_the_test_split_with_a_caption_each(vtt: tuple[Path, Path]) -> None:
    plan = read_msrvtt(*vtt, count=0, seed=0)
    assert [item.name for item in plan.items] == ["video7010", "video7011"]
    assert "has no video7012.mp4" in plan.skipped["video7012"] and "no caption" in plan.skipped["video7013"]
    assert plan.notes == ["4 videos in the test split here; MSR-VTT has 2990"]
    again, other = (read_msrvtt(*vtt, count=0, seed=seed) for seed in (0, 3))
    assert again.items == plan.items and other.digest() != plan.digest()
    assert [item.name for item in read_msrvtt(*vtt, count=1, seed=0).items] in (["video7010"], ["video7011"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "can't be read"),
        ("[]", "isn't an annotation file of MSR-VTT"),
        ('{"videos": [{"video_id": "a"}], "sentences": []}', "isn't an annotation file"),
        ('{"videos": [{"video_id": "a", "split": "train"}], "sentences": []}', "no video of split 'test'"),
        ('{"videos": [{"video_id": "a", "split": "test"}], "sentences": []}', "none of the 1 videos can be used"),
    ],
)
def test_annotations_that_cannot_be_used(vtt: tuple[Path, Path], text: str, message: str) -> None:
    vtt[0].write_text(text)
    with pytest.raises(InputError, match=message):
        read_msrvtt(*vtt, count=0, seed=0)


def test_msrvtt_with_pictures_made_from_captions(
    vtt: tuple[Path, Path], networks: dict[str, Path], dit_folder: SaveDit, codec_folder: Path, pixart_folder: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    out = tmp_path / "out"
    done = run("msrvtt", *vtt, "-m", dit_folder(), "--codec", codec_folder, "--text-to-image", pixart_folder, "--steps", 2,
               "--i3d", networks["i3d"], "--i3d-sha256", sha256(networks["i3d"]), "-o", out)  # fmt: skip
    assert done.exit_code == 0, done.output
    found = result_of(out)
    assert found["protocol"] == "msrvtt/1" and found["fvd"]["clips"] == 2
    assert found["request"]["picture"] == "text-to-image" and len(found["request"]["text_to_image"]["sha256"]) == 64
    assert found["request"]["prompts"].startswith("one caption a video, test_videodatainfo.json ")
    assert not any("doesn't compare" in note for note in found["notes"])
    assert set(found["left_out"]) == {"video7012", "video7013"}


# ---------------------------------------------------------------------- VBench


FULL_INFO = [
    {"prompt_en": "In a still frame, a stop sign", "dimension": ["temporal_flickering"]},
    {"prompt_en": "a bird and a cat", "dimension": ["multiple_objects"], "auxiliary_info": {}},
    {"prompt_en": "a red/blue car", "dimension": ["color"]},
    {"prompt_en": "a bird and a cat", "dimension": ["overall_consistency"]},
]


def test_vbench_names_and_numbers(tmp_path: Path) -> None:
    path = tmp_path / "VBench_full_info.json"
    path.write_text(json.dumps(FULL_INFO))
    plan = read_vbench(path)
    names = [item.name for item in plan.items]
    assert len(names) == len(set(names)) == 25 + 5
    assert names[:2] == ["In a still frame, a stop sign-0", "In a still frame, a stop sign-1"]
    assert names[-1] == "a bird and a cat-4"
    assert "can't be the name of a file" in plan.skipped["a red/blue car"]
    assert [item.name for item in read_vbench(path, dimensions=("overall_consistency",), each=1).items] == [
        "a bird and a cat-0"
    ]
    with pytest.raises(InputError, match=r"dimension is 'colour'; .* has color, multiple_objects"):
        read_vbench(path, dimensions=("colour",))
    seeds = {item.seed(0) for item in plan.items}
    assert len(seeds) == 30 and seeds.isdisjoint(item.seed(1) for item in plan.items)
    assert Item(name=names[0], prompt="").seed(0) == plan.items[0].seed(0)
    for text, message in (("{}", "gives nothing"), ('[{"a": 1}]', "isn't a prompt file"), ("[", "can't be read")):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_vbench(path)


def scores_file(folder: Path, name: str, values: dict[str, float]) -> Path:
    """As ``vbench evaluate`` writes it."""
    path = folder / f"{name}_eval_results.json"
    videos = [{"video_path": "a.mp4", "video_results": 0.5}]
    path.write_text(json.dumps({key: [value, videos] for key, value in values.items()}))
    return path


def test_vbench_scores_are_read_back(tmp_path: Path) -> None:
    """A whole set adds up as VBench's own script does: here each measure at a third of its range."""
    third = {name: d.low + (d.high - d.low) / 3 for name, d in DIMENSIONS.items()}
    names = list(third)
    scores_file(tmp_path, "first", {name: third[name] for name in names[:9]})
    scores_file(tmp_path, "second", {name: third[name] for name in names[9:]})
    row = columns(read_scores([tmp_path]))
    assert list(row) == ["total", "quality", "semantic", *DIMENSIONS] and len(DIMENSIONS) == 16
    assert (row["total"], row["quality"], row["semantic"]) == (33.33, 33.33, 33.33)
    assert row["scene"] == round(100 * third["scene"], 2)
    best = {name: d.high for name, d in DIMENSIONS.items()}
    assert totals({**best, "dynamic_degree": 0.0})["quality"] == pytest.approx(100 * 6 / 6.5)
    assert totals({**best, "scene": 0.0})["total"] == pytest.approx(0.8 * 100 + 0.2 * 100 * 8 / 9)
    done = CliRunner().invoke(main, ["vbench-scores", str(tmp_path / "first_eval_results.json")])
    assert done.exit_code == 0, done.output
    assert "total: not measured (paper: 81.39)" in done.stdout and "scene: not measured" in done.stdout
    assert "quality: 33.33 (paper: 82.24)" in done.stdout
    done = CliRunner().invoke(main, ["vbench-scores", "--json", str(tmp_path)])
    assert json.loads(done.stdout)["columns"] == row


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"colour": [0.5, []]}', "has 'colour'; VBench's dimensions are subject_consistency"),
        ('{"imaging_quality": [68.1, []]}', "imaging_quality is 68.1; it must be in 0 to 1 (divide percents by 100)"),
        ('{"scene": [0.4, []]}', "has another scene than a file before it"),
        ('{"scene": 0.4}', "isn't a result of VBench"),
        ('{"scene": [NaN, []]}', "scene is nan"),
        ("[1]", "isn't a result of VBench"),
        ("no", "can't be read"),
    ],
)
def test_what_is_no_result_of_vbench(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=r"has no file \*_eval_results.json"):
        read_scores([tmp_path])
    scores_file(tmp_path, "a", {"scene": 0.5})
    (tmp_path / "b_eval_results.json").write_text(text)
    with pytest.raises(InputError) as caught:
        read_scores([tmp_path])
    assert words in str(caught.value)


def test_vbench_from_text(dit_folder: SaveDit, codec_folder: Path, pixart_folder: Path, tmp_path: Path) -> None:
    prompts, out = tmp_path / "all_dimension.txt", tmp_path / "out"
    prompts.write_text("a bird and a cat\n\na boat, in the style of Hokusai\n")
    words = ["vbench", prompts, "-m", dit_folder(), "--codec", codec_folder, "--text-to-image", pixart_folder]
    words += ["--steps", 2, "--each", 2, "-o", out, "--size", "64x32", "--precision", "float32"]
    words += ["--picture-steps", 2, "--picture-guidance", 1.5]
    done = run(*words)
    assert done.exit_code == 0, done.output
    names = [
        f"{prompt}-{number}.mp4"
        for prompt in ("a bird and a cat", "a boat, in the style of Hokusai")
        for number in (0, 1)
    ]
    assert sorted(path.name for path in (out / "clips").iterdir()) == names
    videos = [read_clip(out / "clips" / name) for name in names]
    assert videos[0].shape == (16, 32, 64, 3) and not (videos[0] == videos[1]).all()
    assert list(json.loads((out / "seeds.json").read_text())) == names
    found = result_of(out)
    assert found["clips"] == {"planned": 4, "made": 4, "left_out": 0} and found["published"]["total"] == 81.39
    (out / "clips" / names[1]).unlink()
    before = {name: (out / "clips" / name).stat().st_mtime_ns for name in names if name != names[1]}
    assert run(*words).exit_code == 0
    assert before == {name: (out / "clips" / name).stat().st_mtime_ns for name in before}
    again = np.abs(read_clip(out / "clips" / names[1]).astype(float) - videos[1]).mean()
    assert again < 0.1 * np.abs(videos[0].astype(float) - videos[1]).mean()  # H.264 of one level's difference


def test_vbench_from_pictures(dit_folder: SaveDit, codec_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "1-1").mkdir()
    Image.fromarray(moving_video(1, 80, 80)[0]).save(tmp_path / "1-1" / "a squirrel.jpg")
    (tmp_path / "1-1" / "broken.jpg").write_bytes(b"no picture")
    entries = [
        {"prompt_en": "a squirrel eats", "dimension": ["i2v_subject"], "image_name": "a squirrel.jpg"},
        {"prompt_en": "a squirrel, camera zooms in", "dimension": ["camera_motion"]},
        {"prompt_en": "a beach", "dimension": ["i2v_background"], "image_name": "a beach.jpg"},
        {"prompt_en": "broken", "dimension": ["i2v_background"], "image_name": "broken.jpg"},
    ]
    path, out = tmp_path / "vbench2_i2v_full_info.json", tmp_path / "out"
    path.write_text(json.dumps(entries))
    words = ["vbench", path, "-m", dit_folder(), "--codec", codec_folder, "--steps", 2, "-o", out, "--each", 1]
    neither = run(*words)
    assert neither.exit_code == 2 and "give one" in neither.stderr
    done = run(*words, "--images", tmp_path / "1-1")
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in (out / "clips").iterdir()) == [
        "a squirrel eats-0.mp4",
        "a squirrel, camera zooms in-0.mp4",
    ]
    assert set(result_of(out)["left_out"]) == {"a beach", "broken-0"}


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (("--text-encoder", "t5"), "takes no text", 2),
        (("--image-encoder", "clip"), "takes no semantic tokens", 2),
        (("--sampler", "euler"), "this model predicts noise", 2),
        (("--device", "cuda:7"), "can't be used here", 2),
        (("--codec", "no-such-codec"), "no model 'no-such-codec'", 1),
        (("--i3d", "I3D"), "SHA-256", 1),
    ],
    ids=str,
)
def test_what_goes_wrong(
    ucf: Path, networks: dict[str, Path], dit_folder: SaveDit, codec_folder: Path, tmp_path: Path,
    arguments: tuple[str, ...], message: str, code: int,
) -> None:  # fmt: skip
    words = [
        "ucf101",
        ucf,
        "-m",
        dit_folder(),
        "--codec",
        codec_folder,
        "--steps",
        1,
        "--clips",
        2,
        "-o",
        tmp_path / "out",
    ]
    done = run(*words, *(str(networks["i3d"]) if word == "I3D" else word for word in arguments))
    assert done.exit_code == code, done.output
    assert message in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists(), "refused before anything is made"
