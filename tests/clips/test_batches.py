"""Lists of videos of any lengths and sizes: the same as one by one, in fewer calls of the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from reducio_codec import Latent, ReducioCodec
from reducio_codec.clips.tensors import Output
from reducio_codec.config import TilingConfig
from reducio_codec.errors import InputError
from reducio_codec.models.contract import Allowed, Decoder, Reference
from tests.helpers import ConvModel, TinyConfig, moving_video
from tests.test_codec import as_float

TILES = TilingConfig(tile_size=64, tile_overlap=32, tile_batch=3)


@pytest.fixture
def codec() -> ReducioCodec:
    return ReducioCodec(ConvModel(), tiling=TILES)


@pytest.fixture(scope="module")
def videos() -> list[Any]:
    """Lengths and sizes that meet and that don't, one of several tiles, one of floats, one a batch of two."""
    shapes = [(40, 32, 48), (5, 32, 48), (33, 32, 48), (5, 32, 48), (16, 90, 70), (1, 33, 31)]
    made: list[Any] = [moving_video(*shape, seed=number) for number, shape in enumerate(shapes)]
    made.append(as_float(moving_video(17, 32, 48, seed=7)))
    made.append(np.stack([moving_video(5, 32, 48, seed=8), moving_video(5, 32, 48, seed=9)]))
    return made


def test_a_list_is_encoded_as_its_videos_are(codec: ReducioCodec, videos: list[Any]) -> None:
    found = codec.encode_batch(videos)
    assert len(found) == len(videos)
    for video, (latent, keyframe) in zip(videos, found, strict=True):
        wanted, picture = codec.encode(video)
        assert isinstance(latent, Latent)
        assert (latent.num_frames, latent.keyframe_index) == (wanted.num_frames, wanted.keyframe_index)
        assert latent.shape == wanted.shape
        torch.testing.assert_close(latent.plain(), wanted.plain(), atol=1e-5, rtol=0)
        assert torch.equal(keyframe, picture)
    one = codec.encode_batch(videos[2:3], keyframe_index=3)[0][0]
    torch.testing.assert_close(one.plain(), codec.encode(videos[2], keyframe_index=3)[0].plain(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("output", ["float", "uint8"])
def test_a_list_is_decoded_as_its_pairs_are(codec: ReducioCodec, videos: list[Any], output: Output) -> None:
    pairs = [codec.encode(video, keyframe_index=(7, 7, 2)[number % 3]) for number, video in enumerate(videos)]
    found = codec.decode_batch(pairs, output=output)
    assert len(found) == len(videos)
    for pair, decoded in zip(pairs, found, strict=True):
        wanted = codec.decode(*pair, output=output)
        assert decoded.shape == wanted.shape and decoded.dtype == wanted.dtype and decoded.is_contiguous()
        torch.testing.assert_close(decoded, wanted, atol=1 if output == "uint8" else 1e-5, rtol=0)


class BesideModel(ConvModel):
    """Its frames depend on the pictures beside the clip, and on where they lie."""

    @classmethod
    def describe(cls, config: TinyConfig, name: str) -> Decoder:
        return Decoder(name=name, last_layer="up", beside=Allowed(most=1))

    def decode(self, latent: Tensor, references: Sequence[Reference], *, decoder: str | None = None) -> Tensor:
        own = [item for item in references if not item.beside]
        video = super().decode(latent, own, decoder=decoder)
        for item in references:
            if item.beside:
                video = video + item.picture[:, :, None] / item.place
        return video


def test_a_decoder_that_uses_the_neighbours_gets_each_videos_own(videos: list[Any]) -> None:
    codec = ReducioCodec(BesideModel(), tiling=TILES)
    pairs = codec.encode_batch(videos)
    for pair, decoded in zip(pairs, codec.decode_batch(pairs), strict=True):
        torch.testing.assert_close(decoded, codec.decode(*pair), atol=1e-5, rtol=0)


def test_clips_of_one_size_run_together(codec: ReducioCodec) -> None:
    """40 and 33 frames are five full clips and two short ones of different lengths, 1 frame and 8."""
    model = codec.model
    assert isinstance(model, ConvModel)
    codec.encode_batch([moving_video(40, 32, 48), moving_video(33, 32, 48)])
    assert [shape[0] for shape in model.batches] == [3, 1, 1, 1]
    model.batches.clear()
    codec.encode_batch([moving_video(32, 90, 70)])  # tiles fill batches already
    assert sum(shape[0] for shape in model.batches) == 2 * 4
    assert max(shape[0] for shape in model.batches) == 3


def test_refined_in_a_list_as_alone(codec: ReducioCodec) -> None:
    videos = [moving_video(17, 32, 48), moving_video(16, 32, 48, seed=1)]
    for video, (latent, _) in zip(videos, codec.encode_batch(videos, effort=2), strict=True):
        torch.testing.assert_close(latent.plain(), codec.encode(video, effort=2)[0].plain(), atol=1e-3, rtol=0)


def test_nothing_in_nothing_out(codec: ReducioCodec) -> None:
    assert codec.encode_batch([]) == codec.decode_batch([]) == []


WRONG: dict[str, tuple[Callable[[ReducioCodec], Any], str]] = {
    "a name": (lambda codec: codec.encode_batch("a.mp4"), "videos are a str"),
    "no list": (lambda codec: codec.encode_batch(5), "videos are a int"),  # type: ignore[arg-type]
    "a path": (lambda codec: codec.encode_batch([moving_video(2, 32, 32), Path("a.mp4")]), "video 1: a.mp4 is a path"),
    "one video": (lambda codec: codec.encode_batch(moving_video(2, 32, 32)), "video 0: "),
    "floats too large": (lambda codec: codec.encode_batch([torch.full((1, 3, 1, 32, 32), 9.0)]), "video 0: .*9"),
    "effort": (lambda codec: codec.encode_batch([moving_video(2, 32, 32)], latent_step=1), "no effect"),
    "half a pair": (lambda codec: codec.decode_batch([torch.zeros(1, 16, 4, 1, 1)]), "pair 0: a Tensor"),
    "a latent alone": (lambda codec: codec.decode_batch([(torch.zeros(1, 16, 4, 1, 1), None)]), "pair 0: keyframe"),
    "a decoder": (lambda codec: codec.decode_batch([], decoder="sharpest"), "sharpest"),
    "an output": (lambda codec: codec.decode_batch([], output="png"), "png"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_lists_are_refused(codec: ReducioCodec, what: str) -> None:
    call, message = WRONG[what]
    with pytest.raises(InputError, match=message):
        call(codec)
