"""SIGTERM as an exception, so that files that are being written are taken away; for command lines."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import NoReturn

EXIT_TERMINATED = 143
"""What a shell gives a program that SIGTERM ended: 128 + SIGTERM."""

_AGAIN_AFTER = 0.05  # seconds


def exit_on_sigterm() -> None:
    """From now on SIGTERM raises SystemExit(143), where nothing else handles it.

    An exception that comes while an object is being finalised is dropped by Python; such a signal is sent once more, and so
    is a Ctrl-C.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        return
    signal.signal(signal.SIGTERM, _raise)
    otherwise = sys.unraisablehook

    def hook(dropped: sys.UnraisableHookArgs) -> None:
        numbers = {SystemExit: signal.SIGTERM, KeyboardInterrupt: signal.SIGINT}
        if dropped.exc_type not in numbers:
            otherwise(dropped)
            return
        # from a thread and a little later: raised in here, it would be dropped again
        threading.Timer(_AGAIN_AFTER, os.kill, (os.getpid(), numbers[dropped.exc_type])).start()

    sys.unraisablehook = hook


def _raise(_number: int, _frame: object) -> NoReturn:
    raise SystemExit(EXIT_TERMINATED)
