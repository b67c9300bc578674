"""The small model: its contract, where it starts from, and that every weight can learn."""

import pytest
import torch

from reducio_codec.config import LiteConfig
from reducio_codec.errors import InputError
from reducio_codec.models.lite.decoders import LiteAttentionFusion, _angles, _turn
from reducio_codec.models.lite.model import ReducioLite
from tests.helpers import decode

TINY = LiteConfig(channels_4=8, channels_8=8, channels_16=4, channels_32=16)


@pytest.fixture(scope="module")
def model() -> ReducioLite:
    torch.manual_seed(0)
    return ReducioLite(TINY).eval()


def moving_clip(height: int = 64, width: int = 96, shift: int = 2) -> torch.Tensor:
    """(1, 3, 16, H, W): smooth noise that moves ``shift`` pixels to the left each frame."""
    generator = torch.Generator().manual_seed(3)
    field = torch.rand(1, 3, height // 8 + 2, (width + 16 * shift) // 8 + 2, generator=generator) * 2 - 1
    field = torch.nn.functional.interpolate(field, scale_factor=8.0, mode="bicubic").clamp(-1, 1)
    return torch.stack([field[:, :, :height, i * shift : i * shift + width] for i in range(16)], 2)


@torch.no_grad()
def test_latent_has_the_papers_shape(model: ReducioLite) -> None:
    posterior = model.encode(moving_clip(64, 96))
    assert posterior.mode().shape == (1, 16, 4, 2, 3)
    assert torch.isfinite(posterior.logvar).all()
    assert model.encode(torch.zeros(1, 3, 16, 256, 256)).mode().numel() == 4096


@torch.no_grad()
@pytest.mark.parametrize("decoder", TINY.decoders)
def test_untrained_decoder_repeats_the_key_frame(model: ReducioLite, decoder: str) -> None:
    clip = moving_clip()
    keyframe = clip[:, :, 7]
    still = decode(model, torch.zeros(1, 16, 4, 2, 3), keyframe, decoder=decoder)
    expected = torch.zeros_like(clip) if decoder == "none" else keyframe[:, :, None].expand_as(clip)
    assert torch.allclose(still, expected, atol=1e-5)


@pytest.mark.parametrize("decoder", TINY.decoders)
def test_every_weight_of_a_decoder_learns(decoder: str) -> None:
    """The published code's add and linear fusions can't: products of zeros block the gradient."""
    torch.manual_seed(1)
    model = ReducioLite(TINY)
    clip = moving_clip(32, 32)
    part = model.decoders[decoder]
    optimizer = torch.optim.SGD(part.parameters(), lr=0.1)
    latent = torch.randn(1, 16, 4, 1, 1)
    for _ in range(3):  # the layers that start at zero open up one after the other
        optimizer.zero_grad()
        (decode(model, latent, clip[:, :, 7], decoder=decoder) - clip).square().mean().backward()
        optimizer.step()
    idle = [name for name, p in part.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # keys' bias shifts all scores of a query alike, which softmax ignores
    assert [name for name in idle if not name.endswith("key.bias")] == []


def test_encoder_learns_through_the_latent() -> None:
    torch.manual_seed(1)
    model = ReducioLite(TINY)
    torch.nn.init.normal_(model.decoders["warp"].flow_out.weight)
    torch.nn.init.normal_(model.encoder.out_conv.weight, std=0.1)
    clip = moving_clip(64, 64)
    decoded = decode(model, model.latent(model.encode(clip).mode()), clip[:, :, 7])
    (decoded - clip).square().mean().backward()
    assert [n for n, p in model.encoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@torch.no_grad()
def test_linear_route_carries_the_searched_flow() -> None:
    """With an identity in place of principal components, the latent alone moves the key frame."""
    wide = ReducioLite(TINY)
    weight = torch.zeros(4, 16, 8, 2, 2)
    for k in range(8):  # eight channels: the mean flow of four frames, x and y
        weight[:, k, k] = 0.5
    wide.encoder.flow_in.weight.copy_(weight.flatten(0, 1))
    wide.decoders["warp"].flow_out.weight.copy_(weight.flatten(0, 1))
    clip = moving_clip(64, 96, shift=1)
    decoded = decode(wide, wide.latent(wide.encode(clip).mode()), clip[:, :, 7])
    inner = (..., slice(None), slice(8, -8), slice(16, -16))
    copy_error = (clip[:, :, 7:8] - clip)[inner].square().mean()
    assert (decoded - clip)[inner].square().mean() < copy_error / 10


@torch.no_grad()
def test_key_frame_passes_through(model: ReducioLite) -> None:
    clip, latent = moving_clip(), torch.randn(1, 16, 4, 2, 3)
    for decoder in ("warp", "attention"):
        assert torch.equal(decode(model, latent, clip[:, :, 3], decoder=decoder, place=3)[:, :, 3], clip[:, :, 3])


def test_configuration_names_what_is_wrong() -> None:
    with pytest.raises(InputError, match="channels_4 is 6"):
        LiteConfig(channels_4=6)
    with pytest.raises(InputError, match="warp, attention"):
        LiteConfig(decoders=("warp", "magic"))


def test_attention_knows_places_by_their_distance_alone() -> None:
    """So that a larger tile has no places that training never saw."""
    angles = _angles(20, 24, torch.tensor([1.0, 0.3])).unflatten(0, (20, 24))  # (20, 24, 4)
    query, key = torch.randn(8), torch.randn(8)

    def score(one: tuple[int, int], other: tuple[int, int]) -> torch.Tensor:
        return _turn(query, angles[one]) @ _turn(key, angles[other])

    torch.testing.assert_close(score((2, 3), (5, 1)), score((14, 22), (17, 20)), atol=1e-5, rtol=1e-5)
    assert (score((2, 3), (5, 1)) - score((2, 3), (1, 5))).abs() > 1e-3


@pytest.mark.parametrize("channels", [4, 8, 12, 80])
def test_attention_of_any_width(channels: int) -> None:
    fuse = LiteAttentionFusion(channels, 6)
    x, content = torch.randn(16, channels, 3, 5), torch.randn(1, 6, 3, 5)
    out = fuse(x, content)
    assert out.shape == x.shape
    fuse.out.weight.data.zero_()
    fuse.out.bias.data.zero_()
    assert torch.equal(fuse(x, content), x)
