"""The most memory that a piece of work took."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


class PeakMemory:
    """Starts watching when it is made; ``bytes()`` is the peak since then.

    On an accelerator that is what torch allocated there; elsewhere the whole process's resident memory, interpreter
    and weights included. Where the system can't forget an older peak (not Linux), it is the peak since the
    program started.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            with suppress(OSError):
                _CLEAR.write_text("5")

    def bytes(self) -> int | None:
        """Bytes, or None on a system that doesn't tell."""
        if self._device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self._device))
        with suppress(OSError, ValueError, IndexError):
            lines = _STATUS.read_text().splitlines()
            return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
        with suppress(ImportError):
            import resource

            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            return peak if sys.platform == "darwin" else peak * 1024
        return None
