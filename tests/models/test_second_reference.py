"""What the key frames of the clips before and after add: to a clip, and to a video of several."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from reducio_codec.codec import ReducioCodec
from reducio_codec.config import LiteConfig, TilingConfig
from reducio_codec.errors import InputError
from reducio_codec.models.lite.model import ReducioLite
from tests.helpers import decode
from tests.models.test_lite import shaken

TINY = LiteConfig(channels_4=8, channels_8=8, channels_16=4, channels_32=16, decoders=("attention", "linear"))
NAME = "attention"
REACH = 4
"""Frames that the four blocks over time carry what the second reference says about a frame to others."""


def moving_video(frames: int, height: int = 64, width: int = 64, shift: int = 1) -> Tensor:
    """(1, 3, T, H, W): smooth noise that moves ``shift`` pixels to the left each frame."""
    generator = torch.Generator().manual_seed(3)
    field = torch.rand(1, 3, height // 8 + 2, (width + frames * shift) // 8 + 2, generator=generator) * 2 - 1
    field = torch.nn.functional.interpolate(field, scale_factor=8.0, mode="bicubic").clamp(-1, 1)
    return torch.stack([field[:, :, :height, i * shift : i * shift + width] for i in range(frames)], 2)


@pytest.fixture(scope="module")
def trained() -> ReducioLite:
    torch.manual_seed(0)
    model = ReducioLite(TINY).eval()
    shaken(model)
    return model


VIDEO = moving_video(48)
KEYS = VIDEO[:, :, 7], VIDEO[:, :, 23], VIDEO[:, :, 39]
LATENT = torch.randn(1, 16, 4, 2, 2, generator=torch.Generator().manual_seed(1))


def changed(found: Tensor, single: Tensor) -> set[int]:
    """Frames that differ by more than rounding, which depends on how many pictures run together."""
    return set(((found - single).abs().amax((0, 1, 3, 4)) > 1e-4).nonzero()[:, 0].tolist())


@torch.no_grad()
@pytest.mark.parametrize("index", [0, 7, 15])
def test_it_changes_the_frames_that_lie_between_two(trained: ReducioLite, index: int) -> None:
    single = decode(trained, LATENT, KEYS[1], decoder=NAME, place=index)
    before = decode(trained, LATENT, KEYS[1], decoder=NAME, place=index, beside=[(KEYS[0], index - 16)])
    after = decode(trained, LATENT, KEYS[1], decoder=NAME, place=index, beside=[(KEYS[2], index + 16)])
    assert set(range(index)) <= changed(before, single) <= set(range(index + REACH)) - {index}
    assert set(range(index + 1, 16)) <= changed(after, single) <= set(range(index - REACH + 1, 16)) - {index}


@torch.no_grad()
def test_motion_alone_finds_the_neighbour() -> None:
    """With the gate open wide, what is shown is the neighbour moved to the frame's place."""
    torch.manual_seed(0)
    model = ReducioLite(TINY).eval()
    model.get_parameter(f"decoders.{NAME}.second.out_4.bias")[48:] = 1.0
    weight = torch.zeros(4, 16, 8, 2, 2)  # the latent's first eight channels are the flow of four frames
    for channel in range(8):
        weight[:, channel, channel] = 1.0
    model.code.flow_out.weight.copy_(weight.flatten(0, 1))
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


def test_a_part_of_a_video_takes_key_frames_from_outside(codec: ReducioCodec) -> None:
    latent, keys = codec.encode(VIDEO)
    whole = codec.decode(latent, keys, decoder=NAME)
    part, key = latent.as_subclass(Tensor)[:, :, 4:8], keys[:, :, 1:2]
    found = codec.decode(part, key, decoder=NAME, neighbours=(keys[:, :, 0], keys[:, :, 2]))
    assert torch.allclose(found, whole[:, :, 16:32], atol=1e-5)
    assert changed(codec.decode(part, key, decoder=NAME), found) == set(range(16)) - {7}
    for wrong in ((keys[:, :, 0],), (keys, None), (keys[:, :, 0].byte(), None), (keys[:, :, 0] * 3, None)):
        with pytest.raises(InputError, match="neighbours"):
            codec.decode(part, key, decoder=NAME, neighbours=wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no use for them"):
        codec.decode(part, key, decoder="linear", neighbours=(keys[:, :, 0], None))


def test_pictures_larger_than_a_tile_and_a_short_last_clip(codec: ReducioCodec) -> None:
    video = moving_video(20, 80, 112)
    latent, keys = codec.encode(video)
    found = codec.decode(latent, keys, decoder=NAME)
    first, last = (
        codec.decode(
            latent.as_subclass(Tensor)[:, :, part], keys[:, :, clip : clip + 1], decoder=NAME, num_frames=count
        )
        for clip, part, count in ((0, slice(0, 4), 16), (1, slice(4, 8), 4))
    )
    assert found.shape == (1, 3, 20, 80, 112)
    # frame 17 is the key frame of the last four; after it there is no other
    different = changed(found, torch.cat((first, last), 2))
    assert set(range(8, 17)) <= different and not different & {0, 1, 2, 3, 7, 17}
