"""Finds where the host would wait for a device, without one: tensors that are read while a block runs."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

_READS = ("_local_scalar_dense", "nonzero", "unique", "masked_select", "is_nonzero", "equal", "_linalg_check_errors")
"""Operators whose result, or its shape, the host needs at once."""

Host = Callable[[FrameType], bool]
"""Whether what is read in this frame is on the host whatever the device."""


def in_optimizer(frame: FrameType) -> bool:
    """torch's optimisers count their steps on the host."""
    return "torch/optim/" in frame.f_code.co_filename


class _Watch(TorchDispatchMode):
    def __init__(self, host: Host) -> None:
        super().__init__()
        self._host = host

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__.startswith(_READS):
            _refuse(func.overloadpacket.__name__, self._host)
        return func(*args, **(kwargs or {}))


def _refuse(what: str, host: Host) -> None:
    frames = [frame for frame, _ in traceback.walk_stack(None)]  # inspect.stack reads every frame's source, each time
    if not any(map(host, frames)):
        ours = [f"{x.f_code.co_filename}:{x.f_lineno}" for x in frames if "reducio_codec" in x.f_code.co_filename]
        raise AssertionError(f"{what}: the host reads the device at {' < '.join(ours[:4])}")


@contextmanager
def no_host_reads(monkeypatch: pytest.MonkeyPatch, *, host: Host) -> Iterator[None]:
    """A read in the block is an AssertionError, unless ``host`` excuses one of its frames."""
    with monkeypatch.context() as patch:
        for name in ("cpu", "numpy", "tolist"):
            real = getattr(torch.Tensor, name)

            def read(self: torch.Tensor, *args: Any, _real: Any = real, _name: str = name, **more: Any) -> Any:
                _refuse(_name, host)
                return _real(self, *args, **more)

            patch.setattr(torch.Tensor, name, read)
        with _Watch(host):
            yield
