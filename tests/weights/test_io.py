"""Model folders: what is written comes back, and everything that doesn't fit is refused by name."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from reducio_codec.config import LiteConfig, ReducioConfig
from reducio_codec.errors import InputError, WeightsError
from reducio_codec.models.lite.model import ReducioLite
from reducio_codec.models.reducio.vae import ReducioVAE
from reducio_codec.weights import io, zoo
from reducio_codec.weights.card import ModelCard, read_licence
from reducio_codec.weights.layout import CARD_FILE, CONFIG_FILE, ENTROPY_FILE, TENSOR_FILE
from tests.helpers import decode

CONFIG = LiteConfig(channels_4=4, channels_8=4, channels_16=4, channels_32=8, decoders=("linear", "add", "none"))
CARD = ModelCard(name="tiny", licence="MIT", summary="For tests.", training_data=["nothing"], limits=["all"]).text()


@pytest.fixture(scope="module")
def model() -> ReducioLite:
    torch.manual_seed(0)
    network = ReducioLite(CONFIG).eval()
    with torch.no_grad():  # layers that start at zero would hide a decoder that got another one's weights
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network


@pytest.fixture
def folder(model: ReducioLite, tmp_path: Path) -> Path:
    return io.save_model(model, tmp_path / "tiny", card=CARD)


def change_config(folder: Path, **values: Any) -> None:
    path = folder / CONFIG_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / TENSOR_FILE)
    change(tensors)
    save_file(tensors, folder / TENSOR_FILE)


def test_a_saved_model_comes_back_bit_for_bit(model: ReducioLite, folder: Path) -> None:
    loaded, info = io.load_model(folder)
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
        assert loaded.state_dict()[key].data_ptr() % 64 == 0, key  # else some CPUs give other last bits
    assert info.id == "tiny"
    assert info.licence == "mit"
    assert info.decoders == ("linear", "add", "none")
    assert info.parameters == sum(p.numel() for p in model.parameters())
    assert info.entropy_file is None
    latent, keyframe = torch.randn(1, 16, 4, 1, 1), torch.zeros(1, 3, 32, 32)
    with torch.inference_mode():
        for name in info.decoders:
            assert torch.equal(
                decode(loaded, latent, keyframe, decoder=name),
                decode(model, latent, keyframe, decoder=name),
            )


def test_half_precision_on_disk_is_single_in_memory(model: ReducioLite, tmp_path: Path) -> None:
    folder = io.save_model(model, tmp_path / "half", card=CARD, dtype=torch.float16)
    with safe_open(folder / TENSOR_FILE, framework="pt") as file:
        assert {file.get_tensor(key).dtype for key in file.keys()} == {torch.float16}  # noqa: SIM118
    single, info = io.load_model(folder)
    assert {p.dtype for p in single.parameters()} == {torch.float32}
    other, same = io.load_model(folder, dtype=torch.bfloat16)
    assert {p.dtype for p in other.parameters()} == {torch.bfloat16}
    assert info.hash == same.hash


def test_one_decoder_loads_without_reading_the_others(
    folder: Path, model: ReducioLite, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []

    class Spy:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.file = safe_open(*args, **kwargs)

        def __enter__(self) -> Spy:
            self.file.__enter__()
            return self

        def __exit__(self, *args: object) -> None:
            self.file.__exit__(*args)

        def keys(self) -> Any:
            return self.file.keys()

        def get_slice(self, key: str) -> Any:
            return self.file.get_slice(key)

        def get_tensor(self, key: str) -> torch.Tensor:
            read.append(key)
            return self.file.get_tensor(key)

    monkeypatch.setattr(io, "safe_open", Spy)
    loaded, info = io.load_model(folder, decoders=("none",))
    assert info.decoders == ("none",)
    assert not [key for key in read if key.startswith(("decoders.linear", "decoders.add"))]
    assert info.parameters < sum(p.numel() for p in model.parameters())
    latent, keyframe = torch.randn(1, 16, 4, 1, 1), torch.zeros(1, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(
            decode(loaded, latent, keyframe),
            decode(model, latent, keyframe, decoder="none"),
        )


def test_decoders_keep_the_models_order(folder: Path) -> None:
    assert io.load_model(folder, decoders=("add", "linear"))[1].decoders == ("linear", "add")


def test_the_papers_model_comes_back_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = ReducioConfig(
        base_channels=32, depth=1, content_channels=32, content_depth=1, decoders=("attention", "add", "linear", "none")
    )
    network = ReducioVAE(config)
    loaded, info = io.load_model(io.save_model(network, tmp_path / "paper", card=CARD))
    assert loaded.config == config
    assert info.decoders == config.decoders
    for key, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    assert io.load_model(tmp_path / "paper", decoders=("linear",))[0].decoder_names == ("linear",)


@pytest.mark.parametrize("wanted", [("linear", "sharp"), ()])
def test_unknown_decoder_lists_the_known(folder: Path, wanted: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="linear, add, none"):
        io.load_model(folder, decoders=wanted)


def test_hash_sees_weights_configuration_and_tables_but_not_the_card(model: ReducioLite, tmp_path: Path) -> None:
    first = io.load_model(io.save_model(model, tmp_path / "a", card=CARD))[1]
    assert first.hash == io.load_model(io.save_model(model, tmp_path / "b", card="# other"))[1].hash
    assert first.short_hash == first.hash[:16]
    tables = io.load_model(io.save_model(model, tmp_path / "c", card=CARD, entropy={"tables": [1, 2]}))[1]
    assert tables.entropy_file == tmp_path / "c" / ENTROPY_FILE
    change_tensors(tmp_path / "b", lambda tensors: tensors["latent_std"].mul_(2))
    other = io.load_model(tmp_path / "b")[1]
    assert len({first.hash, tables.hash, other.hash}) == 3


def test_latent_hash_sees_statistics_and_tables_but_no_weights(model: ReducioLite, tmp_path: Path) -> None:
    """A file goes on being readable when a decoder or the encoder is trained again, or left out."""
    tables = {"tables": [1, 2]}
    first = io.load_model(io.save_model(model, tmp_path / "a", card=CARD, entropy=tables))[1]
    io.save_model(model, tmp_path / "b", card=CARD, entropy=tables)
    change_tensors(tmp_path / "b", lambda tensors: tensors["decoders.linear.out_4.bias"].add_(1))
    other = io.load_model(tmp_path / "b")[1]
    assert other.hash != first.hash
    assert other.latent_hash == first.latent_hash == io.load_model(tmp_path / "b", decoders=("linear",))[1].latent_hash
    assert first.latent_hash != io.load_model(io.save_model(model, tmp_path / "c", card=CARD))[1].latent_hash
    change_tensors(tmp_path / "b", lambda tensors: tensors["trunk.in_conv.bias"].add_(1))
    assert io.load_model(tmp_path / "b")[1].latent_space == first.latent_space, "the same encoder"
    change_tensors(tmp_path / "b", lambda tensors: tensors["encoder.in_conv.bias"].add_(1))
    assert io.load_model(tmp_path / "b")[1].latent_space != first.latent_space
    assert io.load_model(tmp_path / "b")[1].latent_hash == first.latent_hash
    change_tensors(tmp_path / "b", lambda tensors: tensors["latent_std"].add_(1))
    assert io.load_model(tmp_path / "b")[1].latent_hash != first.latent_hash


def test_a_model_says_its_version(model: ReducioLite, tmp_path: Path) -> None:
    """It changes no hash: a number that says when the rest was made."""
    first = io.load_model(io.save_model(model, tmp_path / "a", card=CARD))[1]
    later = io.load_model(io.save_model(model, tmp_path / "b", card=CARD, version=7))[1]
    assert (first.version, later.version) == (1, 7) and first.hash == later.hash
    config = json.loads((tmp_path / "b" / CONFIG_FILE).read_text())
    (tmp_path / "b" / CONFIG_FILE).write_text(json.dumps({**config, "version": 0}))
    with pytest.raises(WeightsError, match="version is 0; allowed: whole numbers from 1"):
        io.load_model(tmp_path / "b")


def test_a_name_may_have_several_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    newest = zoo.list_models()[0]
    monkeypatch.setattr(zoo, "_ENTRIES", (*zoo.list_models(), replace(newest, version=newest.version + 1)))
    assert zoo.resolve("reducio-lite").folder.name == "reducio-lite"
    older = f"reducio-lite@{newest.version}"
    assert zoo.resolve(older).folder.name == older
    assert zoo.find_entry(f"reducio-lite@{newest.version + 2}") is None


def test_everyone_may_read_what_the_umask_lets(folder: Path) -> None:
    assert (folder / TENSOR_FILE).stat().st_mode == (folder / CONFIG_FILE).stat().st_mode


def test_expected_hash_is_checked(folder: Path) -> None:
    digest = io.file_sha256(folder / TENSOR_FILE)
    io.load_model(folder, expected_sha256=digest.upper())
    with pytest.raises(WeightsError, match="sha256"):
        io.load_model(folder, expected_sha256="0" * 64)


@pytest.mark.parametrize("name", [CONFIG_FILE, TENSOR_FILE])
def test_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(WeightsError, match=name):
        io.load_model(folder)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"format": 2}, "newer"),
        ({"format": None}, "format"),
        ({"architecture": "gan"}, "lite, reducio"),
        ({"depth": 3}, "depth"),
        ({"channels_4": 5}, "channels_4"),
        ({"channels_4": "wide"}, "config.json"),
        ({"architecture": "aligned"}, "architecture is 'aligned'; known: lite, reducio"),
        ({"decoders": ["linear", "warp"]}, "attention, add, linear, none, sharp, each once"),
        ({"decoders": 3}, "config.json"),
    ],
)
def test_bad_configuration_is_named(folder: Path, values: dict[str, Any], word: str) -> None:
    change_config(folder, **values)
    with pytest.raises(WeightsError, match=word):
        io.load_model(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"3"])
def test_configuration_that_is_no_object(folder: Path, content: bytes) -> None:
    (folder / CONFIG_FILE).write_bytes(content)
    with pytest.raises(WeightsError, match=CONFIG_FILE):
        io.load_model(folder)


def test_first_wrong_key_is_named(folder: Path) -> None:
    change_tensors(folder, lambda tensors: tensors.pop("encoder.in_conv.weight"))
    with pytest.raises(WeightsError, match=r"encoder\.in_conv\.weight is missing"):
        io.load_model(folder)


def test_unknown_key_is_named(folder: Path) -> None:
    change_tensors(folder, lambda tensors: tensors.update({"loss.weight": torch.zeros(1)}))
    with pytest.raises(WeightsError, match=r"loss\.weight isn't part"):
        io.load_model(folder)


def test_wrong_shape_is_named(folder: Path) -> None:
    change_tensors(folder, lambda tensors: tensors.update({"latent_std": torch.ones(15)}))
    with pytest.raises(WeightsError, match=r"latent_std has shape \(15,\).*\(16,\)"):
        io.load_model(folder)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_tensors(folder: Path, keep: int) -> None:
    path = folder / TENSOR_FILE
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match=TENSOR_FILE):
        io.load_model(folder)


def test_nothing_half_written_where_saving_fails(model: ReducioLite, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Exception, match="file"):
        io.save_model(model, tmp_path / "file", card=CARD)
    folder = io.save_model(model, tmp_path / "tiny", card=CARD)
    assert sorted(path.name for path in folder.iterdir()) == sorted([CARD_FILE, CONFIG_FILE, TENSOR_FILE])


def test_card_carries_the_licence(tmp_path: Path) -> None:
    assert read_licence(tmp_path) == "unknown"
    for text, licence in [
        (CARD, "mit"),
        ("# no front matter\nlicense: mit\n", "unknown"),
        ("---\ntags: [a]\n---\nlicense: gpl\n", "unknown"),
    ]:
        (tmp_path / CARD_FILE).write_text(text)
        assert read_licence(tmp_path) == licence
    for heading in ("# tiny", "## Use", "## Training data", "- nothing", "## Limits"):
        assert heading in CARD


def test_a_model_is_loaded_without_sympy() -> None:
    """Some of torch's functions on the meta device import it: a third of a second, and 33 MB, of every command."""
    code = (
        "import sys; from reducio_codec import ReducioCodec; ReducioCodec.from_pretrained('reducio-test'); "
        "sys.exit('sympy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
