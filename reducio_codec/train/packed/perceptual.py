"""LPIPS (Zhang et al. 2018), version 0.1, as a training loss in torch alone, from one file of convolutions and heads."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from reducio_codec.errors import InputError

_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_VGG = (2, 2, 3, 3, 3)
"""Convolutions between its poolings; LPIPS looks at the last of each."""


class Lpips(nn.Module):
    """The distance of pictures (N, 3, H, W) in [-1, 1], (N,), with gradients.

    Args:
        path: ``.safetensors`` with ``conv.N.weight``, ``conv.N.bias`` and ``head.N`` of AlexNet or VGG-16.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        tensors = {key: value.float() for key, value in load_file(path).items()}
        self._convolutions = sum(key.endswith(".weight") for key in tensors)
        if self._convolutions not in (5, 13):
            raise InputError(f"{path} has {self._convolutions} convolutions; AlexNet has 5 and VGG-16 13")
        for key, value in tensors.items():
            self.register_buffer(key.replace(".", "_"), value, persistent=False)
        self.register_buffer("shift", torch.tensor(_SHIFT)[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE)[:, None, None], persistent=False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        shift, scale = self.get_buffer("shift"), self.get_buffer("scale")
        a, b = (self._features((x - shift) / scale) for x in (first, second))
        total = first.new_zeros(len(first), dtype=torch.float32)
        for number, (x, y) in enumerate(zip(a, b, strict=True)):
            head = self.get_buffer(f"head_{number}")[None, :, None, None]
            total = total + ((_unit(x) - _unit(y)).square() * head).sum(1).mean((1, 2))
        return total

    def _features(self, x: Tensor) -> list[Tensor]:
        return self._alex(x) if self._convolutions == 5 else self._vgg(x)

    def _alex(self, x: Tensor) -> list[Tensor]:
        found = []
        for number, (stride, padding) in enumerate(((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))):
            if number in (1, 2):
                x = F.max_pool2d(x, 3, 2)
            x = self._layer(x, number, stride=stride, padding=padding)
            found.append(x)
        return found

    def _vgg(self, x: Tensor) -> list[Tensor]:
        found, number = [], 0
        for level, depth in enumerate(_VGG):
            if level:
                x = F.max_pool2d(x, 2)
            for _ in range(depth):
                x = self._layer(x, number)
                number += 1
            found.append(x)
        return found

    def _layer(self, x: Tensor, number: int, *, stride: int = 1, padding: int = 1) -> Tensor:
        weight, bias = self.get_buffer(f"conv_{number}_weight"), self.get_buffer(f"conv_{number}_bias")
        return F.relu(F.conv2d(x, weight, bias, stride, padding))


def _unit(x: Tensor) -> Tensor:
    x = x.float()
    return x / (x.square().sum(1, keepdim=True) + 1e-10).sqrt()
