"""The browser that the tests start."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest


def facts(stat: Path) -> list[str]:
    """The fields of a /proc/.../stat behind the program's name, of which the first is the third."""
    try:
        return stat.read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_none_of_its_threads_goes_before_the_tests(browser: Any) -> None:
    browser.get("about:blank")
    parents = {
        int(path.parent.name): int(found[1]) for path in Path("/proc").glob("[0-9]*/stat") if (found := facts(path))
    }
    family = {browser.service.process.pid}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    threads = [found for pid in family for path in Path(f"/proc/{pid}").glob("task/*/stat") if (found := facts(path))]
    assert len(threads) > 20
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert min(int(found[16]) for found in threads) >= own
    assert max(int(found[37]) for found in threads) == 0  # real time
