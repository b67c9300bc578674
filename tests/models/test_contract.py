"""One set of tests for every model and every decoder: what ``models.contract`` promises."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from reducio_codec.clips.refine import Refinement, refine
from reducio_codec.clips.runner import ClipRunner
from reducio_codec.clips.spans import ClipSpan
from reducio_codec.config import LiteConfig, ReducioConfig, TilingConfig
from reducio_codec.errors import InputError
from reducio_codec.models.contract import CodecModel, Decoder, Reference
from reducio_codec.models.export import Decode
from reducio_codec.models.factory import CONFIGS, build_model, describe_decoder, training_of
from tests.helpers import torch_threads

LITE = ("attention", "sharp", "add", "linear", "none")
PAPER = ("attention", "add", "linear", "none")
NARROW = {"base_channels": 8, "channel_multipliers": (1, 1, 1, 1, 1, 1), "content_channels": 8, "depth": 1,
          "content_multipliers": (1, 1, 1, 1), "content_depth": 1, "norm_groups": 2}  # fmt: skip
CONFIGURATIONS: dict[str, LiteConfig | ReducioConfig] = {
    "lite": LiteConfig(channels_4=8, channels_8=8, channels_16=4, channels_32=16, decoders=LITE),
    "paper": ReducioConfig(**NARROW, decoders=PAPER),  # type: ignore[arg-type]
    "image": ReducioConfig(**NARROW | {"channel_multipliers": (1, 1, 1, 1)}, conv="image", content_frame="none",
                           decoders=("none",), temporal_compression_ratio=1, spatial_compression_ratio=8,
                           latent_channels=4, fuse_levels=()),  # type: ignore[arg-type]
}  # fmt: skip
EVERY_DECODER = [(model, decoder) for model, config in CONFIGURATIONS.items() for decoder in config.decoders]
every_decoder = pytest.mark.parametrize(("model", "decoder"), EVERY_DECODER)
every_model = pytest.mark.parametrize("model", CONFIGURATIONS)


def trained(model: CodecModel) -> CodecModel:
    """As after training: no layer is at zero, where most start."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for value in model.parameters():
            if not value.abs().sum() > 0 and value.ndim > 1:
                value.normal_(0, 0.3 * value[0].numel() ** -0.5, generator=generator)
    return model.eval().requires_grad_(False)


def fresh(name: str) -> CodecModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return trained(build_model(CONFIGURATIONS[name]))


@cache
def built(name: str) -> CodecModel:
    return fresh(name)


