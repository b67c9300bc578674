"""The reconstruction benchmark: floors, this package's models, rFVD, the table, the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import bench.codecs.ours as ours
from bench.__main__ import main
from bench.codecs.floors import COEFFICIENTS, floors, zone
from bench.json_files import PUBLISHED
from bench.markdown import markdown
from bench.methods import Candidate, NotRunError
from bench.quality import METRICS, Quality, pack, unpack
from bench.reconstruction import PROTOCOL, run
from bench.results import ResultStore
from bench.subjects import LITE_TINY
from bench.tables import everything, reconstruction
from reducio_codec import ReducioCodec
from reducio_codec.config import ReducioConfig
from reducio_codec.metrics.frechet import frechet_distance
from reducio_codec.models.lite.model import ReducioLite
from reducio_codec.models.reducio.vae import ReducioVAE
from reducio_codec.weights.io import save_model
from tests.bench.fakes import NO_NETWORKS, drop_sample, missing_codec, quiet, video_folder
from tests.helpers import TinyModel, moving_video


def floor(name: str, clip: np.ndarray):
    candidate = next(candidate for candidate in floors() if candidate.name == name)
    return candidate.points["exact"]()(clip)


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    return moving_video(16, 96, 64, seed=1)


def test_floors(clip: np.ndarray) -> None:
    assert np.array_equal(floor("source", clip).frames, clip)
    repeated = floor("repeat-keyframe", clip)
    assert np.array_equal(repeated.frames, np.repeat(clip[7:8], 16, axis=0))
    assert repeated.latent == {"positions": 0, "values": 0, "pixels": clip[7].size}
    faded = floor("interpolate-two-keyframes", clip)
    assert np.array_equal(faded.frames[0], clip[0]) and np.array_equal(faded.frames[15], clip[15])
    expected = clip[0] * (2 / 3) + clip[15] * (1 / 3)
    assert np.abs(faded.frames[5] - expected).max() <= 0.5
    assert faded.latent["pixels"] == 2 * clip[0].size


def test_dct_floor_keeps_low_frequencies_only(clip: np.ndarray) -> None:
    found = floor("keyframe+dct4096", clip)
    assert found.latent["values"] <= COEFFICIENTS
    assert np.array_equal(found.frames[7], clip[7])
    error = np.square(found.frames.astype(float) - clip).mean()
    assert error < 0.9 * np.square(clip[7].astype(float) - clip).mean()


def test_zone_is_a_fixed_corner() -> None:
    kept = zone((16, 64, 64), count=200)
    assert kept.sum() == 200 and kept[0, 0, 0] and kept[1, 0, 0] and not kept[15, 63, 63]


class Networkless:
    """Stands for I3D: four numbers of a clip."""

    sha256 = "0" * 64

    def __call__(self, clip: np.ndarray) -> np.ndarray:
        return np.array([clip.mean(), clip.std(), clip[0].mean(), clip[:, 0].mean()], np.float32)


def ours_candidate(model: TinyModel) -> Candidate:
    codec = ReducioCodec(model, model_id="tiny", model_hash="1234")
    return Candidate(
        name="tiny", points={name: (lambda n=name: ours.Tensors(codec=codec, decoder=n)) for name in ("mean", "copy")}
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return video_folder(tmp_path_factory.mktemp("data"), {"a.mp4": 32, "b.mp4": 16}, height=256, width=256)


@pytest.fixture(scope="module")
def results(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    quality = replace(NO_NETWORKS, i3d=Networkless())
    methods = [floors()[0], floors()[1], ours_candidate(TinyModel()), missing_codec("sdxl-vae")]
    assert run(methods, data=data, results=folder, quality=quality, console=quiet()) == []
    return folder


def test_every_metric_is_stored(results: Path) -> None:
    store = ResultStore(folder=results, protocol=PROTOCOL)
    rows = store.load("tiny").points
    assert set(rows) == {"mean", "copy"} and len(rows["mean"]) == 3
    row = rows["mean"]["a.mp4@00016"]
    assert set(row["metrics"]) == set(METRICS)
    assert row["metrics"]["lpips"] == "not run: needs a.pth"
    assert row["latent"] == {"positions": 4 * 8 * 8, "values": 16 * 4 * 8 * 8, "pixels": 3 * 256 * 256}
    repeated = store.load("repeat-keyframe").points["exact"]["a.mp4@00016"]["metrics"]
    assert rows["copy"]["a.mp4@00016"]["metrics"] == pytest.approx(repeated)  # "copy" is the same, learned
    assert row["metrics"]["psnr_pooled"] != repeated["psnr_pooled"]


def test_table(results: Path) -> None:
    text = reconstruction(ResultStore(folder=results, protocol=PROTOCOL))
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("|")}
    assert "not run: this machine has none" in lines["sdxl-vae"]
    assert "30.54 / 0.85 / 0.08 / 19.87" in lines["sdxl-vae"]
    assert "not run: published only" in lines["reducio (paper)"]
    assert "not run: needs a.pth" in lines["tiny, mean"]
    assert "source" not in lines
    cells = [cell.strip() for cell in lines["repeat-keyframe"].split("|")]
    store = ResultStore(folder=results, protocol=PROTOCOL)
    rows = store.load("repeat-keyframe").points["exact"]
    mean = np.mean([row["metrics"]["psnr_pooled"] for row in rows.values()])
    assert cells[5].startswith(f"{mean:.2f} [")
    sides = [store.load(name).points["exact"] for name in ("source", "repeat-keyframe")]
    features = [np.stack([unpack(rows[name]["i3d"]) for name in sorted(rows)]) for rows in sides]
    assert cells[10] == f"{frechet_distance(*features):.2f}"
    assert "3 clips" in text and "2 videos" in text


def test_an_incomplete_method_gets_no_numbers(results: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "results"
    shutil.copytree(results, copy)
    drop_sample(copy / "reconstruction" / "tiny.jsonl", point="mean", sample="b.mp4@00000")
    text = everything(copy)
    assert "incomplete: 2 of 3 samples (b.mp4@00000 is missing)" in text
    line = next(line for line in text.splitlines() if "incomplete" in line)
    assert "[" not in line


def test_features_travel_as_text() -> None:
    values = np.random.default_rng(0).normal(size=400).astype(np.float32)
    assert np.array_equal(unpack(pack(values)), values)


def test_unknown_decoders_and_models_do_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        ours.ReducioCodec,
        "from_pretrained",
        classmethod(lambda cls, name, **options: ReducioCodec(TinyModel(), model_id=name, **options)),
    )
    candidate = ours.reconstructors("some/folder", decoders=["mean", "linear"])
    assert candidate.name == "folder"
    assert ours.reconstructors("runs/lite-1-minute/model", decoders=["linear"]).name == "lite-1-minute"
    assert candidate.points["mean"]().settings["decoder"] == "mean"
    with pytest.raises(NotRunError, match="mean, copy"):
        candidate.points["linear"]()
    monkeypatch.undo()
    with pytest.raises(NotRunError, match="not bundled"):
        ours.reconstructors("nothing-of-this-name", decoders=["linear"]).points["linear"]()


def test_the_image_vae_runs_from_its_folder(tmp_path: Path) -> None:
    config = ReducioConfig(
        conv="image", content_frame="none", decoders=("none",), temporal_compression_ratio=1,
        spatial_compression_ratio=8, latent_channels=4, base_channels=32, channel_multipliers=(1, 1, 1, 1), depth=1,
    )  # fmt: skip
    folder = save_model(ReducioVAE(config), tmp_path / "image-vae-1-minute" / "model", card="# tiny")
    assert (ours.image_vae(folder).name, ours.image_vae(None).name) == ("image-vae-1-minute", "image-vae")
    found = ours.image_vae(folder).points["mode"]()(moving_video(16, 64, 64, seed=1))
    assert found.frames.shape == (16, 64, 64, 3)
    assert found.latent == {"positions": 16 * 8 * 8, "values": 4 * 16 * 8 * 8, "pixels": 0}
    assert ours.image_vae(folder, dtype=torch.bfloat16).points["mode"]().settings["dtype"] == "bfloat16"
    with pytest.raises(NotRunError, match="train image-vae"):
        ours.image_vae(None).points["mode"]()
    with pytest.raises(NotRunError, match="another kind of model"):
        ours.image_vae(save_model(ReducioLite(LITE_TINY), tmp_path / "lite", card="# tiny")).points["mode"]()


def test_missing_networks_become_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(pytest.importorskip("huggingface_hub.constants"), "HF_HUB_CACHE", str(tmp_path / "hub"))
    quality = Quality.open()
    assert quality.describe()["lpips"]["net"] == "alex"  # comes with the package
    assert Quality.open(lpips_net="vgg").lpips == "not run: needs vgg16-397923af.pth"
    assert quality.i3d == "not run: needs i3d_torchscript.pt"


def test_published_numbers_are_the_papers() -> None:
    published = json.loads(PUBLISHED.read_text())
    assert published["rows"]["reducio (paper)"]["psnr"] == 35.88
    assert all({"table", "line"} <= set(row) for row in published["rows"].values())


def test_command(data: Path, tmp_path: Path) -> None:
    command = ["run", "reconstruction", "--data", str(data), "-o", str(tmp_path / "r"), "--limit", "1"]
    done = CliRunner().invoke(main, [*command, "--methods", "repeat-keyframe,omnitokenizer"])
    assert done.exit_code == 0, done.output
    assert "omnitokenizer mode: not run" in done.output
    done = CliRunner().invoke(main, ["table", str(tmp_path / "r")])
    assert done.exit_code == 0 and "| repeat-keyframe |" in done.output and "2 clips" in done.output
    done = CliRunner().invoke(main, [*command, "--methods", "mpeg1"])
    assert done.exit_code == 2 and "repeat-keyframe" in done.output
    done = CliRunner().invoke(main, ["table", str(tmp_path / "empty")])
    assert done.exit_code == 2 and "neither" in done.output


def test_cells_cannot_break_a_table() -> None:
    assert markdown([["a"], ["x|y"]]).splitlines() == ["| a |", "|---|", "| x\\|y |"]
