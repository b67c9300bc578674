"""What is set for a process of our own, a command, and never for one that only imports this package."""

from __future__ import annotations

import os
import sys
from itertools import pairwise

_BLOCK = 1 << 25
"""Bytes of a block of memory from which on glibc has it from the system and gives it back at once; more than 32 MiB it refuses
in some versions. A tile's frames are 28 MB."""
_KEPT = 1 << 28
"""Bytes that may be free before it gives them back."""


def settle_in() -> None:
    """For a process of our own, before torch is loaded; what the user has set stays.

    Two things are set, see ``_let_waiting_threads_sleep`` and ``_keep_freed_memory``.
    """
    _let_waiting_threads_sleep()
    _keep_freed_memory()


def _let_waiting_threads_sleep() -> None:
    """OpenMP's threads otherwise spin at each barrier until the last of them is there. Where other work holds the cores, that
    one is late, and the spinning takes even the time it needs. All OpenMP libraries that torch ships with (GNU's on
    Linux, Intel's and LLVM's elsewhere) read this variable, once, when they are loaded; processes we start inherit it.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _keep_freed_memory() -> None:
    """Frames that are freed and made anew, clip after clip, lie in memory that the process keeps.

    By its defaults glibc gives such blocks back to the system, which clears each page when it is touched again: an eighth of
    the time that 720p takes to decode. All threads share one heap: what is freed in one of several doesn't serve the others,
    and decoding 720p took a tenth more memory. Other C libraries are left as they are.
    """
    if sys.platform != "linux" or any(name in os.environ for name in _ALLOCATOR):
        return
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _BLOCK)
        mallopt(_M_TRIM_THRESHOLD, _KEPT)
        mallopt(_M_ARENA_MAX, 1)


_ALLOCATOR = ("GLIBC_TUNABLES", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_ARENA_MAX")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h


def started_as_module(package: str) -> bool:
    """Whether Python is just looking for ``python -m package`` or a module inside it: the process is then the package's."""
    if sys.argv[:1] != ["-m"]:  # what it says until it has found the module
        return False
    return any(flag == "-m" and name.split(".")[0] == package for flag, name in pairwise(sys.orig_argv))
