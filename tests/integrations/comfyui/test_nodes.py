"""ComfyUI's nodes: imported from their folder as ComfyUI does, and the workflows that lie beside them, run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from reducio_codec.errors import InputError, VideoError
from tests.conftest import moving_square
from tests.integrations.comfyui.graph import NODES, core_nodes, folders, load_nodes, run


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = folders(tmp_path)
    monkeypatch.setitem(sys.modules, "folder_paths", module)
    return module


@pytest.fixture
def nodes(paths: ModuleType) -> dict[str, Any]:
    module = load_nodes()
    return dict(module.NODE_CLASS_MAPPINGS)


def images(count: int, height: int = 48, width: int = 64) -> torch.Tensor:
    return torch.from_numpy(moving_square(count, width=width, height=height)).float() / 255


def workflow(name: str) -> dict[str, Any]:
    return dict(json.loads((NODES / "workflows" / f"{name}.json").read_text(encoding="utf-8")))


def test_the_folder_keeps_to_comfyuis_conventions(paths: ModuleType) -> None:
    module = load_nodes()
    assert set(module.NODE_CLASS_MAPPINGS) == set(module.NODE_DISPLAY_NAME_MAPPINGS)
    for name, kind in module.NODE_CLASS_MAPPINGS.items():
        assert name.startswith("Reducio") and kind.CATEGORY == "reducio" and kind.DESCRIPTION
        assert callable(getattr(kind, kind.FUNCTION)) and isinstance(kind.RETURN_TYPES, tuple)
        assert len(getattr(kind, "RETURN_NAMES", kind.RETURN_TYPES)) == len(kind.RETURN_TYPES)
        for options in kind.INPUT_TYPES()["required"].values():
            assert isinstance(options, tuple) and isinstance(options[0], str | list)
            if isinstance(options[0], str) and len(options) > 1:
                assert "default" in options[1]
    table = (NODES / "README.md").read_text(encoding="utf-8")
    for title in module.NODE_DISPLAY_NAME_MAPPINGS.values():
        assert f"| {title.removesuffix(' (Reducio)')} |" in table


def test_the_workflow_of_a_video(
    paths: ModuleType, nodes: dict[str, Any], tmp_path: Path, make_video: Callable[..., Path]
) -> None:
    make_video("video.mp4", frames=20, width=128, height=96).rename(tmp_path / "input" / "video.mp4")
    found = run(workflow("video"), {**nodes, **core_nodes(paths)})
    source, (motion, keyframes), decoded = found["2"][0], found["4"], found["5"][0]
    assert motion["samples"].shape == (1, 16, 8, 3, 4) and motion["num_frames"] == 20
    assert keyframes.shape == (2, 96, 128, 3) and torch.allclose(keyframes[0], source[7], atol=1e-6)
    assert decoded.shape == source.shape and decoded.min() >= 0 and decoded.max() <= 1
    still = (source - keyframes.repeat_interleave(16, 0)[:20]).square().mean()
    assert (decoded - source).square().mean() < 0.5 * still
    assert found["7"] == ("reducio/video_00001_.rdc [output]",)
    assert (tmp_path / "output/reducio/video_00001_.rdc").is_file()
    (from_file, fps) = found["8"]
    assert from_file.shape == source.shape and fps == found["2"][2] == 16
    assert (from_file - source).square().mean() < 0.6 * still
    for name in ("decoded", "from_file"):
        with Image.open(tmp_path / f"output/reducio/{name}_00001_.webp") as made:
            assert made.size == (128, 96) and getattr(made, "n_frames", 1) > 10
    (codec,) = found["3"]
    for decoder in ("linear", "none"):
        assert not torch.equal(nodes["ReducioDecode"]().decode(codec, motion, keyframes, decoder)[0], decoded)
    (part, _) = nodes["ReducioLoadFile"]().load(codec, found["7"][0], 3, 5)
    assert torch.equal(part, from_file[3:8])


def test_the_workflow_of_a_picture(paths: ModuleType, nodes: dict[str, Any], tmp_path: Path) -> None:
    Image.fromarray(moving_square(1, width=96, height=64)[0]).save(tmp_path / "input" / "picture.png")
    found = run(workflow("picture"), {**nodes, **core_nodes(paths)})
    picture, video = found["1"][0], found["3"][0]
    assert video.shape == (16, 64, 96, 3) and (video[7] - picture[0]).abs().max() < 0.01
    assert (video[0] - video[15]).abs().mean() > 0
    with Image.open(tmp_path / "output/reducio/generated_00001_.webp") as made:
        assert getattr(made, "n_frames", 1) > 10


def test_a_changed_key_frame_moves_along(nodes: dict[str, Any]) -> None:
    (codec,) = nodes["ReducioLoadCodec"]().load("reducio-lite", "cpu", "float32")
    source = images(16, 96, 128)
    motion, keyframes = nodes["ReducioEncode"]().encode(codec, source)
    plain, darker = (
        nodes["ReducioDecode"]().decode(codec, motion, keyframes * scale, "default")[0] for scale in (1, 0.5)
    )
    assert (darker - plain / 2).abs().mean((1, 2, 3)).max() < 0.03  # in every frame
    assert (plain[0] - plain[15]).abs().mean() > 0.04


def test_batches_and_odd_sizes(nodes: dict[str, Any]) -> None:
    (codec,) = nodes["ReducioLoadCodec"]().load("reducio-test", "auto", "auto")
    one, other = (nodes["ReducioEncode"]().encode(codec, images(20, 37, 51) * scale) for scale in (1, 0.5))
    motion = {**one[0], "samples": torch.cat([one[0]["samples"], other[0]["samples"]])}
    (both,) = nodes["ReducioDecode"]().decode(codec, motion, torch.cat([one[1], other[1]]), "default")
    assert both.shape == (40, 37, 51, 3)
    (alone,) = nodes["ReducioDecode"]().decode(codec, *other, "default")
    assert torch.allclose(both[20:], alone, atol=1e-3)
    (whole_clips,) = nodes["ReducioDecode"]().decode(codec, {"samples": other[0]["samples"]}, other[1], "default")
    assert whole_clips.shape[0] == 32


def test_what_is_wrong_is_named(paths: ModuleType, nodes: dict[str, Any], tmp_path: Path) -> None:
    (codec,) = nodes["ReducioLoadCodec"]().load("reducio-test", "cpu", "float32")
    with pytest.raises(InputError, match="images have 4 channels; allowed: 3"):
        nodes["ReducioEncode"]().encode(codec, torch.zeros(1, 32, 32, 4))
    motion, keyframes = nodes["ReducioEncode"]().encode(codec, images(20))
    with pytest.raises(InputError, match="key"):
        nodes["ReducioDecode"]().decode(codec, motion, keyframes[:1], "default")
    np.save(tmp_path / "secret.npy", np.zeros(1))
    for name in ("../secret.npy", str(tmp_path / "secret.npy"), "../secret.npy [output]"):
        with pytest.raises(InputError, match="allowed: files in ComfyUI's input folder"):
            nodes["ReducioLoadFile"]().load(codec, name, 0, 0)
    with pytest.raises((InputError, VideoError), match=r"missing\.rdc"):
        nodes["ReducioLoadFile"]().load(codec, "missing.rdc", 0, 0)
    (file,) = nodes["ReducioSaveFile"]().save(codec, images(5), 16.0, 50, "a")["result"]
    with pytest.raises(InputError, match=r"start is 5; a_00001_\.rdc \[output\] has frames 0 to 4"):
        nodes["ReducioLoadFile"]().load(codec, file, 5, 0)
    with pytest.raises(AssertionError, match="outside the output folder"):
        nodes["ReducioSaveFile"]().save(codec, images(5), 16.0, 50, "../../a")
