"""Numbers as vectors: time steps, picture sizes, places on the latent grid.

PixArt-alpha's, so that its weights read what they were trained on (Sec. 4.1); and those of this package's first models,
which had been trained before (``DiTConfig.embeddings``).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from reducio_codec.generate.config import EmbeddingKind

FREQUENCIES = 256
"""Channels of the sinusoids that stand for one number."""

_LN_10000 = 9.210340371976184


def sinusoids(values: Tensor, *, channels: int = FREQUENCIES) -> Tensor:
    """Cosines and sines of numbers at geometric frequencies from 1 to 1/10000: (...) to (..., channels) float32."""
    half = channels // 2
    exponents = torch.arange(half, device=values.device, dtype=torch.float32) / half
    angles = values.float()[..., None] * torch.exp(-_LN_10000 * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimeEmbedding(nn.Module):
    """Time step and picture size to the vector that every block is modulated with.

    The size's embedding is added to the time's before the MLP that makes the modulation (Sec. 3.2, after PixArt-alpha).
    """

    def __init__(self, width: int, *, kind: EmbeddingKind) -> None:
        super().__init__()
        self.time = _mlp(FREQUENCIES, width)
        self.size = SizeEmbedding(width) if kind == "pixart" else FirstSizeEmbedding(width)

    def start(self) -> None:
        """The layers that say the size start at zero: a new model is told none."""
        for layer in self.size.last_layers():
            nn.init.zeros_(layer.weight)

    def forward(self, timestep: Tensor, size: Tensor) -> Tensor:
        """``timestep`` (B,) in [0, 1000], ``size`` (B, 2) height and width in pixels, to (B, C)."""
        dtype = next(self.time.parameters()).dtype
        told: Tensor = self.size(size.float())  # (B, C)
        step: Tensor = self.time(sinusoids(timestep).to(dtype))  # (B, C)
        return step + told


class SizeEmbedding(nn.Module):
    """PixArt-alpha-1024-MS's: height, width and their ratio as they are, a third of the channels each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.resolution = _mlp(FREQUENCIES, width // 3)
        self.aspect_ratio = _mlp(FREQUENCIES, width // 3)

    def last_layers(self) -> list[nn.Linear]:
        return [cast(nn.Linear, self.resolution[2]), cast(nn.Linear, self.aspect_ratio[2])]

    def forward(self, size: Tensor) -> Tensor:
        """(B, 2) to (B, C)."""
        dtype = next(self.parameters()).dtype
        sides = self.resolution(sinusoids(size).to(dtype)).flatten(1)  # (B, 2 C / 3)
        ratio = self.aspect_ratio(sinusoids(size[:, 0] / size[:, 1]).to(dtype))  # (B, C / 3)
        return torch.cat([sides, ratio], dim=1)


class FirstSizeEmbedding(nn.Sequential):
    """That of the first models: height, width and the ratio's logarithm through one MLP."""

    def __init__(self, width: int) -> None:
        super().__init__(*_mlp(3 * FREQUENCIES, width))

    def last_layers(self) -> list[nn.Linear]:
        return [cast(nn.Linear, self[2])]

    def forward(self, input: Tensor) -> Tensor:
        """(B, 2) to (B, C)."""
        height, width = input.unbind(dim=1)
        # the logarithm treats wide and high alike; 250 spreads 1/4 to 4 over the same range as pixels
        numbers = torch.stack([height, width, 250 * torch.log2(height / width)], dim=1)  # (B, 3)
        x = sinusoids(numbers).flatten(1).to(next(self.parameters()).dtype)
        for layer in self:
            x = layer(x)
        return x  # (B, C)


def place_codes(rows: int, columns: int, *, reach: int, channels: int, device: torch.device) -> Tensor:
    """PixArt-alpha's sinusoids of places on a grid: half of the channels for the column, half for the row, sines first.

    Both axes count from 0 to ``reach`` whatever the grid's size and shape: the same place in the picture has the same code
    at any resolution, for latents and for content tokens.

    Returns:
        (rows * columns, channels) float32, row by row.
    """
    quarter = channels // 4
    exponents = torch.arange(quarter, device=device, dtype=torch.float64) / quarter
    frequencies = torch.exp(-_LN_10000 * exponents)  # (C / 4,)

    def axis(places: int) -> Tensor:
        angles = torch.arange(places, device=device, dtype=torch.float64)[:, None] * (reach / places) * frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=-1).float()  # (places, C / 2)

    horizontal = axis(columns)[None].expand(rows, -1, -1)
    vertical = axis(rows)[:, None].expand(-1, columns, -1)
    return torch.cat([horizontal, vertical], dim=-1).flatten(0, 1)


def first_place_codes(rows: int, columns: int, *, spacing: float, channels: int, device: torch.device) -> Tensor:
    """Those of the first models: the row before the column, cosines first, the middle of each place.

    Args:
        spacing: distance of neighbours, in positions of a latent of 8 x 8.

    Returns:
        (rows * columns, channels) float32, row by row.
    """
    y = (torch.arange(rows, device=device, dtype=torch.float32) + 0.5) * spacing
    x = (torch.arange(columns, device=device, dtype=torch.float32) + 0.5) * spacing
    half = channels // 2
    vertical = sinusoids(y, channels=half)[:, None].expand(-1, columns, -1)  # (rows, columns, C / 2)
    horizontal = sinusoids(x, channels=half)[None].expand(rows, -1, -1)
    return torch.cat([vertical, horizontal], dim=-1).flatten(0, 1)


def _mlp(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels, width), nn.SiLU(), nn.Linear(width, width))
