"""The small model: where it starts from, any number of references, and that every weight can learn."""

from __future__ import annotations

import threading
import warnings

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import weight_norm
from torch.utils.flop_counter import FlopCounterMode

from reducio_codec.cli.roundtrip import EXAMPLE
from reducio_codec.config import LiteConfig
from reducio_codec.errors import InputError
from reducio_codec.io.pixels import to_unit
from reducio_codec.io.video import read_clip
from reducio_codec.models.contract import Reference
from reducio_codec.models.factory import build_model
from reducio_codec.models.lite import blocks, decoders, encoder, frames
from reducio_codec.models.lite.blocks import blocks_to_pixels, pixels_to_blocks, upsample
from reducio_codec.models.lite.frames import by_frames
from reducio_codec.models.lite.linear_code import spread
from reducio_codec.models.lite.local_attention import LocalAttention
from reducio_codec.models.lite.model import ReducioLite
from reducio_codec.models.lite.plan import plan_references
from reducio_codec.models.motion import estimate_flow
from tests.helpers import decode, torch_threads

WIDTHS = {"channels_4": 8, "channels_8": 8, "channels_16": 4, "channels_32": 16}
TINY = LiteConfig(**WIDTHS, decoders=("attention", "add", "linear", "none", "sharp"))
WITH_REFERENCES = ("attention", "add", "linear", "sharp")


