"""How much moves in a clip of which a user doesn't say so.

A picture tells little of it: the same street may lie still or rush past. A model that is left to itself makes something in
between of all that could be, for every picture alike, while real clips differ by a factor of a hundred. So it is drawn, as noise
is, from what clips have, and the model is told.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from reducio_codec.generate.config import MOST_MOTION
from reducio_codec.generate.sampling import make_generators

_CALM = 0.9
"""Share of the clips to go by. What moves most is left to those who ask for it: faces bend, and the distance to real clips is
smaller without."""
_COUNT = 19


def quantiles_of(motions: Sequence[float]) -> tuple[float, ...]:
    """Of the calmer nine tenths of clips' motions, at equally spaced probabilities; no more than can be asked for."""
    found = np.quantile(np.array(motions, np.float64).clip(max=MOST_MOTION), np.linspace(0, _CALM, _COUNT))
    return tuple(round(float(value), 4) for value in found)


def draw_motions(quantiles: Sequence[float], *, seeds: Sequence[int]) -> Tensor:
    """(B,): a motion for each seed, of clips that have these ``quantiles`` at equally spaced probabilities."""
    drawn = [float(torch.rand((), generator=one)) for one in make_generators(seeds, stage="motion")]
    return torch.tensor(np.interp(drawn, np.linspace(0, 1, len(quantiles)), quantiles), dtype=torch.float32)
