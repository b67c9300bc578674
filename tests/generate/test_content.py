"""AlexNet's layers as content: where a value lies, and that nothing of it learns."""

from __future__ import annotations

import pytest
import torch

from reducio_codec.generate.content import STRIDE, AlexNetContent
from reducio_codec.metrics.lpips import Lpips


@pytest.fixture(scope="module")
def content() -> AlexNetContent:
    network = AlexNetContent().eval()
    network.take_trunk()
    return network


def test_the_layers_are_those_of_lpips(content: AlexNetContent) -> None:
    trunk = Lpips("alex").model.net
    for layer, part in zip(
        content.layers, (trunk.slice1, trunk.slice2, trunk.slice3, trunk.slice4, trunk.slice5), strict=True
    ):
        (own,) = (module for module in part if isinstance(module, torch.nn.Conv2d))
        assert torch.equal(layer.weight, own.weight) and torch.equal(layer.bias, own.bias)  # type: ignore[arg-type]
        assert layer.stride == own.stride
    assert not any(parameter.requires_grad for parameter in content.parameters())


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (256, 288)])
def test_a_value_for_each_16_pixels(content: AlexNetContent, size: tuple[int, int]) -> None:
    picture = torch.rand(2, 3, *size) * 2 - 1
    found = content(picture)
    assert found.shape == (2, content.channels, size[0] // STRIDE, size[1] // STRIDE)
    assert torch.isfinite(found).all()
    assert torch.isfinite(content(torch.ones(1, 3, *size))).all()


def test_what_moves_by_16_pixels_moves_by_a_place(content: AlexNetContent) -> None:
    wide = torch.rand(1, 3, 288, 304, generator=torch.Generator().manual_seed(0)) * 2 - 1
    here, there = content(wide[..., :288]), content(wide[..., 16:])
    inside = slice(7, -7)  # away from the borders' padding
    assert torch.allclose(here[..., inside, 8:-6], there[..., inside, 7:-7], atol=1e-4)


def test_a_place_looks_at_its_own_middle(content: AlexNetContent) -> None:
    """What a position depends on lies evenly around the middle of its 16 x 16 pixels."""
    picture = torch.zeros(1, 3, 256, 256, requires_grad=True)
    noise = torch.rand(8, 3, 256, 256, generator=torch.Generator().manual_seed(0)) - 0.5
    content(picture + noise)[:, :192, 8, 8].square().sum().backward()  # the early layer, of which less is far away
    assert picture.grad is not None
    weight = picture.grad.abs().sum((0, 1))  # (256, 256)
    places = torch.arange(256.0)
    for axis in (0, 1):
        middle = float((weight.sum(1 - axis) * places).sum() / weight.sum())
        assert middle == pytest.approx(8 * STRIDE + (STRIDE - 1) / 2, abs=1.5)
