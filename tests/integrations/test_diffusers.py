"""What diffusers' own tests ask of an autoencoder, asked of ``AutoencoderKLReducio`` for both kinds of networks."""

from __future__ import annotations

import copy
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from diffusers.training_utils import EMAModel
from torch import Tensor

from reducio_codec import ReducioCodec
from reducio_codec.errors import InputError, WeightsError
from reducio_codec.integrations.diffusers import AutoencoderKLReducio
from reducio_codec.models.posterior import layer_norm_latent
from reducio_codec.weights.io import save_model
from tests.conftest import moving_square
from tests.helpers import moving_video
from tests.models.test_contract import CONFIGURATIONS, trained

PAPER, SMALL = "paper", "lite"
both = pytest.mark.parametrize("kind", [PAPER, SMALL])


def build(kind: str, device: torch.device | str = "cpu") -> AutoencoderKLReducio:
    config = CONFIGURATIONS[kind]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = AutoencoderKLReducio(architecture=config.architecture, network=config.to_json())
        trained(vae.model).requires_grad_(True)
    return vae.eval().to(device)


def video(frames: int = 16, height: int = 32, width: int = 32, *, batch: int = 1) -> Tensor:
    """(B, 3, T, H, W) in [-1, 1]."""
    clips = [torch.from_numpy(moving_video(frames, height, width, seed=seed)) for seed in range(batch)]
    return torch.stack(clips).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def psnr(one: Tensor, other: Tensor) -> float:
    return 10 * math.log10(4 / max((one.float() - other.float()).square().mean().item(), 1e-12))


