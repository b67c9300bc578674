"""Numbers as vectors: time steps, picture sizes, places on the latent grid."""

from __future__ import annotations

import torch
from torch import Tensor, nn

FREQUENCIES = 256
"""Channels of the sinusoids that stand for one number."""

STAGE_GRID = 8
"""Latent positions along a side in the first training stage (256 pixels); coordinates of later stages are scaled to it."""


def sinusoids(values: Tensor, *, channels: int = FREQUENCIES) -> Tensor:
    """Cosines and sines of numbers at geometric frequencies from 1 to 1/10000: (...) to (..., channels) float32."""
    half = channels // 2
    exponents = torch.arange(half, device=values.device, dtype=torch.float32) / half
    angles = values.float()[..., None] * torch.exp(-9.210340371976184 * exponents)  # ln 10000
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimeEmbedding(nn.Module):
    """Time step and picture size to the vector that every block is modulated with.

    The size is told as height, width and aspect ratio, and is added to the time's embedding before the MLP that makes
    the modulation (Sec. 3.2, after PixArt-alpha). Its last layer starts at zero: a new model is told no size.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))
        self.size = nn.Sequential(nn.Linear(3 * FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, timestep: Tensor, size: Tensor) -> Tensor:
        """``timestep`` (B,) in [0, 1000], ``size`` (B, 2) height and width in pixels, to (B, C)."""
        dtype = next(self.time.parameters()).dtype
        height, width = size.float().unbind(dim=1)
        # the logarithm treats wide and high alike; 250 spreads 1/4 to 4 over the same range as pixels
        numbers = torch.stack([height, width, 250 * torch.log2(height / width)], dim=1)  # (B, 3)
        told: Tensor = self.size(sinusoids(numbers).flatten(1).to(dtype))  # (B, C)
        step: Tensor = self.time(sinusoids(timestep).to(dtype))  # (B, C)
        return step + told


def grid_embedding(rows: int, columns: int, *, spacing: float, channels: int, device: torch.device) -> Tensor:
    """Sinusoids of places on a grid, half of the channels for the row and half for the column.

    Args:
        rows, columns: of the grid.
        spacing: distance of neighbours, in positions of the first stage's latent: the same place in the picture has the
            same code whatever the resolution.

    Returns:
        (rows * columns, channels) float32, row by row.
    """
    y = (torch.arange(rows, device=device, dtype=torch.float32) + 0.5) * spacing
    x = (torch.arange(columns, device=device, dtype=torch.float32) + 0.5) * spacing
    half = channels // 2
    vertical = sinusoids(y, channels=half)[:, None].expand(-1, columns, -1)  # (rows, columns, C / 2)
    horizontal = sinusoids(x, channels=half)[None].expand(rows, -1, -1)
    return torch.cat([vertical, horizontal], dim=-1).flatten(0, 1)


def time_positions(length: int, *, channels: int, device: torch.device) -> Tensor:
    """Sinusoids of places in time: (length, channels) float32."""
    return sinusoids(torch.arange(length, device=device), channels=channels)
