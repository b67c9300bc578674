"""``python -m bench readme``: the tables of a Markdown file, README.md or bench/README.md, made again from the results.

``<!-- bench:NAME -->`` and ``<!-- /bench -->`` enclose the table of ``RESULTS/NAME.json``, or with the names ``rd``,
``reconstruction`` and ``ablation`` the tables of those folders. What stands between them is replaced; nothing else is touched.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from bench.ablation_table import ablations
from bench.markdown import markdown
from bench.rd_curves import read_rd
from bench.reconstruction import PROTOCOL
from bench.results import ResultStore
from bench.summaries import summary
from bench.tables import rate_distortion, reconstruction
from reducio_codec.errors import InputError

FOLDERS: dict[str, Callable[[Path], str]] = {
    "ablation": lambda results: "\n\n".join(ablations(results)),
    "rd": lambda results: rate_distortion(read_rd(results)),
    "reconstruction": lambda results: reconstruction(ResultStore(folder=results, protocol=PROTOCOL)),
}

_MARKER = re.compile(r"^<!-- (?:bench:(?P<name>[\w.-]+)|(?P<end>/bench)) -->\n", re.MULTILINE)


def renew(text: str, *, results: Path) -> str:
    """``text`` with its tables made again.

    Raises:
        InputError: no marker, one without its other half, or results that are missing or can't be read.
    """
    markers = list(_MARKER.finditer(text))
    if not markers:
        raise InputError("no <!-- bench:NAME --> marker, so there is no table to make")
    parts, position = [], 0
    for number, marker in enumerate(markers):
        opens = number % 2 == 0
        if opens != (marker["end"] is None):
            line = text.count("\n", 0, marker.start()) + 1
            raise InputError(
                f"line {line}: {marker[0].strip()} where {'bench:NAME' if opens else '/bench'} has to stand"
            )
        if opens:
            parts += [text[position : marker.end()], table(marker["name"], results=results), "\n"]
        else:
            position = marker.start()
    if len(markers) % 2:
        raise InputError(f"{markers[-1][0].strip()} has no <!-- /bench --> after it")
    return "".join([*parts, text[position:]])


def table(name: str, *, results: Path) -> str:
    """The table that the marker ``name`` stands for, as Markdown."""
    if name not in FOLDERS:
        return "\n\n".join(map(markdown, summary(results / f"{name}.json")[1]))
    if not (results / name).is_dir():
        raise InputError(f"{results / name} isn't there; python -m bench run {name} makes it")
    return FOLDERS[name](results)