@both
@torch.no_grad()
@pytest.mark.parametrize(("frames", "height", "width"), [(16, 32, 64), (1, 32, 32), (20, 30, 40)])
def test_shapes(kind: str, frames: int, height: int, width: int) -> None:
    vae, x, clips = build(kind), video(frames, height, width, batch=2), -(-frames // 16)
    encoded = vae.encode(x)
    z = encoded.latent_dist.mode()
    grid = [-(-side // vae.spatial_compression_ratio) for side in (height, width)]
    assert z.shape == (2, vae.config.latent_channels, clips * 16 // vae.temporal_compression_ratio, *grid)
    assert encoded.latent_dist.sample().shape == z.shape and encoded.keyframe.shape == (2, 3, clips, height, width)
    for name in vae.config.network["decoders"]:
        sample = vae.decode(z, keyframe=encoded.keyframe, decoder=name, num_frames=frames).sample
        assert sample.shape == x.shape and sample.isfinite().all()
    assert vae.decode(z, encoded.keyframe).sample.shape == (2, 3, 16 * clips, height, width)
    assert vae(x).sample.shape == x.shape


@both
@torch.no_grad()
def test_tuples_hold_what_the_outputs_do_and_calls_agree(kind: str) -> None:
    vae, x = build(kind), video()
    encoded, (posterior, keyframe) = vae.encode(x), vae.encode(x, return_dict=False)
    z = posterior.mode()
    assert torch.equal(encoded.latent_dist.mode(), z) and torch.equal(encoded.keyframe, keyframe)
    assert [torch.equal(one, other) for one, other in zip(encoded.to_tuple()[1:], (keyframe,), strict=True)] == [True]
    (sample,) = vae.decode(z, keyframe, return_dict=False)
    assert torch.equal(vae.decode(z, keyframe=keyframe).sample, sample)
    assert torch.equal(vae(x).sample, sample) and torch.equal(vae(x, return_dict=False)[0], sample)
    drawn = [vae(x, sample_posterior=True, generator=torch.Generator().manual_seed(seed)).sample for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    assert torch.equal(vae.decode(z[:, :, :], keyframe[:, :, 0]).sample, sample)  # one clip, one picture


@both
@torch.no_grad()
def test_latents_are_normalised_and_a_draw_lies_as_far_from_them_as_before_the_norm(kind: str) -> None:
    vae, x = build(kind), video(width=96)
    raw, found = vae.model.encode(x), vae.encode(x).latent_dist
    assert torch.allclose(found.mode(), vae.model.latent(raw.mean), atol=1e-5)
    if kind == PAPER:
        assert torch.equal(found.mode(), layer_norm_latent(raw.mean))
        scale = raw.mean.std((1, 2, 3, 4), correction=0, keepdim=True)
    else:
        scale = vae.model.latent_std[:, None, None, None]
    assert torch.allclose(found.std * scale, (raw.logvar / 2).exp(), rtol=1e-3)
    assert vae.config.scaling_factor == 1.0


@both
def test_gradients_are_recorded_where_the_caller_does(kind: str) -> None:
    vae, x = build(kind), video()
    assert vae(x).sample.requires_grad
    with torch.no_grad():
        assert not vae(x).sample.requires_grad
    vae.requires_grad_(False)
    assert not vae(x).sample.requires_grad
    posterior, keyframe = vae.encode(x, return_dict=False)
    inputs = [posterior.mode().requires_grad_(True), keyframe.requires_grad_(True)]
    grads = torch.autograd.grad(vae.decode(*inputs).sample.square().mean(), inputs)
    assert all(grad.abs().sum() > 0 for grad in grads)


@both
@pytest.mark.parametrize("tiled", [False, True])
def test_training_step(kind: str, tiled: bool, device: torch.device) -> None:
    frames = 17 if kind == SMALL else 16  # its decoders use the key frames of two clips
    vae, x = build(kind, device).train(), video(frames, 32, 64).to(device)
    if tiled:
        vae.enable_tiling(32, 32, 32, 32)
    ema = EMAModel(vae.parameters())
    before = copy.deepcopy(vae.state_dict())
    optimizer = torch.optim.Adam(vae.parameters(), lr=3e-4)
    losses = []
    for _ in range(3):
        loss = (vae(x).sample - x).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ema.step(vae.parameters())
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    for name, value in vae.named_parameters():
        if name.startswith(("model.encoder.", f"model.decoders.{vae.model.default_decoder}.")):
            assert value.grad is not None and value.grad.isfinite().all(), name
    changed = {name.split(".")[1] for name, value in vae.state_dict().items() if not torch.equal(value, before[name])}
    assert {"encoder", "decoders"} <= changed


@both
def test_gradient_checkpointing_keeps_less_and_changes_no_gradient(kind: str) -> None:
    kept, grads = [], []
    for checkpointing in (False, True):
        vae = build(kind).train()
        assert not vae.is_gradient_checkpointing
        if checkpointing:
            vae.enable_gradient_checkpointing()
            assert vae.is_gradient_checkpointing and vae.model.gradient_checkpointing
        sizes: dict[int, int] = {}
        alive: list[Tensor] = []

        def keep(value: Tensor, sizes: dict[int, int] = sizes, alive: list[Tensor] = alive) -> Tensor:
            sizes[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
            alive.append(value)
            return value

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
            loss = vae(video()).sample.square().mean()
        kept.append(sum(sizes.values()))
        loss.backward()
        grads.append({name: value.grad for name, value in vae.named_parameters()})
        vae.disable_gradient_checkpointing()
        assert not vae.is_gradient_checkpointing
    assert kept[1] < 0.95 * kept[0]
    for name, one in grads[0].items():
        if one is not None:
            torch.testing.assert_close(grads[1][name], one, atol=1e-6, rtol=1e-3)


@both
@torch.no_grad()
def test_tiling(kind: str) -> None:
    vae, x = build(kind), video(width=96)
    whole = vae(x).sample
    vae.enable_tiling(96, 96)  # one tile covers all
    assert torch.equal(vae(x).sample, whole)
    vae.enable_tiling(64, 64, 32, 32)
    tiled = vae(x).sample
    assert tiled.shape == whole.shape and not torch.equal(tiled, whole)
    vae.disable_tiling()
    assert torch.equal(vae(x).sample, whole)
    for side in (64, 160):
        vae.enable_tiling(side)
        assert vae(x).sample.shape == x.shape
    vae.enable_tiling()
    assert vae.tiling == vae.model.tiling


@torch.no_grad()
def test_tiles_of_a_trained_model_show_what_the_whole_does() -> None:
    vae, frames = AutoencoderKLReducio.from_pretrained("reducio-lite"), moving_square(16, width=256, height=128)
    x = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    whole = vae(x).sample
    vae.enable_tiling(tile_sample_min_height=128, tile_sample_stride_height=96)
    tiled = vae(x).sample
    assert psnr(tiled, whole) > 40 and abs(psnr(tiled, x) - psnr(whole, x)) < 0.3


@both
@torch.no_grad()
def test_slicing(kind: str) -> None:
    vae, x = build(kind), video(batch=3)
    together = vae(x).sample
    vae.enable_slicing()
    torch.testing.assert_close(vae(x).sample, together, atol=1e-4, rtol=0)
    vae.disable_slicing()
    assert torch.equal(vae(x).sample, together)


@both
@torch.no_grad()
def test_saved_and_loaded(kind: str, tmp_path: Path) -> None:
    vae, x = build(kind), video()
    vae.save_pretrained(tmp_path)
    for options in ({}, {"low_cpu_mem_usage": False}):
        loaded, facts = AutoencoderKLReducio.from_pretrained(tmp_path, output_loading_info=True, **options)
        assert not facts["missing_keys"] and not facts["unexpected_keys"] and not loaded.training
        assert all(value.requires_grad for value in loaded.parameters())
        assert loaded.config.network == vae.config.network
        assert torch.equal(loaded(x).sample, vae(x).sample)
    rebuilt = AutoencoderKLReducio.from_config(vae.config)
    assert {name: value.shape for name, value in rebuilt.state_dict().items()} == {
        name: value.shape for name, value in vae.state_dict().items()
    }
    parts = tmp_path / "parts"
    vae.save_pretrained(parts, max_shard_size="40KB", variant="ema")
    assert len(list(parts.glob("*.safetensors"))) > 1
    assert torch.equal(AutoencoderKLReducio.from_pretrained(parts, variant="ema")(x).sample, vae(x).sample)


@both
@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_types(kind: str, dtype: torch.dtype, tmp_path: Path, device: torch.device) -> None:
    vae, x = build(kind, device), video().to(device)
    exact = vae(x).sample
    vae.to(dtype).save_pretrained(tmp_path)
    for half in (vae, AutoencoderKLReducio.from_pretrained(tmp_path, torch_dtype=dtype).to(device)):
        assert half.dtype == dtype and half.device.type == device.type
        encoded = half.encode(x.to(dtype))
        z = encoded.latent_dist.sample()
        assert z.dtype == encoded.keyframe.dtype == dtype
        found = half(x).sample  # floats of any type are taken
        assert found.dtype == dtype and found.device == x.device and psnr(found, exact) > 30
    assert AutoencoderKLReducio.from_pretrained(tmp_path).dtype == torch.float32
    with pytest.raises(InputError, match=r"dtype is torch\.float64; allowed"):
        vae.to(torch.float64)(x)


@torch.no_grad()
def test_an_autocast_around_a_call_is_followed() -> None:
    vae, x = build(SMALL), video()
    exact = vae(x).sample
    with torch.autocast("cpu", torch.bfloat16):
        fast = vae(x).sample
    assert fast.dtype == torch.float32 and not torch.equal(fast, exact) and psnr(fast, exact) > 35


@torch.no_grad()
def test_our_names_and_folders_give_what_the_codec_gives(tmp_path: Path) -> None:
    save_model(build(SMALL).model, tmp_path, card="a card")
    for name in ("reducio-test", tmp_path):
        vae, codec, x = (
            AutoencoderKLReducio.from_pretrained(name),
            ReducioCodec.from_pretrained(name),
            video(20, 50, 70),
        )
        vae.enable_tiling()
        assert not vae.training and all(value.requires_grad for value in vae.parameters())
        latent, keyframe = codec.encode(x)
        posterior, own = vae.encode(x, return_dict=False)
        assert torch.equal(own, keyframe)
        torch.testing.assert_close(posterior.mode(), latent.plain(), atol=1e-4, rtol=0)
        for decoder in codec.decoders:
            sample = vae.decode(posterior.mode(), own, decoder=decoder, num_frames=20).sample
            expected = codec.decode(latent, keyframe, decoder=decoder)
            torch.testing.assert_close(sample.clamp(-1, 1), expected, atol=2e-3, rtol=0)
        back = ReducioCodec(vae.model)  # and the other way
        assert torch.equal(back.encode(x)[0].plain(), latent.plain())
    assert AutoencoderKLReducio.from_pretrained("reducio-test", torch_dtype=torch.bfloat16).dtype == torch.bfloat16
    with pytest.raises(InputError, match="variant has no effect on 'reducio-test'; allowed: torch_dtype, dtype"):
        AutoencoderKLReducio.from_pretrained("reducio-test", variant="fp16")
    with pytest.raises(InputError, match=r"dtype is 'auto'; allowed: .*torch\.float32"):
        AutoencoderKLReducio.from_pretrained("reducio-test", torch_dtype="auto")
    with pytest.raises(WeightsError, match="no model 'reducio-light': not bundled"):
        AutoencoderKLReducio.from_pretrained("reducio-light")


class Pipeline(DiffusionPipeline):  # type: ignore[misc]
    def __init__(self, vae, scheduler):  # type: ignore[no-untyped-def]  # diffusers 0.34 can't read postponed ones
        super().__init__()
        self.register_modules(vae=vae, scheduler=scheduler)


def test_a_pipeline_saves_and_loads_it(tmp_path: Path) -> None:
    Pipeline(build(SMALL), FlowMatchEulerDiscreteScheduler()).save_pretrained(tmp_path)
    loaded = Pipeline.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    assert isinstance(loaded.vae, AutoencoderKLReducio) and loaded.vae.dtype == torch.bfloat16
    assert AutoencoderKLReducio.from_pretrained(tmp_path, subfolder="vae").config.architecture == "lite"


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("encode", {"x": torch.zeros(3, 16, 64, 64)}, r"video is torch\.float32 \(3, 16, 64, 64\); allowed: float \(B, 3"),
    ("encode", {"x": torch.zeros(1, 3, 16, 64, 64, dtype=torch.uint8)}, r"video is torch\.uint8"),
    ("encode", {"x": [1]}, "video is a list"),
    ("encode", {"x": torch.zeros(1, 3, 16, 64, 64), "keyframe_index": 16}, "keyframe_index is 16"),
    ("decode", {"z": torch.zeros(1, 16, 4, 2, 2)}, "keyframe is None; the decoder 'attention' needs it"),
    ("decode", {"z": torch.zeros(1, 16, 3, 2, 2)}, "keyframe is None"),
    ("decode", {"z": torch.zeros(1, 16, 3, 2, 2), "keyframe": torch.zeros(1, 3, 64, 64)}, "latent has shape"),
    ("decode", {"z": torch.zeros(1, 16, 8, 2, 2), "keyframe": torch.zeros(1, 3, 64, 64)}, "keyframe has shape"),
    ("decode", {"z": torch.zeros(1, 16, 4, 2, 2), "keyframe": torch.zeros(1, 3, 64, 64), "num_frames": 17}, "holds 1 to 16"),
    ("decode", {"z": torch.zeros(1, 16, 4, 2, 2), "keyframe": torch.zeros(1, 3, 64, 64), "decoder": "x"}, "decoder is 'x'"),
    ("decode", {"z": torch.zeros(1, 16, 3, 2, 2), "decoder": "none"}, "latent has shape"),
    ("decode", {"z": torch.zeros(1, 16, 2), "decoder": "none"}, "latent is"),
    ("enable_tiling", {"tile_sample_min_height": 64, "tile_sample_min_width": 96}, "tiles are square"),
    ("enable_tiling", {"tile_sample_min_height": 100}, "tile_size is 100"),
    ("enable_tiling", {"tile_sample_min_width": 0}, "tile_size is 0"),
    ("enable_tiling", {"tile_sample_stride_width": 0}, "tile_overlap is 1952"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "arguments", "message"), WRONG)
def test_what_is_wrong_is_named(call: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        getattr(build(SMALL), call)(**arguments)


def test_a_wrong_configuration_is_named() -> None:
    for options, message in (
        ({"architecture": "vae"}, "architecture is 'vae'; allowed: lite, reducio"),
        ({"architecture": "lite", "network": {"channels": 8}}, "unknown key 'channels'"),
        ({"architecture": "lite", "latent_channels": 8}, "latent_channels is 8; this network has 16"),
    ):
        with pytest.raises(InputError, match=message):
            AutoencoderKLReducio(**options)


@torch.no_grad()
def test_the_decoder_without_key_frames() -> None:
    vae = build(SMALL)
    z = torch.randn(2, 16, 8, 2, 3, generator=torch.Generator().manual_seed(0))
    found = vae.decode(z, decoder="none").sample
    assert found.shape == (2, 3, 32, 64, 96)
    assert torch.equal(found, vae.decode(z, torch.ones(2, 3, 2, 64, 96), decoder="none").sample)


def test_without_diffusers_the_error_names_the_extra() -> None:
    code = "import sys; sys.modules['diffusers'] = None; import reducio_codec.integrations.diffusers"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "MissingDependencyError" in done.stderr and "pip install 'reducio-codec[generate]'" in done.stderr
