"""Attention over the places around the one that a frame's flow names."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reducio_codec.models.lite.blocks import channels_last, conv, idle, zero_conv
from reducio_codec.models.precision import exact

SHIFTS = tuple((row, column) for row in (0, 2, 4) for column in (0, 2, 4))
"""Corners of the shifted map in one that is padded by ``RIM``: every second position, since convolutions see those between."""
RIM = 2


class LocalAttention(nn.Module):
    """Each position asks 3x3 of the 5x5 positions of the moved content around it, by what is there and where it lies.

    Nothing depends on a position's place in the picture, so tiles of any size agree. The last layer starts at zero.
    """

    def __init__(self, channels: int, content: int) -> None:
        super().__init__()
        self.heads = next(heads for heads in (4, 2, 1) if content % heads == 0)
        self.query = conv(channels, content, kernel=1)
        self.key = conv(content, content, kernel=1)
        self.value = conv(content, content, kernel=1)
        self.place = nn.Parameter(torch.zeros(len(SHIFTS), self.heads))
        self.out = zero_conv(content, channels)
        self.scale = (content // self.heads) ** -0.5

    def forward(self, x: Tensor, moved: Tensor) -> Tensor:
        """x (N, C, h, w) and content (N, K, h, w) -> (N, C, h, w)."""
        if idle(self.out):
            return x
        height, width = x.shape[-2:]
        query = _positions(self.query(x) * self.scale)  # (N, h, w, K)
        key, value = (_positions(_padded(layer(moved))) for layer in (self.key, self.value))  # (N, h + 4, w + 4, K)
        # A head's channels are summed, and its share is spread over them, by products with this: sums over 12 of many take
        # three times as long. Channels lie side by side, so that what is shifted is read in long rows.
        heads = torch.eye(self.heads, dtype=query.dtype, device=x.device)
        heads = heads.repeat_interleave(query.shape[-1] // self.heads, 0)  # (K, heads)
        around = [(slice(i, i + height), slice(j, j + width)) for i, j in SHIFTS]
        scores = torch.stack([(query * key[:, rows, columns]) @ heads for rows, columns in around]).float()
        share = torch.softmax(scores + self.place[:, None, None, None], 0).to(query.dtype)  # (9, N, h, w, heads)
        first, *others = around
        found = (share[0] @ heads.T) * value[:, first[0], first[1]]  # (N, h, w, K)
        for part, (rows, columns) in zip(share[1:], others, strict=True):
            found.addcmul_(part @ heads.T, value[:, rows, columns])
        result: Tensor = x + self.out(found.permute(0, 3, 1, 2))
        return result


def _positions(x: Tensor) -> Tensor:
    """(N, K, h, w) to (N, h, w, K), also in memory."""
    return channels_last(x).permute(0, 2, 3, 1)


def _padded(x: Tensor) -> Tensor:
    with exact(x.device):  # in its own number format: under autocast all that follows would be float32
        return F.pad(x, (RIM,) * 4, mode="replicate")