def clip(height: int = 64, width: int = 64, batch: int = 1) -> Tensor:
    """(B, 3, 16, H, W): smooth noise that drifts."""
    coarse = torch.randn(batch, 3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    return nn.functional.interpolate(coarse, size=(16, height, width), mode="trilinear").clamp(-1, 1)


def references(decoder: Decoder, video: Tensor, *, place: int = 7) -> list[Reference]:
    """As many as the decoder takes, three where it takes any number."""
    found = [Reference.of_frame(video, place + number) for number in range(min(decoder.inside.most or 3, 3))]
    if decoder.inside.most == 0:
        found = []
    if decoder.uses_neighbours:
        found += [Reference(picture=video[:, :, end], place=where, beside=True) for end, where in ((0, -9), (15, 23))]
    return found


def latent_of(model: CodecModel, video: Tensor) -> Tensor:
    with torch.no_grad():
        return model.latent(model.encode(video).mode())


def runner(model: CodecModel, *, tile: int, device: str = "cpu") -> ClipRunner:
    tiling = TilingConfig(tile_size=tile, tile_overlap=32)
    return ClipRunner(model, device=torch.device(device), dtype=torch.float32, tiling=tiling, compile=False)


@torch.no_grad()
@every_decoder
def test_shapes(model: str, decoder: str) -> None:
    network, video = built(model), clip(64, 96, batch=2)
    config = network.config
    posterior = network.encode(video)
    shape = (16 // config.temporal_compression_ratio, 64 // config.spatial_compression_ratio,
             96 // config.spatial_compression_ratio)  # fmt: skip
    assert posterior.mean.shape == posterior.logvar.shape == (2, config.latent_channels, *shape)
    found = network.decoder(decoder)
    decoded = network.decode(network.latent(posterior.mean), references(found, video), decoder=decoder)
    assert decoded.shape == video.shape and decoded.dtype == torch.float32 and decoded.isfinite().all()
    layer = network.last_layer(decoder)
    assert layer.shape[0] % 3 == 0 or layer.shape[0] == 64  # pixels come out of it, lite's with a gate beside them
    assert any(layer is value for value in network.parameters())


@torch.no_grad()
@every_decoder
def test_bfloat16_is_close(model: str, decoder: str) -> None:
    network, video = built(model), clip()
    latent, given = latent_of(network, video), references(network.decoder(decoder), video)
    exact = network.decode(latent, given, decoder=decoder)
    with torch.autocast("cpu", torch.bfloat16):
        fast = network.decode(latent, given, decoder=decoder)
    size = exact.float().var().item()
    error = (fast.float() - exact).square().mean().item()
    assert 0 < error < 1e-3 * size, 10 * math.log10(size / max(error, 1e-12))


@torch.no_grad()
@every_decoder
def test_weights_in_bfloat16_are_close(model: str, decoder: str) -> None:
    network, video = built(model), clip()
    mean, given = network.encode(video).mean, references(network.decoder(decoder), video)
    exact = network.decode(network.latent(mean), given, decoder=decoder)
    stored = fresh(model).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = stored.encode(video).mean.float()
        fast = stored.decode(network.latent(mean), given, decoder=decoder).float()
    for one, other in ((found, mean), (fast, exact)):
        assert 0 < (one - other).square().mean() < 3e-3 * other.var()


@torch.no_grad()
@every_model
def test_the_scale_of_the_latent_is_what_the_norm_divides_by(model: str) -> None:
    network = fresh(model)
    for name, values in network.named_buffers():
        if name.startswith("latent_"):
            values.uniform_(0.5, 2, generator=torch.Generator().manual_seed(3))
    mean = network.encode(clip()).mean
    latent, scale = network.latent(mean), network.latent_scale(mean)
    shift = mean - latent * scale  # the same at every position
    assert (shift - shift.mean((2, 3, 4), keepdim=True)).abs().max() < 1e-4
    assert scale.expand_as(mean).shape == mean.shape and (scale > 0).all()


@every_decoder
def test_one_covering_tile_is_the_bare_model_and_two_are_joined(model: str, decoder: str) -> None:
    network, video = built(model), clip(64, 128)
    latent, given = latent_of(network, video), references(network.decoder(decoder), video)
    span = ClipSpan(start=0, frames=16, lead=0)
    whole, tiled = torch.empty_like(video), torch.empty_like(video)
    runner(network, tile=128).decode(latent, given, decoder=decoder, span=span, out=whole)
    with torch.inference_mode():
        assert torch.equal(whole, network.decode(latent, given, decoder=decoder).clamp(-1, 1))
    runner(network, tile=64).decode(latent, given, decoder=decoder, span=span, out=tiled)
    assert not torch.equal(tiled, whole)
    # a tile's seams are where its neighbour begins to count: no step there
    step = (tiled[..., 1:] - tiled[..., :-1]).abs().mean((0, 1, 2, 3))
    assert step[[31, 63, 95]].max() < 3 * step.mean()
    as_bytes = torch.empty(video.shape, dtype=torch.uint8)
    runner(network, tile=64).decode(latent, given, decoder=decoder, span=span, out=as_bytes)
    assert (as_bytes.float() / 127.5 - 1 - tiled).abs().max() <= 0.5 / 127.5 + 1e-6


@torch.no_grad()
@pytest.mark.parametrize("threads", [1, 3])
@every_decoder
def test_frames_are_given_away_each_once(model: str, decoder: str, threads: int) -> None:
    network, video = built(model), clip(64, 96, batch=2)
    latent, given = latent_of(network, video), references(network.decoder(decoder), video)
    expected = network.decode(latent, given, decoder=decoder)
    found, times = torch.zeros(32, 3, 64, 96), [0] * 32

    def put(frames: slice, pixels: Tensor) -> None:
        for number in range(32)[frames]:
            times[number] += 1
        found[frames] = pixels

    with torch_threads(threads):
        network.decode_each(latent, given, decoder=decoder, put=put)
        with pytest.raises(InputError, match="nothing of it"):
            network.decode_each(latent, given, decoder=decoder, put=refused)
    assert times == [1] * 32
    found = found.unflatten(0, (2, 16)).transpose(1, 2)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def refused(frames: slice, pixels: Tensor) -> None:
    raise InputError(f"nothing of it: {pixels[frames].shape}")


@torch.no_grad()
@every_decoder
def test_references(model: str, decoder: str) -> None:
    """None, one, two, many; at places that exist and that don't."""
    network, video = built(model), clip()
    found, latent = network.decoder(decoder), latent_of(built(model), clip())
    beside = [Reference(picture=video[:, :, 0], place=place, beside=True) for place in (-25, -9, 23, 39)]
    inside = [Reference.of_frame(video, place) for place in (7, 3, 12)]
    for pictures in ([], inside[:1], inside[:2], inside, inside[:1] + beside[1:3], inside + beside, beside[1:3]):
        counts = len([item for item in pictures if not item.beside]), len([p for p in pictures if p.beside]) // 2
        told_from_others = counts == (0, 1) and found.inside.most is None
        fits = counts[0] in found.inside and (counts[1] in found.beside or told_from_others)
        if fits and len(pictures) >= found.least:
            assert network.decode(latent, pictures, decoder=decoder).isfinite().all()
        else:
            with pytest.raises(InputError, match=f"references .*are given; the decoder '{decoder}'"):
                network.decode(latent, pictures, decoder=decoder)
        if counts[0] >= found.inside.least and len(pictures) >= found.least:
            chosen = found.select(pictures)  # whatever there is, it takes what it can use
            assert network.decode(latent, chosen, decoder=decoder).isfinite().all()
            assert {item.place for item in chosen if item.beside} <= {-9, 23}, "the nearest"
    for place in (-1, 16):
        with pytest.raises(InputError, match=rf"inside the clip is at {place}; allowed: 0 to 15"):
            network.decode(latent, [Reference(picture=video[:, :, 0], place=place)], decoder=decoder)
    with pytest.raises(InputError, match="each needs a place of its own"):
        network.decode(latent, [inside[0], inside[0]], decoder=decoder)
    for wrong in (video[:, :, 7, :32], video[:, :, 7].byte()):
        given = [Reference(picture=wrong, place=7)] if found.inside.most else []
        if given:
            with pytest.raises(InputError, match=r"a reference is torch\.\w+ \(1, 3, "):
                network.decode(latent, given, decoder=decoder)
    with pytest.raises(InputError, match=r"latent is torch.float32 \(1, 3, "):
        network.decode(latent[:, :3], references(found, video), decoder=decoder)
    with pytest.raises(InputError, match="decoder is 'magic'; allowed: "):
        network.decode(latent, [], decoder="magic")


@torch.no_grad()
@every_model
def test_an_encoder_takes_the_references_inside(model: str) -> None:
    network, video = built(model), clip()
    own = [Reference.of_frame(video, 7)]
    assert torch.equal(network.encode(video, references=own).mean, network.encode(video).mean)
    for wrong, message in (
        ([*own, Reference(picture=video[:, :, 0], place=-9, beside=True)], "encoder has no use for them"),
        ([Reference(picture=video[:, :, 0, :32], place=7)], r"\(1, 3, 32, 64\)"),
        ([Reference(picture=video[:, :, 0], place=16)], "16"),
    ):
        with pytest.raises(InputError, match=message):
            network.encode(video, references=wrong)


@every_decoder
def test_it_exports(model: str, decoder: str) -> None:
    """What ``torch.export`` keeps is the same but for the rounding of convolutions that are fused here, and holds tensors'
    operations alone."""
    network, video = built(model), clip()
    given = references(network.decoder(decoder), video)
    inside, beside = ([item.place for item in given if item.beside is other] for other in (False, True))
    module = Decode(network, decoder=decoder, inside=inside, beside=beside).eval()
    parts = (latent_of(network, video), *(item.picture.contiguous() for item in given))
    with torch.no_grad():
        program = torch.export.export(module, parts)
        assert torch.allclose(program.module()(*parts), module(*parts), rtol=0, atol=1e-5)
    assert "autocast" not in str(program.graph)


@every_decoder
def test_on_a_pretended_accelerator(model: str, decoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every operation knows its device but computes nothing, one that mixes devices fails."""

    def gradient(error: Tensor, leaf: Tensor) -> tuple[Tensor]:
        # the engine behind torch's own asks the driver for the device; the way there and back is what is tested here
        assert error.requires_grad and error.device == leaf.device and error.device.type == "cuda"
        return (torch.zeros_like(leaf),)

    monkeypatch.setattr(torch.autograd, "grad", gradient)
    # otherwise tensors of a single number are computed for real, on a device that isn't there
    monkeypatch.setattr("torch._subclasses.fake_tensor.CONSTANT_NUMEL_LIMIT", -1)
    network = fresh(model)
    with FakeTensorMode(allow_non_fake_inputs=True):
        network.to("cuda")
        run = runner(network, tile=64, device="cuda")
        video = torch.empty(1, 3, 16, 96, 96)  # in main memory, as the codec gives it: tiles are sent
        given = references(network.decoder(decoder), video)
        latent = run.encode(video, references=given[:1] if given else [Reference.of_frame(video, 7)])
        assert latent.device.type == "cpu"
        out = torch.empty(video.shape, dtype=torch.uint8)
        span = ClipSpan(start=0, frames=16, lead=0)
        run.decode(latent, given, decoder=decoder, span=span, out=out)
        for piece in run.decode_pieces(latent, given, decoder=decoder, size=(96, 96)):
            assert piece.values.device.type == "cuda", "tiles are blended where they are made"
        plan = Refinement(steps=1, decoder=decoder, widths=torch.ones(network.config.latent_channels, 1, 1, 1))
        refined = refine(run, latent, video, references=given, frames=slice(16), refinement=plan)
        assert refined.device.type == "cpu" and refined.shape == latent.shape


@every_decoder
def test_a_device_gives_what_a_cpu_gives(model: str, decoder: str, device: torch.device) -> None:
    """Within rounding: the same bits are promised on a CPU alone."""
    results = []
    for place in (torch.device("cpu"), device):
        run, video = runner(fresh(model).to(place), tile=64, device=str(place)), clip(64, 96)
        given = references(run.model.decoder(decoder), video)
        latent = run.encode(video, references=given[:1] or [Reference.of_frame(video, 7)])
        plan = Refinement(steps=1, decoder=decoder, widths=torch.full((latent.shape[1], 1, 1, 1), 0.5))
        latent = refine(run, latent, video, references=given, frames=slice(16), refinement=plan)
        out = torch.empty(video.shape, dtype=torch.uint8)
        run.decode(latent, given, decoder=decoder, span=ClipSpan(start=0, frames=16, lead=0), out=out)
        results.append(out)
    assert (results[0].int() - results[1].int()).abs().float().mean() < 1


@every_model
def test_the_optimised_path_on_a_pretended_accelerator(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = fresh(model)
    if not network.optimizable:
        with pytest.raises(InputError, match="nothing to optimise"):
            network.optimize_for_inference(dtype=torch.bfloat16)
        return
    with FakeTensorMode(allow_non_fake_inputs=True):
        network.to("cuda")
        # it is float32 already, and torch can't convert parameters that it made up
        monkeypatch.setattr(network, "float", lambda: network)
        network.optimize_for_inference(dtype=torch.bfloat16)
        assert network.optimized_dtype == torch.bfloat16
        video = torch.empty(1, 3, 16, 64, 64, device="cuda")
        with torch.no_grad():
            latent = network.latent(network.encode(video).mode())
            for name in network.decoder_names:
                decoded = network.decode(latent, references(network.decoder(name), video), decoder=name)
                assert decoded.device.type == "cuda" and decoded.shape == video.shape


@every_decoder
def test_it_says_what_training_needs(model: str, decoder: str) -> None:
    config = CONFIGURATIONS[model]
    can = training_of(config)
    assert any(type(module).__name__ == can.block for module in built(model).modules())
    parts = {name for name, part in built(model).named_children() if list(part.parameters())}
    assert parts - {"encoder", "quant_conv", "decoders"} <= set(can.shared) and all(
        hasattr(built(model), part) for part in can.shared
    )
    assert describe_decoder(config, decoder) == built(model).decoder(decoder)


@torch.no_grad()
@pytest.mark.parametrize("decoder", [name for name in LITE if describe_decoder(CONFIGURATIONS["lite"], name).reach])
def test_nothing_is_seen_from_beyond_its_reach(decoder: str) -> None:
    network = built("lite")
    found = network.decoder(decoder)
    assert found.reach is not None
    latent = torch.randn(1, 16, 4, 1, 32, generator=torch.Generator().manual_seed(0))
    keyframe = clip(32, 1024)[:, :, 7]
    given = found.select([Reference(picture=keyframe, place=7)])
    plain = network.decode(latent, given, decoder=decoder)
    other = latent.clone()
    other[..., 0] += 3  # pixels 0 to 31
    changed = (network.decode(other, given, decoder=decoder) - plain).abs().amax((0, 1, 2, 3)).nonzero().max()
    assert found.reach / 2 < changed - 31 <= found.reach


def test_every_architecture_is_tested() -> None:
    assert {config.architecture for config in CONFIGURATIONS.values()} == set(CONFIGS)
