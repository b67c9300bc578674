"""Result files: JSON that a killed run leaves whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reducio_codec.io.files import atomic_write

RESULTS = Path("bench/results")
"""Seen from the repository's root."""

PUBLISHED = Path(__file__).with_name("published.json")
"""What papers printed: ``rows`` (reconstruction), ``ablations``, ``generation``."""


def read_json(path: Path, *, protocol: str | None = None) -> dict[str, Any] | None:
    """A result, or None where there is none that can be read, or one of another ``protocol``."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    fits = isinstance(data, dict) and (protocol is None or data.get("protocol") == protocol)
    return data if fits else None


def write_json(path: Path, data: dict[str, Any]) -> None:
    """A killed run leaves no half file."""
    write_lines(path, [dump(data)])


def write_lines(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(("\n".join(lines) + "\n").encode())


def dump(data: dict[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False, allow_nan=False)
