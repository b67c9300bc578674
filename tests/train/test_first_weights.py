"""``start.flow``: a small model that has learned nothing yet carries motion already."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

import pytest
import torch
from torch import Tensor

from reducio_codec.errors import InputError
from reducio_codec.io.pixels import to_unit
from reducio_codec.models.contract import Reference
from reducio_codec.models.lite.model import ReducioLite
from reducio_codec.train.first_weights import build_model, start_from_clips
from reducio_codec.train.recipe import Recipe
from tests.models.test_lite import moving_clip


def clips(side: int = 64) -> Iterator[Tensor]:
    """(1, 3, 16, side, side) uint8, of many speeds and directions."""
    number = 0
    while True:
        clip = moving_clip(side, side, shift=number % 4).rot90(number // 4, (3, 4))
        yield ((clip + 1) * 127.5).round().to(torch.uint8)
        number += 1


@torch.no_grad()
@pytest.mark.parametrize("decoders", [("linear",), ("none", "attention")])
def test_untrained_it_moves_the_key_frame(recipe: Callable[..., Recipe], decoders: tuple[str, ...]) -> None:
    keyframe = {"neighbours": "attention" in decoders}
    made = recipe(model={"decoders": list(decoders)}, start={"flow": True, "flow_clips": 16}, keyframe=keyframe)
    model = cast(ReducioLite, build_model(made))
    steps = start_from_clips(model, made, clips=clips())
    assert steps.shape == (16,) and (steps > 0).all()
    assert torch.equal(model.code.flow_out.weight, model.encoder.flow_in.weight)
    assert torch.equal(model.encoder.flow_basis, model.encoder.flow_in.weight)
    assert model.code.residual_out.weight.any() and model.encoder.residual_in.weight.any()
    video = to_unit(next(clips())), to_unit(moving_clip(64, 64, shift=3).add(1).mul(127.5).round().to(torch.uint8))
    for clip, gain in zip(video, (0.0, 6.0), strict=True):  # dB over repeating the key frame
        own = [Reference.of_frame(clip, 7)]
        latent = model.latent(model.encode(clip).mode())
        decoded = model.decode(latent, own, decoder=decoders[-1])
        error, copied = ((x - clip).square().mean() for x in (decoded, clip[:, :, 7:8]))
        assert 10 * torch.log10((copied + 1e-6) / (error + 1e-6)) >= gain
    assert 0.1 < latent.std() < 10


def test_too_few_clips(recipe: Callable[..., Recipe]) -> None:
    made = recipe(model={"decoders": ["linear"]}, start={"flow": True, "flow_clips": 1})
    with pytest.raises(InputError, match=r"start\.flow_clips is 1: too few positions"):
        start_from_clips(cast(ReducioLite, build_model(made)), made, clips=clips(32))
