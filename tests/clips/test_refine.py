"""Refinement: better clips for the same decoder, the same bits every time."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from reducio_codec import ReducioCodec
from reducio_codec.config import TilingConfig
from reducio_codec.errors import InputError
from reducio_codec.io.video import open_video
from reducio_codec.metrics.psnr import psnr
from tests.helpers import ConvModel, TinyModel, moving_video


@pytest.fixture(scope="module")
def frames() -> NDArray[np.uint8]:
    from reducio_codec.cli.roundtrip import EXAMPLE

    with open_video(EXAMPLE) as reader:
        return np.stack([frame.rgb[96:192, 160:256] for _, frame in zip(range(20), reader, strict=False)])


def test_effort_gains_at_about_equal_bytes(frames: NDArray[np.uint8]) -> None:
    """20 frames: two clips, the second padded; 96 px in tiles of 64."""
    tiling = TilingConfig(tile_size=64, tile_overlap=32)
    codec = ReducioCodec.from_pretrained("reducio-lite", decoders=("linear",), tiling=tiling)
    files, quality = [], []
    for effort in (0, 2, 4):
        file = io.BytesIO()
        report = codec.compress(list(frames), file, rate=16, effort=effort, keyframes=1)
        file.seek(0)
        with codec.open_file(file) as video:
            decoded = np.concatenate([video.decode_clip(index, decoder="linear") for index in range(video.clips)])
        files.append(report.latent_bytes)
        quality.append(psnr(frames, decoded))
    assert quality[1] > quality[0] + 0.3
    assert quality[2] > quality[0] + 0.5, "few steps have to do"
    assert max(files) < 1.1 * files[0]


def test_the_same_input_gives_the_same_bits(frames: NDArray[np.uint8]) -> None:
    codec = ReducioCodec.from_pretrained("reducio-lite", decoders=("linear",))
    video = frames[:16, :64, :64]
    first, second = (codec.encode(video, effort=2)[0] for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, codec.encode(video)[0])
    clip = next(codec.encode_stream(iter(video), effort=2))
    assert torch.equal(clip.latent[None], first.plain())


def test_a_still_video_and_the_key_frame_alone_are_left_in_peace() -> None:
    codec = ReducioCodec(TinyModel())
    for count in (1, 16):
        latent, _ = codec.encode(np.full((count, 32, 32, 3), 90, np.uint8), effort=3)
        assert latent.isfinite().all()


def test_a_model_in_training_is_left_as_it_is(frames: NDArray[np.uint8]) -> None:
    """Gradients of the latent alone: none is left in a weight, or added to what training has there."""
    codec = ReducioCodec(ConvModel(), tiling=TilingConfig(tile_size=64, tile_overlap=32))
    weights = list(codec.model.parameters())
    weights[0].grad = torch.ones_like(weights[0])
    refined = codec.encode(frames[:16], effort=2)[0]
    assert all(weight.requires_grad for weight in weights)
    assert torch.equal(weights[0].grad, torch.ones_like(weights[0])) and all(w.grad is None for w in weights[1:])
    codec.model.requires_grad_(False)
    assert torch.equal(codec.encode(frames[:16], effort=2)[0], refined)


def test_what_is_refused() -> None:
    codec, video = ReducioCodec(TinyModel()), moving_video(4, 32, 32)
    for effort in (-1, 1001, True, 2.5):
        with pytest.raises(InputError, match="allowed: 0 to 1000"):
            codec.encode(video, effort=effort)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no effect on encoding without effort"):
        codec.encode(video, decoder="copy")
    with pytest.raises(InputError, match="latent_step is 0"):
        codec.encode(video, effort=1, latent_step=0)
