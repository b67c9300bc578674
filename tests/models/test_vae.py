"""The paper's model: its interface, its fusions, its fast path. That it computes what the published code does is tested
with the checkpoints (tests/weights/test_convert.py)."""

from __future__ import annotations

import copy
import math
from typing import cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from reducio_codec.config import ReducioConfig
from reducio_codec.errors import InputError
from reducio_codec.models.contract import Reference
from reducio_codec.models.reducio.fusion import build_fusion
from reducio_codec.models.reducio.layers import convolution
from reducio_codec.models.reducio.vae import ReducioVAE
from tests.helpers import decode

ALL = ("attention", "add", "linear", "none")


SMALL = {"base_channels": 32, "content_channels": 32, "depth": 1, "channel_multipliers": (1, 1, 1, 2, 2, 2)}


def tiny(**changes: object) -> ReducioVAE:
    torch.manual_seed(0)
    return ReducioVAE(ReducioConfig(**{**SMALL, **changes}))  # type: ignore[arg-type]


def clip(*, height: int = 64, width: int = 96, batch: int = 1) -> Tensor:
    coarse = torch.randn(batch, 3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    return functional.interpolate(coarse, size=(16, height, width), mode="trilinear").clamp(-1, 1)


def decibels(a: Tensor, b: Tensor) -> float:
    return 10 * math.log10(4 / max((a - b).square().mean().item(), 1e-12))


def test_posterior() -> None:
    model = tiny()
    posterior = model.encode(clip(batch=2))
    assert posterior.mean.shape == posterior.logvar.shape == (2, 16, 4, 2, 3)
    assert torch.equal(posterior.mode(), posterior.mean)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([posterior.sample(generator) for _ in range(64)])
    deviation = (0.5 * posterior.logvar).exp()
    assert ((drawn.mean(0) - posterior.mean).abs() / deviation).mean() < 0.2  # 64 draws: 0.1 expected
    latent = model.latent(posterior.mean)
    torch.testing.assert_close(latent.mean((1, 2, 3, 4)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(latent.var((1, 2, 3, 4), correction=0), torch.ones(2), atol=1e-3, rtol=0)


def test_decoders_share_one_latent() -> None:
    model, video = tiny(decoders=ALL), clip()
    with torch.no_grad():
        latent = model.latent(model.encode(video).mode())
        outputs = {name: decode(model, latent, video[:, :, 7], decoder=name) for name in ALL}
    assert model.default_decoder == "attention"
    for name, output in outputs.items():
        assert output.shape == video.shape, name
        assert output.isfinite().all(), name
    others = decode(model, latent, -video[:, :, 7], decoder="none")
    assert torch.equal(outputs["none"], others)  # it doesn't see the key frame


@pytest.mark.parametrize("name", ["add", "linear", "attention"])
def test_a_fusion_learns_what_the_key_frame_holds(name: str) -> None:
    """The target is in the context alone. The published add and linear stay at their start: zeros times zeros."""
    torch.manual_seed(0)
    fusion = build_fusion(name, channels=32, context_channels=32, frames=4, kind="3d", groups=32)  # type: ignore[arg-type]
    assert fusion is not None
    x, context = 0.1 * torch.randn(2, 32, 4, 8, 8), torch.randn(2, 32, 8, 8)
    target = context[:, :, None].expand(-1, -1, 4, -1, -1).relu()
    optimizer = torch.optim.Adam(fusion.parameters(), lr=1e-2)
    losses = []
    for _ in range(80):
        loss = functional.mse_loss(fusion(x, context), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.75 * losses[0]
    for key, parameter in fusion.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, key


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    plain = tiny(decoders=("add",))
    saving = copy.deepcopy(plain)
    saving.gradient_checkpointing = True
    for model in (plain, saving):
        torch.manual_seed(0)
        decoded, posterior = model(clip(height=32, width=32))
        (decoded.square().mean() + posterior.mean.square().mean()).backward()
    for (key, ours), theirs in zip(plain.named_parameters(), saving.parameters(), strict=True):
        if ours.grad is None:
            assert theirs.grad is None, key
        else:
            torch.testing.assert_close(theirs.grad, ours.grad, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {"decoders": ALL},
        {"temporal_compression_ratio": 2},
        {"temporal_compression_ratio": 1, "spatial_compression_ratio": 16, "channel_multipliers": (1, 1, 2, 2, 2)},
        {
            "conv": "2d",
            "temporal_compression_ratio": 1,
            "spatial_compression_ratio": 64,
            "channel_multipliers": (1, 1, 1, 1, 2, 2, 2),
        },
    ],
    ids=["ft4", "ft2", "ft1-fs16", "ft1-fs64-2d"],
)
@pytest.mark.parametrize(("dtype", "least_db"), [(torch.float32, 100.0), (torch.bfloat16, 40.0)])
def test_the_fast_path_is_the_same_model(changes: dict[str, object], dtype: torch.dtype, least_db: float) -> None:
    """float32 differs by rounding. Full-size figures are measured by ``python -m bench speed``; toys have a weak signal."""
    model = tiny(**changes).eval()
    video = clip(height=64, width=64)
    fast = copy.deepcopy(model).optimize_for_inference(dtype=dtype)
    with torch.no_grad():
        mean = model.encode(video).mode()
        latent = model.latent(mean)
        assert decibels(model.latent(fast.encode(video).mode()), latent) > (90 if dtype == torch.float32 else 30)
        for name in model.decoder_names:
            expected = decode(model, latent, video[:, :, 7], decoder=name)
            found = decode(fast, latent, video[:, :, 7], decoder=name)
            assert found.dtype == torch.float32
            assert decibels(found, expected) > least_db, name


@pytest.mark.parametrize("winograd", [False, True])
def test_the_fast_path_in_windows(winograd: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut into bands of a few rows and pairs of frames, as large pictures are, it is still the same function."""
    from reducio_codec.models.reducio import windows

    monkeypatch.setattr(windows, "CPU_BAND_BYTES", 40_000)
    model = tiny().eval()
    fast = copy.deepcopy(model)
    fast.optimize_for_inference(dtype=torch.float32, winograd=winograd)
    video = clip(batch=2)
    with torch.no_grad():
        latent = model.latent(model.encode(video).mode())
        assert decibels(decode(fast, latent, video[:, :, 7]), decode(model, latent, video[:, :, 7])) > 100


def test_an_optimised_model_is_neither_saved_nor_optimised_again() -> None:
    model = tiny(decoders=("none",)).optimize_for_inference()
    with pytest.raises(InputError, match="save it before"):
        model.state_dict()
    with pytest.raises(InputError, match="optimised already"):
        model.optimize_for_inference()
    with pytest.raises(InputError, match=r"dtype is torch\.int8"):
        tiny().optimize_for_inference(dtype=torch.int8)


def test_bad_input_names_the_value() -> None:
    model, video = tiny(), clip()
    latent = torch.zeros(1, 16, 4, 2, 3)
    for call, message in [
        (lambda: model.encode(video[:, :, :15]), r"video has shape \(1, 3, 15, 64, 96\)"),
        (lambda: model.encode(video[..., :90]), "multiples of 32"),
        (lambda: model.encode(video.to(torch.uint8)), r"video is torch\.uint8"),
        (lambda: model.encode(video, references=[Reference.of_frame(video, 3)]), "trained with the middle frame, 7"),
        (
            lambda: model.encode(video, references=[Reference.of_frame(video[..., :32, :], 7)]),
            r"\(1, 3, 32, 96\); it must be",
        ),
        (lambda: decode(model, latent[:, :8], video[:, :, 7]), r"latent is torch.float32 \(1, 8, 4, 2, 3\)"),
        (lambda: decode(model, latent, video[:, :, 7], decoder="warp"), "decoder is 'warp'; allowed: attention"),
        (lambda: decode(model, latent, video[:, :, 7, :, :40]), r"a reference is torch.float32 \(1, 3, 64, 40\)"),
    ]:
        with pytest.raises(InputError, match=message):
            call()


def narrow(**changes: object) -> ReducioVAE:
    return tiny(base_channels=8, channel_multipliers=(1, 2, 4, 8, 8, 8), norm_groups=2, decoders=ALL, **changes)


@pytest.mark.parametrize("decoder", ["attention", "add", "linear"])
def test_an_untrained_model_lets_clip_and_key_frame_through(decoder: str) -> None:
    """What it doesn't pass on it can't learn from. With torch's default start the attention decoder fails here, at 0.05."""
    model, video = narrow(), clip(batch=2)
    keyframe = video[:, :, 7]
    with torch.no_grad():
        latent = model.latent(model.encode(video).mode())
        output = decode(model, latent, keyframe, decoder=decoder)
        size = output.std()
        for other in (decode(model, latent.flip(0), keyframe, decoder=decoder),
                      decode(model, latent, keyframe.flip(0), decoder=decoder)):  # fmt: skip
            assert (other - output).std() > 0.15 * size


def test_norm_groups() -> None:
    model = narrow()
    assert {module.num_groups for module in model.modules() if isinstance(module, torch.nn.GroupNorm)} == {2}
    for changes, message in [
        ({"base_channels": 8}, r"base_channels is 8; it must be a positive multiple of 32 \(32 norm_groups, 8 att"),
        ({"base_channels": 12, "norm_groups": 4}, "base_channels is 12; it must be a positive multiple of 8 "),
        ({"norm_groups": 0}, "norm_groups is 0; it must be at least 1"),
    ]:
        with pytest.raises(InputError, match=message):
            tiny(**changes)


def test_other_key_frames() -> None:
    with torch.no_grad():
        assert tiny(content_frame="first").default_keyframe_index == 0
        free = tiny(content_frame="random")
        free.encode(clip(), references=[Reference.of_frame(clip(), 15)])
        with pytest.raises(InputError, match="from 0 to 15"):
            free.encode(clip(), references=[Reference(picture=clip()[:, :, 0], place=16)])
        alone = tiny(content_frame="none", decoders=("none",))
        assert alone.content is None
        assert alone(clip())[0].shape == clip().shape


IMAGE = {"conv": "image", "content_frame": "none", "decoders": ("none",), "temporal_compression_ratio": 1,
         "spatial_compression_ratio": 8, "latent_channels": 4, "channel_multipliers": (1, 1, 1, 1)}  # fmt: skip


def test_an_image_vae_codes_each_frame_by_itself() -> None:
    model, video = tiny(**IMAGE).eval(), clip()
    with torch.no_grad():
        mean = model.encode(video).mode()  # (1, 4, 16, 8, 12)
        decoded = decode(model, model.latent(mean), video[:, :, 7])
        changed = video.clone()
        changed[:, :, 3] = -video[:, :, 3]
        other = model.encode(changed).mode()
        shown = decode(model, other, video[:, :, 7])
    assert mean.shape == (1, 4, 16, 8, 12) and decoded.shape == video.shape
    same = [index for index in range(16) if index != 3]
    torch.testing.assert_close(other[:, :, same], mean[:, :, same], atol=1e-5, rtol=0)
    torch.testing.assert_close(shown[:, :, same], decoded[:, :, same], atol=1e-5, rtol=0)
    assert (shown[:, :, 3] - decoded[:, :, 3]).abs().max() > 1e-3
    assert torch.equal(model.latent(mean), mean)  # no norm over frames that have nothing in common


def test_an_image_vae_is_nothing_else() -> None:
    with pytest.raises(InputError, match="content_frame is 'middle'; with conv='image' it must be 'none'"):
        tiny(**IMAGE | {"content_frame": "middle", "decoders": ("attention",)})
    with pytest.raises(InputError, match="with conv='image' it must be 1"):
        tiny(**IMAGE | {"temporal_compression_ratio": 4})
    with pytest.raises(InputError, match="nothing to optimise"):
        tiny(**IMAGE).optimize_for_inference(dtype=torch.bfloat16)


def test_weights_learn_the_same_in_bfloat16_where_a_level_has_two_frames() -> None:
    """torch's own CPU kernel gets this gradient wrong."""
    layer = convolution(16, 32, kind="3d")
    frames = torch.randn((1, 16, 2, 8, 8), generator=torch.Generator().manual_seed(0))
    gradients = []
    for enabled in (False, True):
        layer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            layer(frames).sum().backward()
        gradients.append(cast(nn.Conv3d, layer).weight.grad)
    assert gradients[0] is not None and gradients[1] is not None
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0.05, atol=0.5)