def moving_clip(height: int = 64, width: int = 96, shift: int = 2) -> Tensor:
    """(1, 3, 16, H, W): smooth noise that moves ``shift`` pixels to the left each frame."""
    generator = torch.Generator().manual_seed(3)
    field = torch.rand(1, 3, height // 8 + 2, (width + 16 * shift) // 8 + 2, generator=generator) * 2 - 1
    field = torch.nn.functional.interpolate(field, scale_factor=8.0, mode="bicubic").clamp(-1, 1)
    return torch.stack([field[:, :, :height, i * shift : i * shift + width] for i in range(16)], 2)


@pytest.fixture
def model() -> ReducioLite:
    torch.manual_seed(0)
    return ReducioLite(TINY).eval()


def references(clip: Tensor, places: tuple[int, ...]) -> list[Reference]:
    """Pictures of a clip that goes on: those at places beyond its ends repeat the outer frames."""
    return [
        Reference(picture=clip[:, :, min(max(place, 0), 15)], place=place, beside=not 0 <= place < 16)
        for place in places
    ]


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    """Random weights in the layers that start at zero, so that everything has an effect."""
    generator = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        if not parameter.any():
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


@torch.no_grad()
@pytest.mark.parametrize("decoder", WITH_REFERENCES)
@pytest.mark.parametrize("places", [(7,), (-9, 7, 23), (3, 11), (0, 15), (-5, 1, 5, 9, 13, 19)])
def test_untrained_decoder_gives_the_hand_made_code(model: ReducioLite, decoder: str, places: tuple[int, ...]) -> None:
    """Each frame is its near reference moved by the latent's flow, whatever the number of references."""
    torch.nn.init.normal_(model.code.flow_out.weight)
    torch.nn.init.normal_(model.code.residual_out.weight, std=0.1)
    clip, latent = moving_clip(), torch.randn(1, 16, 4, 2, 3)
    items = model.decoder(decoder).select(references(clip, places))
    decoded = model.decode(latent, items, decoder=decoder)
    for other in WITH_REFERENCES:
        taken = model.decoder(other).select(items)
        assert torch.allclose(model.decode(latent, taken, decoder=other), decoded, atol=1e-5)
    for item in items:
        if not item.beside:
            assert torch.equal(decoded[:, :, item.place], item.picture)
    still = model.decode(torch.zeros_like(latent), items, decoder=decoder)
    nearest = min((item for item in items if not item.beside), key=lambda item: abs(item.place - 6))
    assert torch.allclose(still[:, :, 6], nearest.picture, atol=1e-5)
    assert not torch.allclose(decoded[:, :, 6], nearest.picture, atol=0.1)


@torch.no_grad()
def test_latent_has_the_papers_shape(model: ReducioLite) -> None:
    posterior = model.encode(moving_clip(64, 96))
    assert posterior.mode().shape == (1, 16, 4, 2, 3)
    assert torch.isfinite(posterior.logvar).all()
    assert model.encode(torch.zeros(1, 3, 16, 256, 256)).mode().numel() == 4096


@torch.no_grad()
def test_linear_route_carries_the_searched_flow() -> None:
    """With an identity in place of principal components, the latent alone moves the key frame."""
    wide = ReducioLite(TINY)
    weight = torch.zeros(4, 16, 8, 2, 2)
    for k in range(8):  # eight channels: the mean flow of four frames, x and y
        weight[:, k, k] = 0.5
    wide.encoder.flow_in.weight.copy_(weight.flatten(0, 1))
    wide.code.flow_out.weight.copy_(weight.flatten(0, 1))
    clip = moving_clip(64, 96, shift=1)
    decoded = decode(wide, wide.latent(wide.encode(clip).mode()), clip[:, :, 7])
    inner = (..., slice(None), slice(8, -8), slice(16, -16))
    copy_error = (clip[:, :, 7:8] - clip)[inner].square().mean()
    assert (decoded - clip)[inner].square().mean() < copy_error / 10


@torch.no_grad()
def test_latents_do_not_depend_on_the_decoders() -> None:
    torch.manual_seed(0)
    plain = ReducioLite(LiteConfig(**WIDTHS, decoders=("linear",))).eval()
    wide = ReducioLite(TINY).eval()
    shaken(plain)
    wide.load_state_dict(plain.state_dict(), strict=False)
    clip = moving_clip(64, 64)
    mean = plain.encode(clip).mode()
    assert torch.equal(wide.encode(clip).mode(), mean)
    assert torch.equal(decode(wide, mean, clip[:, :, 7], decoder="linear"), decode(plain, mean, clip[:, :, 7]))


@torch.no_grad()
def test_absent_references_are_as_if_they_were_not_there(model: ReducioLite) -> None:
    """Two clips of a batch: the first lacks the reference after it, the second the one before."""
    shaken(model)
    clip, latent = moving_clip(), torch.randn(2, 16, 4, 2, 3)
    before, own, after = references(clip, (-9, 7, 23))
    there = [torch.tensor([True, False]), None, torch.tensor([False, True])]
    both = [
        Reference(picture=item.picture.repeat(2, 1, 1, 1), place=item.place, beside=item.beside, present=present)
        for item, present in zip((before, own, after), there, strict=True)
    ]
    decoded = model.decode(latent, both)
    for number, items in enumerate(((before, own), (own, after))):
        alone = model.decode(latent[number : number + 1], items)
        assert torch.allclose(decoded[number], alone[0], atol=1e-4)


@torch.no_grad()
def test_a_clip_without_references_of_its_own_is_made_from_those_beside_it(model: ReducioLite) -> None:
    clip, latent = moving_clip(), torch.zeros(1, 16, 4, 2, 3)
    items = references(clip, (-2, 18))
    decoded = model.decode(latent, items)
    assert torch.allclose(decoded[:, :, 0], clip[:, :, 0], atol=1e-5)
    assert torch.allclose(decoded[:, :, 15], clip[:, :, 15], atol=1e-5)
    torch.nn.init.normal_(model.encoder.flow_in.weight)
    near, far = (model.encode(clip, references=references(clip, places)).mode() for places in ((-2, 18), (-2,)))
    assert torch.allclose(near[:, :, :2], far[:, :, :2], atol=1e-5)  # the first half moves from the picture before
    assert not torch.allclose(near[:, :, 2:], far[:, :, 2:], atol=1e-2)
    with pytest.raises(InputError, match="0 references are given; the decoder 'attention' takes 1 or more"):
        model.decode(latent, [])
    with pytest.raises(InputError, match="0 references are given; the encoder needs one or more"):
        model.encode(clip, references=[])
    with pytest.raises(InputError, match="references beside the clip, at \\[18\\], are given"):
        model.encode(clip, references=references(clip, (7, 18)))


def test_a_frame_takes_the_nearest_references_on_both_sides() -> None:
    plan = plan_references([-9, 3, 11, 23], beside=[True, False, False, True], present=[[True] * 4])
    assert plan.near.tolist() == [1] * 8 + [2] * 8  # frame 7 is as near to 3 as to 11
    far = dict(zip(plan.between.tolist(), plan.far.tolist(), strict=True))
    assert far == {**dict.fromkeys(range(3), 0), **dict.fromkeys(range(4, 8), 2), **dict.fromkeys(range(8, 11), 1),
                   **dict.fromkeys(range(12, 16), 3)}  # fmt: skip
    assert plan.shown.tolist() == [[3, 11], [1, 2]]
    time = dict(zip(plan.between.tolist(), plan.time.tolist(), strict=True))
    assert time[4] == pytest.approx(1 / 8) and time[8] == pytest.approx(3 / 8) and time[0] == pytest.approx(1 / 4)


@pytest.mark.parametrize("decoder", TINY.decoders)
def test_every_weight_of_a_decoder_learns(decoder: str) -> None:
    torch.manual_seed(1)
    model = ReducioLite(TINY)
    torch.nn.init.normal_(model.code.flow_out.weight)
    clip = moving_clip(32, 32)
    items = references(clip, (-9, 7, 23))
    parts = (
        [model.decoders[decoder]]
        if decoder == "none"
        else [model.decoders[decoder], model.trunk, model.mend, model.code]
    )
    parameters = [parameter for part in parts for parameter in part.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    latent = torch.randn(1, 16, 4, 1, 1)
    for _ in range(4):  # the layers that start at zero open up one after the other
        optimizer.zero_grad()
        decoded = model.decode_by([decoder], latent, items)[decoder]
        (decoded - clip).square().mean().backward()
        optimizer.step()
    idle = [
        name
        for part in parts
        for name, parameter in part.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0
    ]
    # keys' bias shifts all scores of a query alike, which softmax ignores
    assert [name for name in idle if not name.endswith("key.bias")] == []


def test_encoder_learns_through_the_latent() -> None:
    torch.manual_seed(1)
    model = ReducioLite(TINY)
    torch.nn.init.normal_(model.code.flow_out.weight)
    torch.nn.init.normal_(model.encoder.out_conv.weight, std=0.1)
    clip = moving_clip(64, 64)
    items = references(clip, (3, 11))
    decoded = model.decode(model.latent(model.encode(clip, references=items).mode()), items)
    (decoded - clip).square().mean().backward()
    assert [n for n, p in model.encoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_layers_at_their_start_are_skipped_and_change_nothing(model: ReducioLite) -> None:
    """Where nothing is trained; with gradients they run."""
    shaken(model)
    decoder = model.decoders["attention"]
    lasts = [
        model.mend.out_conv,
        decoder.blocks_8[0].conv2,
        decoder.blocks_4[1].conv2,
        decoder.around_8.out,
        decoder.between_8,
    ]
    clip, latent = moving_clip(), torch.randn(1, 16, 4, 2, 3)
    items = references(clip, (-9, 7, 23))
    for last in lasts:
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.zeros_(last.bias)
        ran: list[object] = []
        handle = last.register_forward_hook(lambda *_: ran.append(1))  # noqa: B023
        with torch.no_grad():
            skipped = model.decode(latent, items)
        assert not ran
        assert (
            torch.allclose(model.decode(latent, items), skipped, atol=1e-5) and ran
        )  # with gradients nothing is fused
        handle.remove()
        with torch.no_grad():
            last.bias += 0.1
            assert not torch.allclose(model.decode(latent, items), skipped, atol=1e-3)


@torch.no_grad()
def test_unit_variance_leaves_the_pixels_alone() -> None:
    torch.manual_seed(3)
    model = ReducioLite(TINY).eval()
    shaken(model)
    clip = moving_clip(64, 64)
    items = references(clip, (7,))
    latent = model.latent(model.encode(clip, references=items).mode())
    before = {name: model.decode(latent, items, decoder=name) for name in TINY.decoders if name != "none"}
    model.set_unit_variance(latent)
    scaled = model.latent(model.encode(clip, references=items).mode())
    assert scaled.std() == pytest.approx(1, abs=0.2)
    for name, decoded in before.items():
        assert torch.allclose(model.decode(scaled, items, decoder=name), decoded, atol=1e-3)


def test_spread_is_a_bilinear_enlargement() -> None:
    x = torch.rand(2, 3, 5, 7)
    assert torch.allclose(torch.pixel_shuffle(spread(x), 4), upsample(x, 4), atol=1e-6)


def test_blocks_and_pixels_are_torchs() -> None:
    pixels = torch.rand(2, 3, 8, 12)
    blocks = pixels_to_blocks(pixels)
    assert torch.equal(blocks, torch.pixel_unshuffle(pixels, 4))
    assert blocks.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(blocks_to_pixels(blocks), pixels)


@pytest.mark.parametrize("shift", [90, 160])
def test_motion_beyond_48_pixels_is_found_where_there_is_any(shift: int) -> None:
    """In a picture with detail of all sizes, as real ones have."""
    generator = torch.Generator().manual_seed(3)
    parts = [
        torch.nn.functional.interpolate(
            torch.rand(1, 3, 256 // size + 2, 768 // size + 2, generator=generator) - 0.5, (256, 768), mode="bicubic"
        )
        for size in (8, 16, 32, 64)
    ]
    wide = torch.stack(parts).sum(0).clamp(-1, 1)
    key, frame = wide[..., 200:456], wide[..., 200 + shift : 456 + shift]
    both = torch.stack((frame, wide[..., 204:460]), 2)  # the second frame moves by 4 pixels only
    near, far = (estimate_flow(both, key, far=far)[0, :, 0] for far in (False, True))  # (2, 32, 32)
    inside = (slice(3, -3), slice(2, (256 - shift) // 8 - 2))
    assert (far[0][inside] - shift).abs().median() < 1
    assert (near[0][inside] - shift).abs().median() > 20
    assert torch.equal(near[1], far[1])


@pytest.mark.parametrize("shift", [64, 96])
def test_a_pan_of_a_large_picture_is_found_where_it_is_plain_too(shift: int) -> None:
    """A tile of 720p or 1080p that moves by a twentieth of the picture: a real one, enlarged so that it is soft."""
    picture = to_unit(torch.from_numpy(read_clip(EXAMPLE)[0])).permute(2, 0, 1)[None]  # (1, 3, H, W)
    height, width = 288 // 3, (384 + shift) // 3
    top, left = (picture.shape[2] - height) // 2, (picture.shape[3] - width) // 2
    part = picture[..., top : top + height, left : left + width]
    wide = torch.nn.functional.interpolate(part, (288, 384 + shift), mode="bicubic").clamp(-1, 1)
    key, frame = wide[..., :384], wide[..., shift:]
    still = torch.stack((frame, key), 2)  # the second frame doesn't move
    flow = estimate_flow(still, key, far=True)[0]  # (2, 2, 36, 48)
    inside = flow[0, :, 2:-2, 2 : (384 - shift) // 8 - 2]
    assert ((inside[0] - shift).abs() < 2).float().mean() > 0.9 and inside[1].abs().median() < 1
    assert flow[1].abs().max() < 0.5


def test_the_name_in_a_configuration_builds_it() -> None:
    assert isinstance(build_model(TINY), ReducioLite)
    for wrong in (("warp",), ("attention", "bidirectional"), ("linear", "linear"), ()):
        with pytest.raises(
            InputError, match=r"decoders is .*; it must name one or more of attention, add, linear, none, sharp"
        ):
            LiteConfig(decoders=wrong)
    with pytest.raises(InputError, match="channels_8 is 6"):
        LiteConfig(channels_8=6)


@pytest.mark.parametrize(("channels", "content"), [(4, 6), (8, 5), (12, 8), (80, 48)])
def test_attention_of_any_width(channels: int, content: int) -> None:
    """Untrained it changes nothing; trained, a position sees what is near and nothing else."""
    fuse = LocalAttention(channels, content)
    x, moved = torch.randn(16, channels, 9, 11), torch.randn(16, content, 9, 11)
    assert torch.equal(fuse(x, moved), x)
    shaken(fuse)
    plain, other = fuse(x, moved), moved.clone()
    other[:, :, 4, 5] += 3
    changed = (fuse(x, other) - plain).abs().amax((0, 1)) > 1e-5
    assert changed[2:7:2, 3:8:2].all()
    changed[1:8, 2:9] = False  # two positions away, and one more through the last layer
    assert not changed.any()


def test_pictures_are_made_a_few_at_a_time_where_nothing_learns_and_references_not_at_all() -> None:
    x, asked = torch.randn(18, 2), list[slice]()
    none, some = torch.tensor([], dtype=torch.int64), torch.tensor([3, 4, 17])

    def part(frames: slice) -> Tensor:
        asked.append(frames)
        return 2 * x[frames]

    for shown in (none, some):
        assert torch.equal(by_frames(part, x, size=(8, 8), most=4, shown=shown), 2 * x) and asked == [slice(None)]
        asked.clear()
    with torch.no_grad():
        assert torch.equal(by_frames(part, x, size=(8, 8), most=18, shown=none), 2 * x) and asked == [slice(None)]
        asked.clear()
        assert torch.equal(by_frames(part, x, size=(8, 8), most=4, shown=none), 2 * x)
        assert asked == [slice(0, 4), slice(4, 8), slice(8, 12), slice(12, 16), slice(16, 18)]
        asked.clear()
        made = by_frames(part, x, size=(8, 8), most=4, shown=some)
        assert asked == [slice(0, 3), slice(5, 9), slice(9, 13), slice(13, 17)]
        assert not made[some].any() and torch.equal(made, (2 * x).index_fill(0, some, 0))
        asked.clear()
        assert torch.equal(by_frames(part, x, size=(8, 8), most=4, shown=torch.arange(18)), 2 * x)  # nobody asks for it


@torch.no_grad()
@pytest.mark.parametrize("decoder", WITH_REFERENCES)
def test_how_many_pictures_are_made_at_a_time_makes_no_difference(
    decoder: str, model: ReducioLite, monkeypatch: pytest.MonkeyPatch
) -> None:
    shaken(model)
    given = references(moving_clip(), (2, 9) if decoder == "linear" else (2, 9, 20))
    latent = torch.randn(1, 16, 4, 2, 3, generator=torch.Generator().manual_seed(0))
    few = model.decode(latent, given, decoder=decoder)
    for module in (decoders, frames):
        monkeypatch.setattr(module, "by_frames", lambda part, x, **_: part(slice(None)))
    # which kernels convolve may depend on the number, and so the last bits
    torch.testing.assert_close(few, model.decode(latent, given, decoder=decoder), atol=1e-4, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("decoder", WITH_REFERENCES)
def test_large_pictures_are_made_by_several_threads_as_by_one(
    decoder: str, model: ReducioLite, monkeypatch: pytest.MonkeyPatch
) -> None:
    shaken(model)
    video = torch.cat((moving_clip(), moving_clip(shift=3)))
    given = references(video, (2, 9) if decoder == "linear" else (2, 9, 20))
    expected = model.decode(model.encode(video).mean, given, decoder=decoder)
    monkeypatch.setattr(frames, "_SIDE", 36)  # these are large, and some threes of frames belong to both clips
    workers: set[int] = set()

    def noted(of: slice, pixels: Tensor) -> None:
        workers.add(threading.get_ident())
        found[of] = pixels

    found = torch.zeros(32, 3, *video.shape[-2:])
    with torch_threads(3):
        model.decode_each(model.encode(video).mean, given, decoder=decoder, put=noted)
    assert len(workers) > 1
    torch.testing.assert_close(found.unflatten(0, (2, 16)).transpose(1, 2), expected, atol=1e-3, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("places", [(7,), (2, 9)])
def test_an_encoder_looks_at_a_few_frames_at_a_time(
    places: tuple[int, ...], threads: int, model: ReducioLite, monkeypatch: pytest.MonkeyPatch
) -> None:
    shaken(model)
    video = torch.cat((moving_clip(), moving_clip(shift=3))).mul(127.5).add(128).clamp(0, 255).byte()
    pictures = to_unit(video)
    monkeypatch.setattr(encoder, "at_a_time", lambda *_: 32)  # all of both clips
    whole = model.encode(pictures, references=references(pictures, places)).mean
    monkeypatch.setattr(encoder, "at_a_time", lambda *_: 6)
    with torch_threads(threads):
        few = model.encode(pictures, references=references(pictures, places)).mean
        of_bytes = model.encode(video, references=references(pictures, places)).mean
    assert torch.equal(few, of_bytes)
    torch.testing.assert_close(few, whole, atol=1e-4, rtol=0)


def test_larger_pictures_are_fewer_at_a_time() -> None:
    sizes = [(32, 32), (256, 256), (512, 512), (736, 1280), (4096, 4096)]
    assert [frames.at_a_time(size, frames.PICTURES) for size in sizes] == [4, 4, 2, 1, 1]
    assert [frames.at_a_time(size, frames.MAPS) for size in sizes] == [16, 16, 9, 2, 1]


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-6), (torch.bfloat16, 0.02)])
def test_a_fused_convolution_is_the_plain_one(dtype: torch.dtype, near: float) -> None:
    torch.manual_seed(0)
    layer, x, y = blocks.conv(5, 6), torch.randn(2, 5, 8, 12), torch.randn(2, 6, 8, 12)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype != torch.float32):
        with torch.no_grad():
            made = blocks.conv_act(layer, x), blocks.add_conv(y.to(dtype), layer, x)
        plain = blocks.conv_act(layer, x), blocks.add_conv(y.to(dtype), layer, x)  # with gradients nothing is fused
    for fused, wanted in zip(made, plain, strict=True):
        assert fused.dtype == wanted.dtype == dtype and wanted.requires_grad and not fused.requires_grad
        assert torch.allclose(fused, wanted, atol=near, rtol=near)


@pytest.mark.skipif(blocks._fused() is None, reason="this CPU's torch has no fused convolutions")
def test_decoding_is_fused_and_training_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    whole = blocks._fused

    def counted() -> object:
        calls.append(whole())
        return calls[-1]

    monkeypatch.setattr(blocks, "_fused", counted)
    block, x = blocks.ResBlock(4), torch.randn(16, 4, 8, 8)
    block(x)
    assert not calls
    with torch.no_grad():
        block(x)
    assert len(calls) == 4  # asked and called, twice


@torch.no_grad()
@pytest.mark.parametrize("change", ["hook", "hook before", "hook of all", "weight_norm", "another forward"])
def test_what_was_put_on_a_convolution_is_called(change: str) -> None:
    layer, x = blocks.conv(4, 4), torch.randn(2, 4, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # weight_norm is an old one
        handle = {
            "hook": lambda: layer.register_forward_hook(lambda _module, _inputs, result: 2 * result),
            "hook before": lambda: layer.register_forward_pre_hook(lambda _module, inputs: (2 * inputs[0],)),
            "hook of all": lambda: register_module_forward_hook(lambda _module, _inputs, result: 2 * result),
            "weight_norm": lambda: weight_norm(layer).weight_g.mul_(2),
            "another forward": lambda: setattr(layer, "forward", lambda x: x),
        }[change]()
    try:
        assert torch.equal(blocks.conv_act(layer, x), blocks.act(layer(x)))
        assert torch.equal(blocks.add_conv(x, layer, x), x + layer(x))
    finally:
        if change == "hook of all":
            handle.remove()


@torch.no_grad()
def test_a_last_layer_at_its_start_that_an_adapter_replaced_is_not_skipped() -> None:
    block, x = blocks.ResBlock(4), torch.randn(2, 4, 8, 8)
    torch.nn.init.zeros_(block.conv2.weight)
    torch.nn.init.zeros_(block.conv2.bias)
    assert block(x) is x
    plain = block.conv2.forward
    block.conv2.forward = lambda y: plain(y) + 1
    assert torch.equal(block(x), x + 1)


@torch.no_grad()
def test_a_block_is_counted_traced_and_run_without_numbers_as_any_other_is() -> None:
    block, x = blocks.ResBlock(4), torch.randn(2, 4, 8, 8)
    with FlopCounterMode(display=False) as counter:
        block(x)
    assert counter.get_total_flops() == 2 * 2 * (2 * 64) * (9 * 4 * 4)
    assert "aten::_convolution" in str(torch.jit.trace(block, (x,)).inlined_graph)
    with FakeTensorMode():
        assert blocks.ResBlock(4)(torch.randn(2, 4, 8, 8)).shape == x.shape


@torch.no_grad()
def test_autocast_leaves_float64_as_it_is() -> None:
    layer, x = blocks.conv(4, 4).double(), torch.randn(2, 4, 8, 8, dtype=torch.float64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(blocks.conv_act(layer, x), blocks.act(layer(x)))


def test_the_only_one_of_each_is_not_copied() -> None:
    x, which = torch.randn(1, 3, 4, 4), torch.zeros(16, dtype=torch.int64)
    with torch.no_grad():
        view, copy = blocks.of_each(x, which), blocks.of_each(torch.cat((x, x)), which)
    assert view.data_ptr() == x.data_ptr() and torch.equal(view, copy)
