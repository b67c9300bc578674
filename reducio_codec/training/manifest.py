"""Which videos a run is made of: a folder, or a CSV or JSONL file that lists them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from reducio_codec.errors import InputError
from reducio_codec.io.files import VIDEO_SUFFIXES, given_path

_COLUMNS = ("path", "file", "video")


def find_videos(source: str | Path) -> list[Path]:
    """Paths of the videos in a folder (searched to any depth, sorted), or in a manifest (in its order).

    A manifest is a CSV file with a header, or JSONL with an object a line; the column or key is ``path``, ``file`` or
    ``video``. Relative paths start from the manifest's folder. Whether the files can be read is found out later.

    Raises:
        InputError: it doesn't exist, is of another kind, or lists nothing.
    """
    source = given_path(source)
    if source.is_dir():
        found = sorted(path for path in source.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file())
        if not found:
            raise InputError(f"{source} has no videos; looked for {', '.join(sorted(VIDEO_SUFFIXES))}")
        return found
    kind = source.suffix.lower()
    if kind not in (".csv", ".jsonl"):
        raise InputError(f"{source} is neither a folder nor a .csv or .jsonl file")
    try:  # names as the file system has them: neither UTF-8 nor free of line ends
        with source.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            text = file.read()
    except OSError as error:
        raise InputError(f"{source} can't be read: {error}") from error
    names = _from_csv(source, text) if kind == ".csv" else _from_jsonl(source, text)
    if not names:
        raise InputError(f"{source} lists no videos")
    return [source.parent / name for name in names]


def _from_csv(source: Path, text: str) -> list[str]:
    rows = csv.DictReader(io.StringIO(text, newline=""))
    try:
        column = next((name for name in _COLUMNS if name in (rows.fieldnames or ())), None)
        if column is None:
            raise InputError(
                f"{source}: its first line must name a column {', '.join(_COLUMNS)}; it has {rows.fieldnames}"
            )
        return [row[column] for row in rows if row[column]]
    except csv.Error as error:
        raise InputError(f"{source} isn't CSV: {error}") from error


def _from_jsonl(source: Path, text: str) -> list[str]:
    names = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise InputError(f"{source}, line {number} isn't JSON: {error}") from error
        key = next((name for name in _COLUMNS if isinstance(entry, dict) and name in entry), None)
        if key is None:
            raise InputError(f"{source}, line {number} must be an object with {', '.join(_COLUMNS)}")
        if not isinstance(entry[key], str):
            raise InputError(f"{source}, line {number}: {key} is {entry[key]!r}; it must be a name")
        names.append(entry[key])
    return names
