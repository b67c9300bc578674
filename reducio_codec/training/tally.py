"""What a run keeps of its losses: on the device, so that no step waits for it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from reducio_codec.errors import ReducioError


class Means:
    """Mean losses since the last line of the log, added up on the device."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self.batches = 0

    def add(self, parts: Mapping[str, Tensor]) -> None:
        """The losses of one batch, scalars."""
        for name, value in parts.items():
            value = value.detach().double()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self.batches += 1

    def read(self) -> dict[str, float]:
        """Waits for the device."""
        if not self._sums:
            return {}
        sums = torch.stack(list(self._sums.values())).tolist()
        return {name: value / self.batches for name, value in zip(self._sums, sums, strict=True)}

    def clear(self) -> None:
        self._sums, self.batches = {}, 0


class FiniteCheck:
    """Whether losses and gradients are numbers: noted on the device, read when somebody asks."""

    def __init__(self) -> None:
        self._noted: list[tuple[Tensor, int, tuple[str, ...]]] = []

    def note(self, value: Tensor, *, step: int, names: tuple[str, ...]) -> None:
        """``value`` is of the batch with the clips ``names``."""
        self._noted.append((torch.isfinite(value.detach()).all(), step, names))

    def read(self) -> None:
        """Waits for the device.

        Raises:
            ReducioError: since the last call something wasn't finite; it names the clips of the first such batch.
        """
        noted, self._noted = self._noted, []
        if not noted:
            return
        for good, (_, step, names) in zip(torch.stack([flag for flag, *_ in noted]).tolist(), noted, strict=True):
            if not good:
                raise ReducioError(
                    f"the loss isn't finite at step {step}; its clips: {', '.join(names)}. The last checkpoint is kept"
                )
