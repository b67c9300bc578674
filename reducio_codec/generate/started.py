"""What a model took from other weights at its start, for the log."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Started:
    """Names of tensors, each kind sorted."""

    taken: tuple[str, ...]
    """Of the model: set from the source."""
    kept: tuple[str, ...]
    """Of the model: as they were."""
    unused: tuple[str, ...]
    """Of the source: not taken."""

    def text(self, source: object) -> str:
        """All of it in one line."""
        total = len(self.taken) + len(self.kept)
        return (
            f"{len(self.taken)} of {total} tensors start from {source}: {_listed(self.taken)}; "
            f"not taken, as before: {_listed(self.kept)}; not used of the source: {_listed(self.unused)}"
        )


def _listed(names: Iterable[str]) -> str:
    """Names with the same words are one, with all their numbers: ``blocks.{0-27}.attn.proj.bias``."""
    groups: dict[str, list[int]] = {}
    for name in names:
        number = re.search(r"(?<=\.)\d+(?=\.)", name)
        key = name if number is None else f"{name[: number.start()]}#{name[number.end() :]}"
        groups.setdefault(key, []).extend([] if number is None else [int(number[0])])
    return ", ".join(key.replace("#", _range(sorted(numbers))) for key, numbers in groups.items()) or "none"


def _range(numbers: list[int]) -> str:
    if len(numbers) < 2:
        return "".join(map(str, numbers))
    whole = numbers == list(range(numbers[0], numbers[-1] + 1))
    return f"{{{numbers[0]}-{numbers[-1]}}}" if whole else "{" + ",".join(map(str, numbers)) + "}"
