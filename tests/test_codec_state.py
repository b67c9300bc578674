"""The codec as an object: where it is, what it computes in, how it is saved, and what it says of itself."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from reducio_codec import ReducioCodec
from reducio_codec.config import ReducioConfig, TilingConfig
from reducio_codec.errors import InputError
from reducio_codec.models.factory import build_model
from reducio_codec.models.precision import as_dtype, resolve_dtype
from reducio_codec.weights.card import read_licence
from reducio_codec.weights.io import load_model, save_model
from tests.helpers import ConvModel, TinyModel, moving_video

VIDEO = moving_video(18, 40, 50)
NAMES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
}


def tiny_paper() -> ReducioConfig:
    return ReducioConfig(
        base_channels=8,
        content_channels=8,
        channel_multipliers=(1, 1, 1, 1, 1, 1),
        content_multipliers=(1, 1, 1, 1),
        depth=1,
        content_depth=1,
        norm_groups=4,
    )


# ------------------------------------------------------------------ dtype


@pytest.mark.parametrize("name", NAMES)
def test_dtypes_by_name(name: str, tmp_path: Path) -> None:
    assert as_dtype(name) == resolve_dtype(name, device=torch.device("cpu")) == NAMES[name]  # type: ignore[arg-type]
    assert ReducioCodec(TinyModel(), dtype=name).dtype == NAMES[name]  # type: ignore[arg-type]
    codec = ReducioCodec.from_pretrained("reducio-test", dtype=name)  # type: ignore[arg-type]
    assert codec.dtype == NAMES[name]
    save_model(build_model(tiny_paper()), tmp_path / "m", card="", dtype=name)  # type: ignore[arg-type]
    model, _ = load_model(tmp_path / "m", dtype=name)  # type: ignore[arg-type]
    assert next(model.parameters()).dtype == NAMES[name]


@pytest.mark.parametrize("bad", ["float8", "int8", "", torch.int8, 16, None])
def test_other_dtypes_are_refused(bad: object) -> None:
    with pytest.raises(InputError, match=r"dtype is .*; allowed: 'auto', .*float32.*bf16"):
        ReducioCodec(TinyModel(), dtype=bad)  # type: ignore[arg-type]


# ------------------------------------------------------------------ to


def test_to_is_chained_and_in_place() -> None:
    codec = ReducioCodec(ConvModel())
    exact = codec.encode(VIDEO)[0]
    for moved in (codec.to("cpu", torch.bfloat16), codec.to(dtype="bf16"), codec.to("bf16"), codec.to(torch.bfloat16)):
        assert moved is codec and codec.dtype == torch.bfloat16 and codec.device == torch.device("cpu")
    assert not torch.equal(codec.encode(VIDEO)[0], exact)
    assert torch.equal(codec.to("float32").encode(VIDEO)[0], exact)
    assert torch.equal(codec.to(torch.device("cpu")).encode(VIDEO)[0], exact)
    assert codec.to("auto").dtype in (torch.float32, torch.bfloat16)


def test_to_another_device_moves_model_and_work(device: torch.device) -> None:
    codec = ReducioCodec(ConvModel())
    file = io.BytesIO()
    codec.compress(list(VIDEO), file, rate=8)
    with codec.open_file(file) as video:
        codec.to(device)
        assert {p.device.type for p in codec.model.parameters()} == {device.type} == {codec.device.type}
        latent, keyframe = codec.encode(VIDEO)
        assert latent.device.type == "cpu"  # where the video lay
        assert codec.decode(latent, keyframe).shape == (1, 3, 18, 40, 50)
        assert len(video[:]) == 18  # what was opened before moves along
    assert codec.to("cpu").device == torch.device("cpu")
    assert {p.device.type for p in codec.model.parameters()} == {"cpu"}


def test_to_refuses_and_changes_nothing() -> None:
    codec = ReducioCodec(TinyModel())
    for arguments, message in (
        (("tpu",), "device 'tpu'"),
        (("cpu", torch.int8), "dtype is torch.int8"),
        ((torch.bfloat16, "bf16"), "dtype is given twice"),
        ((), "neither a device nor a dtype"),
    ):
        with pytest.raises(InputError, match=message):
            codec.to(*arguments)
    assert (codec.device, codec.dtype) == (torch.device("cpu"), torch.float32)


def test_an_optimised_model_keeps_its_dtype() -> None:
    codec = ReducioCodec(build_model(tiny_paper()), dtype="bf16")
    assert codec.to("cpu", "bfloat16").dtype == torch.bfloat16
    with pytest.raises(InputError, match=r"was changed for bfloat16.*from_pretrained\(\.\.\., dtype='float32'"):
        codec.to("float32")
    with pytest.raises(InputError, match=r"was changed for bfloat16.*can't be saved"):
        codec.save_pretrained("nowhere")
    codec = ReducioCodec(build_model(tiny_paper()))
    assert codec.to("bf16").model.optimized_dtype == torch.bfloat16


# ------------------------------------------------------------------ save


def test_what_is_saved_is_the_same_codec(tmp_path: Path) -> None:
    codec = ReducioCodec.from_pretrained("reducio-test")
    folder = codec.save_pretrained(tmp_path / "mine")
    assert folder == tmp_path / "mine"
    again = ReducioCodec.from_pretrained(folder)
    assert again.latent_hash == codec.latent_hash and again.version == codec.version
    assert again.decoders == codec.decoders and again.model_id == "mine"
    latent, keyframe = codec.encode(VIDEO)
    found, picture = again.encode(VIDEO)
    assert torch.equal(found, latent)
    assert torch.equal(again.decode(found, picture), codec.decode(latent, keyframe))
    first, second = io.BytesIO(), io.BytesIO()
    assert (
        codec.compress(list(VIDEO), first, rate=8).latent_bytes
        == again.compress(list(VIDEO), second, rate=8).latent_bytes
    )
    with again.open_file(first) as a, codec.open_file(first) as b:
        assert np.array_equal(a[:], b[:])
    assert read_licence(folder) == "mit"
    assert "# mine" in (folder / "README.md").read_text()


def test_saving_smaller_and_in_part(tmp_path: Path) -> None:
    codec = ReducioCodec.from_pretrained("reducio-test", decoders="linear")
    size = [
        (codec.save_pretrained(tmp_path / name, dtype=name) / "model.safetensors").stat().st_size
        for name in ("fp32", "fp16")
    ]
    assert size[1] < 0.6 * size[0]
    for name in ("fp32", "fp16"):  # it is stored as float16 already
        again = ReducioCodec.from_pretrained(tmp_path / name)
        assert again.decoders == codec.decoders and again.latent_hash == codec.latent_hash
        assert torch.equal(again.encode(VIDEO)[0], codec.encode(VIDEO)[0])


def test_a_model_without_tables_is_saved_without(tmp_path: Path) -> None:
    save_model(build_model(tiny_paper()), tmp_path / "a", card="")
    codec = ReducioCodec.from_pretrained(tmp_path / "a")
    folder = codec.save_pretrained(tmp_path / "b")
    assert not (folder / "entropy.json").exists()
    assert ReducioCodec.from_pretrained(folder).latent_hash == codec.latent_hash
    codec.save_pretrained(folder)  # its own folder, again
    with pytest.raises(InputError, match="is a file"):
        codec.save_pretrained(folder / "config.json")


def test_another_model_is_not_mixed_into_the_folder_of_one(tmp_path: Path) -> None:
    ReducioCodec.from_pretrained("reducio-test").save_pretrained(tmp_path)
    codec = ReducioCodec(build_model(tiny_paper()))
    codec.save_pretrained(tmp_path)
    assert not (tmp_path / "entropy.json").exists()  # the other's tables
    assert ReducioCodec.from_pretrained(tmp_path).decoders == codec.decoders


# ------------------------------------------------------------------ repr


def test_it_says_what_it_is() -> None:
    codec = ReducioCodec.from_pretrained("reducio-test", dtype="bf16")
    parameters = sum(p.numel() for p in codec.model.parameters())
    assert repr(codec) == (
        f"ReducioCodec('reducio-test', version={codec.version}, decoders={codec.decoders!r}, device='cpu', "
        f"dtype='bfloat16', parameters={parameters:_})"
    )
    assert "float32" in repr(codec.to("float32"))


# ------------------------------------------------------------------ gradients


def test_gradients_through_decoding_by_one_switch() -> None:
    codec = ReducioCodec(ConvModel(), tiling=TilingConfig(tile_size=64, tile_overlap=32))
    latent, keyframe = codec.encode(moving_video(18, 80, 100))
    given, picture = latent.clone().requires_grad_(), keyframe.clone().requires_grad_()
    plain = codec.decode(given, picture)
    assert not plain.requires_grad
    video = codec.decode(given, picture, grad=True)
    assert torch.equal(video, plain) and video.requires_grad
    target = torch.rand_like(video)

    def loss(z: torch.Tensor) -> torch.Tensor:
        return (codec.decode(z, keyframe, grad=True) - target).square().mean()

    (video - target).square().mean().backward()
    assert given.grad is not None and picture.grad is not None
    assert bool(given.grad.abs().sum((0, 1, 3, 4)).all()) and bool(picture.grad.abs().sum((0, 1, 3, 4)).all())
    way = given.grad.sign()  # along which the loss changes by more than single precision rounds off
    step = 1e-2
    numeric = (loss(latent + step * way) - loss(latent - step * way)) / (2 * step)
    torch.testing.assert_close((given.grad * way).sum(), numeric, rtol=0.02, atol=1e-5)


def test_gradients_of_the_bundled_decoders() -> None:
    codec = ReducioCodec.from_pretrained("reducio-test")
    latent, keyframe = codec.encode(VIDEO[:16])
    for name in codec.decoders:
        given = latent.clone().requires_grad_()
        codec.decode(given, keyframe, decoder=name, grad=True).mean().backward()
        assert given.grad is not None and bool(given.grad.any()), name
    assert not any(p.grad is not None for p in codec.model.parameters())  # frozen unless somebody wants to train them
    with torch.no_grad():
        assert not codec.decode(latent, keyframe, grad=True).requires_grad


def test_gradients_that_cannot_be() -> None:
    codec = ReducioCodec(TinyModel())
    pair = codec.encode(VIDEO)
    with pytest.raises(InputError, match="grad is True, which has no effect on output='uint8'"):
        codec.decode(*pair, output="uint8", grad=True)
    codec = ReducioCodec(build_model(tiny_paper()), dtype="bf16")
    latent, keyframe = torch.zeros(1, 16, 4, 1, 1), torch.zeros(1, 3, 1, 32, 32)
    with pytest.raises(InputError, match=r"was changed for bfloat16.*has no gradients"):
        codec.decode(latent, keyframe, grad=True)
