"""The 3-D PatchGAN discriminator of the paper's training (Sec. 3.1); layer sizes as the published code has them."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """A clip to a grid of logits, each of which judges a patch: 16x256x256 pixels give 2x30x30 logits.

    Args:
        channels: of the first layer; 64 gives the published 4.2 M parameters.
    """

    def __init__(self, channels: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv3d(3, channels, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        plan = (((4, 4, 4), 2), ((3, 4, 4), 2), ((1, 4, 4), 1))
        for level, (kernel, stride) in enumerate(plan):
            inputs, outputs = channels * 2**level, channels * 2 ** (level + 1)
            padding = (int(kernel[0] > 1), 1, 1)
            layers += [
                nn.Conv3d(inputs, outputs, kernel, stride=stride, padding=padding, bias=False),
                nn.BatchNorm3d(outputs),
                nn.LeakyReLU(0.2),
            ]
        layers.append(nn.Conv3d(channels * 8, 1, (1, 4, 4), padding=(0, 1, 1)))
        self.main = nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.normal_(module.weight, 0, 0.02)
            elif isinstance(module, nn.BatchNorm3d):
                nn.init.normal_(module.weight, 1, 0.02)

    def forward(self, video: Tensor) -> Tensor:
        """(B, 3, 16, H, W) in [-1, 1], sides of at least 32, to logits (B, 1, t, h, w); high means real."""
        return cast(Tensor, self.main(video))
