"""Published checkpoints: what comes out computes what the published code computes, and anything else is refused."""

import csv
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reducio_codec import ReducioCodec
from reducio_codec.config import ReducioConfig
from reducio_codec.errors import ReducioError, WeightsError
from reducio_codec.models.reducio.fusion import time_embedding
from reducio_codec.models.reducio.vae import ReducioVAE
from reducio_codec.weights.convert import convert_checkpoint, from_published, infer_config
from tests.helpers import decode

PARITY = Path(__file__).parents[2].parent / "shared" / "parity"
needs_parity = pytest.mark.skipif(not PARITY.parent.is_dir(), reason="the reference's outputs aren't in this checkout")


def reference_weight(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The value that the reference outputs were computed with."""
    if key.endswith("pos_embed"):
        return time_embedding(shape[1], shape[3])
    draw = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode()))).standard_normal(shape, dtype=np.float32)
    if key.endswith("temp_embed"):
        draw = np.float32(0.1) * draw
    elif len(shape) >= 2:
        draw = draw / np.float32(np.sqrt(np.prod(shape[1:])))
    elif key.endswith(".weight"):
        draw = 1 + np.float32(0.1) * draw
    else:
        draw = np.float32(0.05) * draw
    return torch.from_numpy(np.asarray(draw))


def reference_state(name: str) -> dict[str, torch.Tensor]:
    keys = json.loads((PARITY / f"{name}.json").read_text())["keys"]
    return {key: reference_weight(key, tuple(shape)) for key, shape in keys}


def lightning(state: dict[str, torch.Tensor], path: Path, *, prefix: str = "") -> Path:
    extra: dict[str, Any] = {"epoch": 3, "optimizer_states": [{"state": {}}], "pytorch-lightning_version": "2.0.1"}
    loss = {"loss.logvar": torch.zeros(()), "loss.discriminator.main.0.weight": torch.zeros(4, 3, 4, 4, 4)}
    torch.save({"state_dict": {prefix + key: value for key, value in {**state, **loss}.items()}, **extra}, path)
    return path


def relative(a: torch.Tensor, b: np.ndarray) -> float:
    reference = torch.from_numpy(b.astype(np.float32))
    return float((a - reference).norm() / reference.norm())


@needs_parity
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("decoder", ["attention", "add", "linear"])
def test_agrees_with_the_published_code(decoder: str, prefix: str, tmp_path: Path) -> None:
    name = f"ft4_{'attn' if decoder == 'attention' else decoder}_w32"
    checkpoint = lightning(reference_state(name), tmp_path / "model.ckpt", prefix=prefix)
    codec = ReducioCodec.from_pretrained(convert_checkpoint(checkpoint, tmp_path / "model"))
    assert codec.decoders == (decoder,)
    expected = np.load(PARITY / f"{name}.npz")
    video = torch.from_numpy(expected["video"]).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    with torch.inference_mode():
        posterior = codec.model.encode(video)
        latent = codec.model.latent(posterior.mean)
        recon = decode(codec.model, latent, video[:, :, 7])
    assert relative(posterior.mean[0], expected["mean"]) < 1e-4
    assert relative(posterior.logvar[0], expected["logvar"]) < 1e-4
    assert relative(latent[0], expected["latent"]) < 1e-4
    assert relative(recon[0], expected["recon"]) < 2e-3


@needs_parity
@pytest.mark.parametrize("factor", [4, 2])
def test_full_published_model_maps_key_by_key(factor: int) -> None:
    with (PARITY / "published_ft4_keys.tsv").open() as file:
        shapes = {row["key"]: tuple(map(int, row["shape"].split("x"))) for row in csv.DictReader(file, delimiter="\t")}
    shapes = {key: shape for key, shape in shapes.items() if not key.startswith("loss.")}
    if factor == 2:
        shapes["decoder.mid.fuse.0.pos_embed"] = (1, 8, 1, 512)
        shapes["encoder_3d.down.3.downsample.conv.weight"] = (512, 512, 1, 3, 3)
    assert infer_config(shapes) == ReducioConfig(temporal_compression_ratio=factor)
    embeddings = {key: time_embedding(s[1], s[3]) for key, s in shapes.items() if key.endswith("pos_embed")}
    model = from_published({key: embeddings.get(key, torch.zeros(1).expand(shape)) for key, shape in shapes.items()})
    assert model.config.temporal_compression_ratio == factor


@pytest.fixture(scope="module")
def tiny() -> dict[str, torch.Tensor]:
    """Published names and shapes of a small model, without the reference's files."""
    config = ReducioConfig(base_channels=32, content_channels=32, depth=1, content_depth=1)
    model = ReducioVAE(config)
    state = {}
    for key, value in model.state_dict().items():
        key = key.replace("decoders.attention.post_quant_conv", "post_quant_conv")
        key = key.replace("decoders.attention.", "decoder.").replace("content.", "encoder_2d.", 1)
        key = "encoder_3d." + key[8:] if key.startswith("encoder.") else key
        for name in ("to_q", "to_k", "to_v", "to_out"):
            key = key.replace(f".fuse.{name}", f".fuse.0.attn.{name}")
        state[key.replace(".fuse.norm", ".fuse.0.norm").replace("to_out.", "to_out.0.")] = value
    return state


def test_a_bare_dictionary_is_read_too(tiny: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save(tiny, tmp_path / "bare.ckpt")
    folder = convert_checkpoint(tmp_path / "bare.ckpt", tmp_path / "out")
    assert ReducioCodec.from_pretrained(folder).decoders == ("attention",)
    assert "licen" in (folder / "README.md").read_text()


def test_what_does_not_fit_is_refused_by_name(tiny: dict[str, torch.Tensor]) -> None:
    missing = {key: value for key, value in tiny.items() if key != "encoder_3d.mid.block_1.conv1.weight"}
    with pytest.raises(WeightsError, match=r"mid\.block_1\.conv1\.weight is missing"):
        from_published(missing)
    with pytest.raises(WeightsError, match=r"decoder\.up\.2\.extra"):
        from_published({**tiny, "quant_conv.decoder.up.2.extra": torch.zeros(1)})
    with pytest.raises(WeightsError, match="unexpected shape"):
        from_published({**tiny, "quant_conv.bias": torch.zeros(3)})
    with pytest.raises(WeightsError, match="fixed embedding"):
        from_published({**tiny, "decoder.mid.fuse.0.pos_embed": torch.zeros(1, 4, 1, 128)})
    with pytest.raises(WeightsError, match="not a checkpoint of Reducio-VAE"):
        from_published({"weight": torch.zeros(1)})


class Hostile:
    def __reduce__(self) -> Any:
        return (print, ("this must never run",))


def test_code_in_a_pickle_never_runs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": {"a": Hostile()}}, tmp_path / "bad.ckpt")
    with pytest.raises(WeightsError, match="more than tensors"):
        convert_checkpoint(tmp_path / "bad.ckpt", tmp_path / "out")
    assert "never run" not in capfd.readouterr().out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04broken"])
def test_other_files(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.ckpt").write_bytes(content)
    with pytest.raises(ReducioError, match=r"checkpoint|is empty"):
        convert_checkpoint(tmp_path / "x.ckpt", tmp_path / "out")
