"""What is exported gives in onnxruntime what the model gives in torch; what can't be exported is one line."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from reducio_codec.config import LiteConfig, ReducioConfig
from reducio_codec.errors import InputError, MissingDependencyError
from reducio_codec.integrations.onnx import export_onnx
from reducio_codec.models.contract import CodecModel, Reference
from reducio_codec.models.factory import build_model
from reducio_codec.models.lite.plan import plan_references
from reducio_codec.weights.io import save_model
from reducio_codec.weights.zoo import load_pretrained
from tests.cli.test_commands import refused, run
from tests.models.test_contract import CONFIGURATIONS
from tests.models.test_lite import WIDTHS, moving_clip, references, shaken

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is in the extras [test] and [onnx]")

SIZES = ((64, 96), (128, 64))
ONE, MANY, BESIDE, NEIGHBOURS = (7,), (3, 11, 15), (-2, 18), (-9, 7, 23)

pytestmark = pytest.mark.timeout(900)  # to export takes a minute of an idle machine, several of a busy one


def rounded(model: CodecModel) -> CodecModel:
    """The model with its weights as the graphs store them."""
    copy = deepcopy(model)
    for parameter in copy.parameters():
        parameter.data = parameter.data.half().float()
    return copy


def saved(config: Any, folder: Path) -> Path:
    torch.manual_seed(0)
    return save_model(shaken(build_model(config)), folder, card="")


def session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options)


def played(graph: Any, latent: Tensor, items: Sequence[Reference]) -> Tensor:
    """The clip (1, 3, 16, H, W), as a player makes it of a decoder's graph."""
    given = {"latent": latent}
    shown = torch.empty(2, 0, dtype=torch.int64)
    if items:
        plan = plan_references(
            [x.place for x in items], beside=[x.beside for x in items], present=[[True] * len(items)]
        )
        shown = plan.shown
        given |= {"references": torch.cat([x.picture for x in items]), **vars(plan)}
    frames, *mended = graph.run(None, {x.name: given[x.name].contiguous().numpy() for x in graph.get_inputs()})
    for frame, number in shown.T.tolist() if mended else ():
        frames[frame] = mended[0][number]
    return torch.from_numpy(frames).movedim(1, 0)[None]


def psnr(first: Tensor, second: Tensor) -> float:
    assert first.shape == second.shape
    return float(10 * torch.log10(4 / (first - second).square().mean().clamp_min(1e-20)))


