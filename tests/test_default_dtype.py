"""A program that has set another default type gets the same results."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
import torch

from reducio_codec.codec import ReducioCodec
from tests.helpers import moving_video


@pytest.fixture
def float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def results(codec: ReducioCodec) -> list[torch.Tensor]:
    video = moving_video(17, 64, 64)
    latent, keyframe = codec.encode(video)
    made = [latent.plain(), keyframe, codec.encode(video, effort=1)[0].plain()]
    made += [codec.decode(latent, keyframe, decoder=name) for name in codec.decoders]
    file = io.BytesIO()
    codec.compress(iter(video), file, rate=16, target_psnr=25.0)
    made += [torch.from_numpy(codec.decode_clip(file, index)) for index in (0, 1)]
    clips = list(codec.encode_stream(iter(video)))
    made += [clip.latent for clip in clips] + [torch.from_numpy(frame) for frame in codec.decode_stream(clips)]
    return made


@pytest.fixture(scope="module")
def expected() -> list[torch.Tensor]:
    return results(ReducioCodec.from_pretrained("reducio-test"))


def test_another_default_type_changes_nothing(expected: list[torch.Tensor], float64: None) -> None:
    found = results(ReducioCodec.from_pretrained("reducio-test"))
    assert {value.dtype for value in expected} == {torch.float32, torch.uint8}
    for one, other in zip(expected, found, strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)
