"""How much memory is free."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from reducio_codec.io import memory
from reducio_codec.io.memory import free_memory

CPU = torch.device("cpu")


def test_what_is_kept_of_files_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has read much has little that is free, and can give all of that."""
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 24000000 kB\nMemFree: 600000 kB\nMemAvailable: 20000000 kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", meminfo)
    assert free_memory(CPU) == 20_000_000 * 1024


@pytest.mark.parametrize("text", [None, "", "MemFree: 1 kB\n", "MemAvailable: much\n", "MemAvailable\n"])
def test_systems_that_say_it_otherwise(text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if text is not None:
        (tmp_path / "meminfo").write_text(text)
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory.os, "sysconf", lambda name: 7, raising=False)
    assert free_memory(CPU) == 49
    monkeypatch.delattr(memory.os, "sysconf", raising=False)
    assert free_memory(CPU) is None
