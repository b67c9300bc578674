"""The decoder that uses the key frames of the clips before and after."""

import pytest
import torch
from torch import Tensor

from reducio_codec.codec import ReducioCodec
from reducio_codec.config import LiteConfig, TilingConfig
from reducio_codec.errors import InputError
from reducio_codec.models.contract import Reference
from reducio_codec.models.lite.model import ReducioLite
from tests.helpers import decode

TINY = LiteConfig(channels_4=8, channels_8=8, channels_16=4, channels_32=16, decoders=("warp", "bidirectional", "add"))
NAME = "bidirectional"


def moving_video(frames: int, height: int = 64, width: int = 64, shift: int = 1) -> Tensor:
    """(1, 3, T, H, W): smooth noise that moves ``shift`` pixels to the left each frame."""
    generator = torch.Generator().manual_seed(3)
    field = torch.rand(1, 3, height // 8 + 2, (width + frames * shift) // 8 + 2, generator=generator) * 2 - 1
    field = torch.nn.functional.interpolate(field, scale_factor=8.0, mode="bicubic").clamp(-1, 1)
    return torch.stack([field[:, :, :height, i * shift : i * shift + width] for i in range(frames)], 2)


def opened(model: ReducioLite) -> ReducioLite:
    """As after training: the added part has an effect."""
    with torch.no_grad():
        for layer in (model.decoders[NAME].out_4, model.decoders[NAME].flow_8):
            torch.nn.init.normal_(layer.weight, std=0.05)  # type: ignore[union-attr, arg-type]
    return model


@pytest.fixture(scope="module")
def fresh() -> ReducioLite:
    torch.manual_seed(0)
    return ReducioLite(TINY).eval()


@pytest.fixture(scope="module")
def trained() -> ReducioLite:
    torch.manual_seed(0)
    return opened(ReducioLite(TINY).eval())


VIDEO = moving_video(48)
KEYS = VIDEO[:, :, 7], VIDEO[:, :, 23], VIDEO[:, :, 39]
BESIDE = [(KEYS[0], -9), (KEYS[2], 23)]
LATENT = torch.randn(1, 16, 4, 2, 2, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_untrained_it_is_the_warp_decoder(fresh: ReducioLite) -> None:
    single = decode(fresh, LATENT, KEYS[1], decoder="warp")
    assert torch.equal(decode(fresh, LATENT, KEYS[1], decoder=NAME, beside=BESIDE), single)


@torch.no_grad()
@pytest.mark.parametrize("index", [0, 7, 15])
def test_frames_without_a_neighbour_are_the_warp_decoders(trained: ReducioLite, index: int) -> None:
    single = decode(trained, LATENT, KEYS[1], decoder="warp", place=index)
    assert torch.equal(decode(trained, LATENT, KEYS[1], decoder=NAME, place=index), single)
    for other, changed in (((KEYS[0], index - 16), range(index)), ((KEYS[2], index + 16), range(index + 1, 16))):
        found = decode(trained, LATENT, KEYS[1], decoder=NAME, place=index, beside=[other])
        same = [torch.equal(found[:, :, i], single[:, :, i]) for i in range(16)]
        assert same == [i not in changed for i in range(16)]


@torch.no_grad()
def test_clips_of_a_batch_may_have_neighbours_or_not(trained: ReducioLite) -> None:
    latent, key = LATENT.expand(3, -1, -1, -1, -1), KEYS[1].expand(3, -1, -1, -1)
    present = torch.tensor([[True, True], [True, False], [False, False]])
    others = [
        Reference(picture=picture.expand(3, -1, -1, -1), place=place, beside=True, present=there)
        for (picture, place), there in zip(BESIDE, present.unbind(1), strict=True)
    ]
    found = trained.decode(latent, [Reference(picture=key, place=7), *others], decoder=NAME)
    for row, there in zip(found, present.tolist(), strict=True):
        alone = [item for item, known in zip(BESIDE, there, strict=True) if known]
        expected = decode(trained, LATENT, KEYS[1], decoder=NAME, beside=alone)
        assert torch.allclose(row, expected[0], atol=1e-5)


@torch.no_grad()
def test_a_searched_flow_finds_the_neighbour() -> None:
    """With the gate open wide, what is shown is the neighbour moved to the frame's place: motion alone must find it."""
    torch.manual_seed(0)
    model = ReducioLite(TINY).eval()
    part = model.decoders[NAME]
    assert isinstance(part.out_4, torch.nn.Conv2d) and part.out_4.bias is not None
    part.out_4.bias[48:] = 1.0
    weight = torch.zeros(4, 16, 8, 2, 2)  # the latent's first eight channels are the flow of four frames
    for channel in range(8):
        weight[:, channel, channel] = 1.0
    model.decoders["warp"].flow_out.weight.copy_(weight.flatten(0, 1))  # type: ignore[union-attr, operator]
    latent = torch.zeros(1, 16, 4, 2, 2)
    for frame in range(16):
        latent[0, 2 * (frame % 4), frame // 4] = frame - 7
    video = moving_video(40, shift=1)
    clip, after = video[:, :, :16], video[:, :, 23]
    found = decode(model, latent, clip[:, :, 7], decoder=NAME, beside=[(after, 23)])
    middle = slice(8, 48)
    error = (found - clip)[:, :, 8:, middle, middle].abs().mean()
    still = (after[:, :, None] - clip)[:, :, 8:, middle, middle].abs().mean()
    assert error < 0.2 * still


def test_only_the_added_part_learns() -> None:
    torch.manual_seed(1)
    model = ReducioLite(TINY)
    model.requires_grad_(False)
    part = model.decoders[NAME].requires_grad_(True)
    optimizer = torch.optim.SGD(part.parameters(), lr=0.1)
    clip = VIDEO[:, :, 16:32]
    for _ in range(3):  # the layers that start at zero open up one after the other
        optimizer.zero_grad()
        out = decode(model, LATENT, KEYS[1], decoder=NAME, beside=BESIDE)
        (out - clip).square().mean().backward()
        optimizer.step()
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert with_gradient == {f"decoders.{NAME}.{name}" for name, _ in part.named_parameters()}


@torch.no_grad()
def test_latents_are_those_of_the_model_without_it() -> None:
    torch.manual_seed(0)
    plain = ReducioLite(LiteConfig(**{**TINY.to_json(), "decoders": ("warp",)})).eval()
    wide = ReducioLite(TINY).eval()
    wide.load_state_dict(plain.state_dict(), strict=False)
    clip = VIDEO[:, :, 16:32]
    mean = plain.encode(clip).mode()
    assert torch.equal(wide.encode(clip).mode(), mean)
    assert torch.equal(decode(wide, mean, KEYS[1], decoder="warp"), decode(plain, mean, KEYS[1]))


def test_wrong_use_is_refused(fresh: ReducioLite) -> None:
    with pytest.raises(InputError, match="bidirectional adds to warp"):
        LiteConfig(decoders=("bidirectional",))
    with pytest.raises(
        InputError, match="1 references before the clip are given; the decoder 'warp' has no use for them"
    ):
        fresh.decode(LATENT, [Reference(picture=picture, place=place, beside=place < 0)
                              for picture, place in zip(KEYS[:2], (-9, 7), strict=True)])  # fmt: skip


@pytest.fixture(scope="module")
def codec(trained: ReducioLite) -> ReducioCodec:
    return ReducioCodec(trained, tiling=TilingConfig(tile_size=64, tile_overlap=32))


def test_a_video_of_several_clips_uses_the_key_frames_at_hand(codec: ReducioCodec, trained: ReducioLite) -> None:
    latent, keys = codec.encode(VIDEO)
    found = codec.decode(latent, keys, decoder=NAME)
    around = [[(keys[:, :, 1], 23)], [(keys[:, :, 0], -9), (keys[:, :, 2], 23)], [(keys[:, :, 1], -9)]]
    for number, beside in enumerate(around):
        part = latent.as_subclass(Tensor)[:, :, 4 * number : 4 * number + 4]
        with torch.inference_mode():
            expected = decode(trained, part, keys[:, :, number], decoder=NAME, beside=beside).clamp(-1, 1)
        assert torch.allclose(found[:, :, 16 * number : 16 * number + 16], expected, atol=1e-5)
    single = codec.decode(latent, keys, decoder="warp")
    assert torch.equal(found[:, :, :8], single[:, :, :8]) and not torch.equal(found[:, :, 8:16], single[:, :, 8:16])


def test_a_part_of_a_video_takes_key_frames_from_outside(codec: ReducioCodec) -> None:
    latent, keys = codec.encode(VIDEO)
    whole = codec.decode(latent, keys, decoder=NAME)
    part, key = latent.as_subclass(Tensor)[:, :, 4:8], keys[:, :, 1:2]
    found = codec.decode(part, key, decoder=NAME, neighbours=(keys[:, :, 0], keys[:, :, 2]))
    assert torch.equal(found, whole[:, :, 16:32])
    for wrong in ((keys[:, :, 0],), (keys, None), (keys[:, :, 0].byte(), None), (keys[:, :, 0] * 3, None)):
        with pytest.raises(InputError, match="neighbours"):
            codec.decode(part, key, decoder=NAME, neighbours=wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no use for them"):
        codec.decode(part, key, decoder="warp", neighbours=(keys[:, :, 0], None))


def test_pictures_larger_than_a_tile_and_a_short_last_clip(codec: ReducioCodec) -> None:
    video = moving_video(20, 80, 112)
    latent, keys = codec.encode(video)
    found = codec.decode(latent, keys, decoder=NAME)
    single = codec.decode(latent, keys, decoder="warp")
    assert found.shape == (1, 3, 20, 80, 112)
    # frame 17 is the key frame of the last four; after it there is no other
    changed = [not torch.equal(found[:, :, i], single[:, :, i]) for i in range(20)]
    assert changed == [7 < i < 17 for i in range(20)]
