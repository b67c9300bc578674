"""Content tokens: what the key picture looks like, place by place, at 1/16 of its size (Sec. 3.2)."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from reducio_codec.config import ReducioConfig
from reducio_codec.generate.config import DiTConfig
from reducio_codec.models.reducio.attention import SelfAttention
from reducio_codec.models.reducio.content import ContentEncoder
from reducio_codec.models.reducio.layers import NORM_GROUPS, GroupNorm, ResidualBlock

STRIDE = 16
"""Pixels for each content token along a side."""


class ImageVaeMid(nn.Module):
    """What the SD2.1-VAE's encoder does behind its deepest level, but for the convolution that makes its latent."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels, kind="image")
        self.attn_1 = SelfAttention(channels, kind="image", groups=NORM_GROUPS, heads=1)
        self.block_2 = ResidualBlock(channels, channels, kind="image")
        self.norm_out = GroupNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), same shape out."""
        return functional.silu(self.norm_out(self.block_2(self.attn_1(self.block_1(x)))))


class ImageVaeContent(nn.Module):
    """The SD2.1-VAE's encoder (1/8 of the size, 512 channels), with a convolution to 1/16 in the place of its latent.

    It is trained on together with the transformer.
    """

    def __init__(self, base: int) -> None:
        super().__init__()
        self.channels = 4 * base
        config = ReducioConfig(content_channels=base, fuse_levels=())
        self.trunk = ContentEncoder(config, mid=ImageVaeMid(self.channels))
        self.down = nn.Conv2d(self.channels, self.channels, 2, stride=2)

    def forward(self, keyframe: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] to (B, C, H / 16, W / 16)."""
        return cast(Tensor, self.down(self.trunk(keyframe).top))


class ConvContent(nn.Module):
    """A small encoder without pretrained weights: pixels unshuffled by 4, then two halvings with residual blocks."""

    def __init__(self, base: int) -> None:
        super().__init__()
        widths = (2 * base, 4 * base, 8 * base)
        self.conv_in = nn.Conv2d(48, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(width, width, kind="image") for width in widths)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths))
        self.channels = widths[-1]

    def forward(self, keyframe: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] to (B, C, H / 16, W / 16)."""
        h: Tensor = self.conv_in(functional.pixel_unshuffle(keyframe, 4))  # (B, 2 base, H / 4, W / 4)
        for number, block in enumerate(self.blocks):
            h = block(h)
            if number < len(self.down):
                h = self.down[number](h)
        return h


class AlexNetContent(nn.Module):
    """Two layers of AlexNet, each position's values scaled to unit mean square, and the logarithms of what they were divided by.

    A few hundred videos don't teach what is in a picture; a million photographs did. Nothing here learns: ``take_trunk``
    gives a new model its weights, and a model's file has them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            (
                nn.Conv2d(3, 64, 11, stride=4),
                nn.Conv2d(64, 192, 5, padding=2),
                nn.Conv2d(192, 384, 3, padding=1),
                nn.Conv2d(384, 256, 3, padding=1),
                nn.Conv2d(256, 256, 3, padding=1),
            )
        )
        self.register_buffer("mean", torch.tensor([-0.030, -0.088, -0.188])[:, None, None])  # of ImageNet, in [-1, 1]
        self.register_buffer("std", torch.tensor([0.458, 0.448, 0.450])[:, None, None])
        self.channels = 192 + 256 + 2
        self.requires_grad_(False)

    def take_trunk(self) -> None:
        """The weights that this package's LPIPS has."""
        from reducio_codec.metrics.lpips import Lpips

        names = [f"{number}.{kind}" for number in range(len(self.layers)) for kind in ("weight", "bias")]
        found = [value for name, value in Lpips("alex").model.net.state_dict().items() if name.startswith("slice")]
        self.layers.load_state_dict(dict(zip(names, found, strict=True)))

    def forward(self, keyframe: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] to (B, C, H / 16, W / 16)."""
        # so much that a position at the end lies in the middle of its 16 x 16 pixels
        x = functional.pad((keyframe - self.mean) / self.std, (9, 10, 9, 10), mode="replicate")
        x = functional.max_pool2d(functional.relu(self.layers[0](x)), 3, 2)  # (B, 64, H / 8 + 1, W / 8 + 1)
        x = early = functional.max_pool2d(functional.relu(self.layers[1](x)), 3, 2)  # (B, 192, H / 16, W / 16)
        for layer in self.layers[2:]:
            x = functional.relu(layer(x))  # (B, 256, H / 16, W / 16) at last
        parts = [_unit(part.float()) for part in (early, x)]
        return torch.cat([part for pair in parts for part in pair], dim=1).to(keyframe.dtype)


def _unit(x: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C, h, w) with unit mean square at each position, and the logarithm of its size (B, 1, h, w)."""
    size = x.square().mean(1, keepdim=True).add(1e-4).sqrt()
    return x / size, size.log()


def content_encoder(config: DiTConfig) -> ImageVaeContent | ConvContent | AlexNetContent:
    """The encoder that ``config`` names."""
    if config.content == "alexnet":
        return AlexNetContent()
    return ImageVaeContent(config.content_base) if config.content == "sd" else ConvContent(config.content_base)
