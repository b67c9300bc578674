"""Decoders in 8 bits."""

from __future__ import annotations

import torch
from torch import nn

from bench.int8 import EightBitConv, in_eight_bits


def test_a_convolution_in_eight_bits_is_the_same_but_for_rounding() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 8, 3, 2, 1), nn.Conv2d(8, 4, 1)).requires_grad_(False)
    nn.init.zeros_(network[2].weight)
    x = torch.randn(2, 3, 18, 18)
    expected = network(x)
    [layer] = in_eight_bits(network)  # neither what takes pixels nor what is zero
    assert isinstance(network[1], EightBitConv)
    assert torch.equal(network(x), expected)
    layer.calibrating = False
    middle = layer(network[0](x)).float()
    exact = layer.layer(network[0](x))
    assert 0 < (middle - exact).abs().max() < 0.05 * exact.abs().max()
