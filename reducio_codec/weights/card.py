"""Model cards: the README.md of a model folder, with the front matter that the hub reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reducio_codec.weights.layout import CARD_FILE

_LICENCE_LINE = re.compile(r"^license:\s*(\S[^\n]*?)\s*$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a stranger must know before using a model. ``str()`` of what ``text()`` gives is the whole README.md."""

    name: str
    """Title, for example ``reducio-lite``."""
    licence: str
    """SPDX name in lower case, or ``unknown``: where it isn't stated, say so instead of guessing."""
    summary: str
    """One paragraph: what it does and for whom."""
    paper: str = "https://arxiv.org/abs/2411.13552"
    """Address of the paper whose method this is."""
    use: str = 'from reducio_codec import ReducioCodec\n\ncodec = ReducioCodec.from_pretrained("path/to/this/folder")'
    """Python that loads it."""
    source: str = ""
    """Where the weights come from: a training command, or the file that was converted."""
    training_data: Sequence[str] = ()
    """One line a source, each with its licence; share-alike sources belong here too."""
    limits: Sequence[str] = ()
    """What it is weak on, one line each."""

    def text(self) -> str:
        """The card as Markdown with YAML front matter."""
        front = ["---", f"license: {self.licence.lower()}", "library_name: reducio-codec", "---", ""]
        use = ["## Use", "", "```python", *self.use.splitlines(), "```", ""]
        body = [f"# {self.name}", "", self.summary, "", f"Paper: {self.paper}", "", *use]
        if self.source:
            body += ["## Where the weights come from", "", self.source, ""]
        body += _bullets("Training data", self.training_data)
        body += _bullets("Limits", self.limits)
        return "\n".join([*front, *body])


def _bullets(title: str, lines: Sequence[str]) -> list[str]:
    return [f"## {title}", "", *(f"- {line}" for line in lines), ""] if lines else []


def read_licence(folder: str | Path) -> str:
    """The ``license:`` of a folder's card, or ``unknown`` when there is no card or it doesn't say."""
    card = Path(folder) / CARD_FILE
    if not card.is_file():
        return "unknown"
    front = card.read_text(encoding="utf-8", errors="replace").split("\n---", 1)[0]
    found = _LICENCE_LINE.search(front) if front.startswith("---") else None
    return found.group(1) if found else "unknown"
