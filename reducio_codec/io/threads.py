"""Threads that wait: asleep, so that they take nothing from other work on the machine."""

from __future__ import annotations

import os
import sys
from itertools import pairwise


def let_waiting_threads_sleep() -> None:
    """For a process of our own, before torch is loaded; what the user has set stays.

    OpenMP's threads otherwise spin at each barrier until the last of them is there. Where other work holds the cores, that
    one is late, and the spinning takes even the time it needs. All OpenMP libraries that torch ships with (GNU's on
    Linux, Intel's and LLVM's elsewhere) read this variable, once, when they are loaded; processes we start inherit it.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def started_as_module(package: str) -> bool:
    """Whether Python is just looking for ``python -m package`` or a module inside it: the process is then the package's."""
    if sys.argv[:1] != ["-m"]:  # what it says until it has found the module
        return False
    return any(flag == "-m" and name.split(".")[0] == package for flag, name in pairwise(sys.orig_argv))