@torch.no_grad()
def check_decoder(folder: Path, model: CodecModel, decoder: str, every_places: Sequence[tuple[int, ...]]) -> None:
    graph = session(folder / f"{decoder}.onnx")
    for height, width in SIZES:
        clip, latent = moving_clip(height, width), torch.randn(1, 16, 4, height // 32, width // 32)
        for places in every_places:
            items = references(clip, places)
            expected = model.decode(latent, items, decoder=decoder)
            assert expected.std() > 0.05
            assert psnr(played(graph, latent, items), expected) > 60, (places, height, width)


@torch.no_grad()
def check_encoder(folder: Path, model: CodecModel) -> None:
    clip = moving_clip(64, 64)
    mean = model.encode(clip).mode()
    assert mean.std() > 0.05
    graph = session(folder / "encoder.onnx")
    given = {"video": clip.numpy(), "references": clip[:, :, 7].contiguous().numpy()}
    found = graph.run(None, {x.name: given[x.name] for x in graph.get_inputs()})
    for value, expected in zip(found, (mean, model.latent(mean)), strict=True):
        assert psnr(torch.from_numpy(value), expected) > 60


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = LiteConfig(**WIDTHS, decoders=("attention", "add", "linear", "none"))
    return saved(config, tmp_path_factory.mktemp("models") / "toy")


@pytest.fixture(scope="module")
def graphs(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command wrote of the toy model."""
    folder = tmp_path_factory.mktemp("onnx") / "new" / "graphs"
    names = ("attention", "none", "encoder")
    done = run("export-onnx", toy, "-o", folder, "--tile", 64, *(word for name in names for word in ("--graph", name)))
    assert done.exit_code == 0, done.stderr
    assert done.stderr.splitlines() == [f"exporting {name}" for name in names]
    paths = [folder / name for name in ("attention.onnx", "none.onnx", "encoder.onnx", "model.json")]
    assert done.stdout.splitlines() == [f"{path}: {path.stat().st_size / 1000:,.0f} kB" for path in paths]
    return folder


@pytest.mark.parametrize(("decoder", "places"), [("attention", (ONE, MANY, BESIDE, NEIGHBOURS)), ("none", ((),))])
def test_decoders(toy: Path, graphs: Path, decoder: str, places: Sequence[tuple[int, ...]]) -> None:
    check_decoder(graphs, rounded(load_pretrained(toy)[0]), decoder, places)


def test_encoder(toy: Path, graphs: Path) -> None:
    check_encoder(graphs, rounded(load_pretrained(toy)[0]))


def test_the_description_tells_models_and_tensors(toy: Path, graphs: Path) -> None:
    info = load_pretrained(toy)[1]
    document = json.loads((graphs / "model.json").read_text())
    assert (document["model"], document["version"], document["hash"]) == ("toy", 1, info.hash)
    assert (document["latent_space"], document["latent_hash"]) == (info.latent_space, info.latent_hash)
    assert (document["format"], document["opset"], document["keyframe_index"]) == (1, 20, 7)
    assert [entry.get("tile") for entry in document["graphs"].values()] == [None, None, 64]
    assert list(document["graphs"]) == ["attention", "none", "encoder"]
    for name, entry in document["graphs"].items():
        path = graphs / entry["file"]
        assert path.stat().st_size == entry["bytes"]
        graph = session(path)
        for key, values in (("inputs", graph.get_inputs()), ("outputs", graph.get_outputs())):
            assert [(x["name"], x["shape"]) for x in entry[key]] == [(x.name, x.shape) for x in values], name
    inputs = {x["name"]: (x["dtype"], x["shape"]) for x in document["graphs"]["attention"]["inputs"]}
    assert inputs["latent"] == ("float32", [1, 16, 4, "h", "w"])
    assert inputs["references"] == ("float32", ["R", 3, "32*h", "32*w"])
    assert inputs["near"] == ("int64", [16]) and inputs["pairs"] == ("int64", [2, "P"])
    assert inputs["far"] == ("int64", ["N"]) and inputs["time"] == ("float32", ["N"])


def test_the_bundled_linear_decoder(tmp_path: Path) -> None:
    export_onnx("reducio-lite", tmp_path, graphs=["linear"])
    model, info = load_pretrained("reducio-lite")
    assert json.loads((tmp_path / "model.json").read_text())["hash"] == info.hash
    check_decoder(tmp_path, rounded(model), "linear", (ONE, MANY))
    assert (tmp_path / "linear.onnx").stat().st_size < 7e6
    assert (
        str(Path(__file__).parents[2]).encode() not in (tmp_path / "linear.onnx").read_bytes()
    )  # no paths of this machine


def test_the_papers_model(tmp_path: Path) -> None:
    config = CONFIGURATIONS["paper"]
    assert isinstance(config, ReducioConfig)
    export_onnx(saved(replace(config, decoders=("attention",)), tmp_path / "paper"), tmp_path / "graphs", tile=64)
    model = rounded(load_pretrained(tmp_path / "paper")[0])
    check_decoder(tmp_path / "graphs", model, "attention", (ONE,))
    check_encoder(tmp_path / "graphs", model)


def test_what_is_wrong_is_one_line_and_leaves_nothing(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    refused(run("export-onnx", "nothing", "-o", out), "no model 'nothing'", "reducio-lite", code=1)
    refused(run("export-onnx", toy, "-o", out, "--graph", "warp"), "'warp'", "attention, add, linear, none", code=2)
    refused(run("export-onnx", toy, "-o", out, "--tile", 100), "tile is 100", "multiple of 32", code=2)
    refused(run("export-onnx", toy, "-o", toy), "is not empty", code=2)
    refused(run("export-onnx", toy, "-o", toy / "config.json"), "is a file", code=2)
    monkeypatch.setattr("onnxscript.__version__", "0.7.0")
    refused(run("export-onnx", toy, "-o", out), "onnxscript 0.7.1 or later; 0.7.0 is installed", "pip install", code=1)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    refused(run("export-onnx", toy, "-o", out), "pip install 'reducio-codec[onnx]'", code=1)
    with pytest.raises(MissingDependencyError):
        export_onnx(toy, out)
    with pytest.raises(InputError, match="is not empty"):
        export_onnx(toy, toy)
    assert not out.exists()
