"""What a protocol is made of: one entry for each clip to make, and why some can't be."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Item:
    """A clip to make."""

    name: str
    """Unique; its file is ``NAME.SUFFIX``."""
    prompt: str
    real: Path | None = None
    """The real video, where there is one."""
    picture: Path | None = None
    """The key picture, where a file has it."""

    def seed(self, base: int) -> int:
        """Of its noise: from its own name, so it is the same whatever else is made, and in any order."""
        return int.from_bytes(hashlib.sha256(f"{base} {self.name}".encode()).digest()[:4], "big") >> 1


@dataclass
class Plan:
    """The items of a run, and what was left out when they were listed."""

    items: list[Item]
    skipped: dict[str, str] = field(default_factory=dict)
    """File or entry, and why it can't be used."""
    notes: list[str] = field(default_factory=list)
    """Where the data isn't the published set."""

    def digest(self) -> str:
        """Of names and prompts: another choice of items is another request."""
        return plan_digest(self.items)


def plan_digest(items: Sequence[Item]) -> str:
    rows = [[item.name, item.prompt, item.picture.name if item.picture else None] for item in items]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]
