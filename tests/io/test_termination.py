"""A SIGTERM ends a program even if it comes while Python finalises an object, where exceptions are dropped."""

from __future__ import annotations

import subprocess
import sys

import pytest

FINALISED = """
import os, signal, time
from reducio_codec.io.termination import exit_on_sigterm

# a suite that is a background job of a script ignores SIGINT, and its children inherit that
signal.signal(signal.SIGINT, signal.default_int_handler)
exit_on_sigterm()

def frames():
    try:
        yield 1
    finally:
        os.kill(os.getpid(), signal.{name})
        time.sleep(0.2)

next(frames())  # the generator is dropped at once: its end runs in a finaliser
time.sleep(20)
print("still there")
"""


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", -2)])
def test_a_signal_in_a_finaliser_is_not_lost(name: str, code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FINALISED.format(name=name)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == ""
    assert done.returncode == code, done.stderr
