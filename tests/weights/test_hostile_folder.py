"""Model folders made to break a loader: whatever their JSON says, the end is one error of ours, soon."""

from __future__ import annotations

import json
import shutil
import struct
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from reducio_codec.codec import ReducioCodec
from reducio_codec.errors import WeightsError
from reducio_codec.generate.config import DiTConfig
from reducio_codec.generate.dit import ReducioDiT
from reducio_codec.generate.folder import load_dit, read_config
from reducio_codec.rdc.entropy import LatentCoder
from reducio_codec.weights.io import load_model
from reducio_codec.weights.zoo import BUNDLED

TEXTS = {
    "deep list": "[" * 100_000,
    "deep object": '{"a":' * 100_000,
    "long number": "9" * 100_000,
    "no JSON": "{",
    "a list": "[]",
    "nothing": "",
}


def folder(path: Path, **files: str) -> Path:
    for source in (BUNDLED / "reducio-test").iterdir():
        if source.name != "README.md":
            (path / source.name).symlink_to(source)
    for name, text in files.items():
        (path / f"{name}.json").unlink()
        (path / f"{name}.json").write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("what", TEXTS)
def test_text_that_is_no_object(what: str, tmp_path: Path) -> None:
    place = folder(tmp_path, config=TEXTS[what], entropy=TEXTS[what])
    for load in (load_model, LatentCoder.load, read_config):
        with pytest.raises(WeightsError):
            load(place)


CLAIMS: list[tuple[str, dict[str, Any]]] = [
    *(("lite", {"channels_4": value}) for value in (1 << 59, 1 << 31, 16.0, 1e308, "16", None, True, [4], -4)),
    *(("lite", {"architecture": value}) for value in (["lite"], {"lite": 1}, None, 5)),
    *(("lite", {"format": value}) for value in ([1], "1", 1 << 70)),
    *(("lite", {"version": value}) for value in ([1], "1", 0, 1 << 70, True)),
    ("lite", {"decoders": 5}),
    ("lite", {"x" * 60_000: 1}),
    *(("lite", {name: "x" * 60_000}) for name in ("architecture", "format", "version", "decoders", "channels_4")),
    *(("lite", {"decoders": ["linear", value]}) for value in ("x" * 60_000, [1] * 60_000)),
    ("lite", {"decoders": ["linear"] * 60_000}),
    ("lite", {"decoders": [["linear"]]}),
    ("lite", {"channels_32": 1 << 40}),
    *(("reducio", {"depth": value}) for value in (1 << 31, 1 << 16, 2.0)),
    ("reducio", {"content_depth": 100_000}),
    ("reducio", {"base_channels": 1 << 16, "channel_multipliers": [1 << 16] * 6}),
    ("reducio", {"channel_multipliers": [1, 2, 2.0, 4, 4, 4]}),
    ("reducio", {"fuse_levels": [[2]]}),
    ("reducio", {"norm_groups": 1 << 60}),
]


@pytest.mark.parametrize(("architecture", "values"), CLAIMS, ids=lambda value: f"{value!s:.60}")
def test_numbers_that_no_model_has(architecture: str, values: dict[str, Any], tmp_path: Path) -> None:
    place = folder(tmp_path, config=json.dumps({"architecture": architecture, "format": 1, **values}))
    began = time.process_time()
    with pytest.raises(WeightsError) as caught:
        load_model(place)
    assert time.process_time() - began < 3
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("values", [{"depth": 1 << 31}, {"width": 1 << 60}, {"heads": 2.0}, {"depth": "2"}], ids=str)
def test_numbers_that_no_transformer_has(values: dict[str, Any], tmp_path: Path) -> None:
    assert read_config(BUNDLED / "reducio-dit-small").depth
    place = folder(tmp_path, config=json.dumps({"architecture": DiTConfig.architecture, "format": 1, **values}))
    with pytest.raises(WeightsError):
        read_config(place)


@pytest.mark.parametrize("kind", ["I16", "U16"])
def test_whole_numbers_where_weights_belong(kind: str, tmp_path: Path) -> None:
    """As many bytes each, so that nothing else is wrong."""
    data = (shutil.copytree(BUNDLED / "reducio-test", tmp_path / "model") / "model.safetensors").read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    head = data[8 : 8 + size].replace(b'"F16"', f'"{kind}"'.encode())
    assert head != data[8 : 8 + size]
    (tmp_path / "model" / "model.safetensors").write_bytes(data[:8] + head + data[8 + size :])
    with pytest.raises(WeightsError, match="int16"):
        load_model(tmp_path / "model")


def test_tables_of_another_number_of_channels(tmp_path: Path) -> None:
    tables = json.loads((BUNDLED / "reducio-test" / "entropy.json").read_text())
    fewer = {name: value[:5] if isinstance(value, list) else value for name, value in tables.items()}
    place = folder(tmp_path, entropy=json.dumps(fewer))
    with pytest.raises(WeightsError, match="5 channels"):
        ReducioCodec.from_pretrained(place)


def test_whole_numbers_where_a_transformers_weights_belong(tmp_path: Path) -> None:
    config = {"architecture": "dit", "format": 1, "depth": 1, "width": 96, "heads": 4, "content_base": 32}
    place = folder(tmp_path, config=json.dumps(config))
    (tmp_path / "model.safetensors").unlink()
    state = ReducioDiT(read_config(place)).state_dict()
    save_file({key: value.to(torch.int8).contiguous() for key, value in state.items()}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="int8"):
        load_dit(place)
