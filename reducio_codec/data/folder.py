"""The ``.rdc`` files of a folder and what clips they have, remembered between runs.

What is known of a folder lies in the user's cache, so that only files that are new or have changed are looked into.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from reducio_codec.errors import FormatError, InputError, ReducioError
from reducio_codec.io.files import atomic_write, given_path
from reducio_codec.rdc.outline import read_outline

OnError = Literal["raise", "skip"]
ON_ERROR: tuple[OnError, ...] = ("raise", "skip")

_FORMAT = 1
_SUFFIX = ".rdc"
_READERS = 8
"""Threads: on a network's disk each waits for most of its time."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class RdcFile:
    """What is known of a file before any of it is decoded."""

    path: Path
    height: int
    width: int
    lengths: tuple[int, ...]
    """Frames of each clip, 1 to 16."""
    pictures: tuple[int, ...]
    """Key frames of each clip, 0 to 16."""
    model: str
    version: int
    latent_space: str
    """As the file's header says: see ``rdc.header``."""

    @property
    def frames(self) -> int:
        return sum(self.lengths)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Fault:
    """Why a file can't be used."""

    reason: str
    lasting: bool
    """Whether it stays so as long as the file doesn't change."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _State:
    """A file's size in bytes and time of change in ns: as long as they stay, so does what is in it."""

    size: int
    changed: int


def find_files(folder: str | os.PathLike[str], *, on_error: OnError) -> list[RdcFile]:
    """All ``.rdc`` files of a folder and the folders in it, sorted by name; links to folders aren't followed.

    Args:
        on_error: whether a file that is damaged, empty or unreadable is an error, or is named in a warning and left out.

    Raises:
        InputError: no such folder, or no file in it. FormatError: a file is damaged, with ``on_error="raise"``.
    """
    root = given_path(folder)
    if not root.is_dir():
        raise InputError(f"{root} is {'a file' if root.exists() else 'not there'}; allowed: a folder of .rdc files")
    present = dict(sorted(_walk(root, "")))
    if not present:
        raise InputError(f"{root} has no .rdc files")
    store = _store(root)
    known = _read_store(store, root)
    fresh = [name for name, state in present.items() if name not in known or known[name][0] != state]
    with ThreadPoolExecutor(_READERS) as pool:
        looked = dict(zip(fresh, pool.map(lambda name: _look(root / name), fresh), strict=True))
    found = {name: looked[name] if name in looked else known[name][1] for name in present}
    if fresh or len(known) > len(present):
        _write_store(store, root, {name: (state, found[name]) for name, state in present.items() if state is not None})
    return _usable(root, found, on_error=on_error)


def _usable(root: Path, found: dict[str, RdcFile | _Fault], *, on_error: OnError) -> list[RdcFile]:
    bad = [f"{root / name}: {file.reason}" for name, file in found.items() if isinstance(file, _Fault)]
    if bad and (on_error == "raise" or len(bad) == len(found)):
        more = f" (and {len(bad) - 1} more of {len(found)} files)" if len(bad) > 1 else ""
        hint = "; on_error='skip' leaves such files out" if on_error == "raise" else ""
        raise FormatError(f"{bad[0]}{more}{hint}")
    for message in bad:
        _log.warning("left out %s", message)
    return [file for file in found.values() if isinstance(file, RdcFile)]


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, _State | None]]:
    """Names below the folder, with what would show a change; None where there is no file behind the name."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = prefix + entry.name
                if entry.is_dir(follow_symlinks=False):
                    yield from _walk(folder / entry.name, name + "/")
                elif entry.name.lower().endswith(_SUFFIX):
                    yield name, _state(entry)
    except OSError as error:
        raise InputError(f"{folder} can't be read: {error.strerror}") from error


def _state(entry: os.DirEntry[str]) -> _State | None:
    try:
        if not entry.is_file():  # a pipe would make its reader wait
            return None
        found = entry.stat()
    except OSError:
        return None
    return _State(size=found.st_size, changed=found.st_mtime_ns)


def _look(path: Path) -> RdcFile | _Fault:
    """What the file has, or what is wrong with it."""
    try:
        if not path.is_file():
            return _Fault(reason="it is no file, or a link that leads nowhere", lasting=False)
        with path.open("rb") as file:
            outline = read_outline(file)
    except FormatError as error:
        return _Fault(reason=str(error), lasting=True)
    except OSError as error:
        return _Fault(reason=f"it can't be read: {error.strerror}", lasting=False)
    if not outline.lengths:
        return _Fault(reason="the file holds no clip", lasting=True)
    header = outline.header
    return RdcFile(
        path=path,
        height=header.height,
        width=header.width,
        lengths=outline.lengths,
        pictures=outline.pictures,
        model=header.model,
        version=header.version,
        latent_space=header.latent_space,
    )


def _store(root: Path) -> Path | None:
    """Where what is known of the folder lies; None for a user without a home."""
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    name = hashlib.sha256(str(root.resolve()).encode(errors="surrogateescape")).hexdigest()[:24]
    return base / "reducio-codec" / "folders" / f"{name}.json"


def _read_store(store: Path | None, root: Path) -> dict[str, tuple[_State, RdcFile | _Fault]]:
    """What is known by name; nothing if there is no such file, or it isn't of this format."""
    if store is None:
        return {}
    try:
        document = json.loads(store.read_text(encoding="ascii"))
        if document["format"] != _FORMAT:
            return {}
        return {
            name: (_State(size=size, changed=changed), _from_row(root / name, row))
            for name, (size, changed, row) in document["files"].items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        _log.warning("%s is damaged and is made anew: %s", store, error)
        return {}


def _write_store(store: Path | None, root: Path, known: dict[str, tuple[_State, RdcFile | _Fault]]) -> None:
    """A cache that can't be written is none: the next run looks again."""
    if store is None:
        return
    rows = {
        name: [state.size, state.changed, _to_row(file)]
        for name, (state, file) in known.items()
        if isinstance(file, RdcFile) or file.lasting
    }
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(store) as file:
            file.write(json.dumps({"format": _FORMAT, "folder": str(root), "files": rows}).encode("ascii"))
    except (OSError, ReducioError) as error:
        _log.warning("what %s holds can't be remembered, so the next run looks through it again: %s", root, error)


def _to_row(file: RdcFile | _Fault) -> list[Any]:
    if isinstance(file, _Fault):
        return [file.reason]
    clips = zip(file.lengths, file.pictures, strict=True)
    runs = [[frames, pictures, len(list(same))] for (frames, pictures), same in groupby(clips)]
    return [file.height, file.width, runs, file.model, file.version, file.latent_space]


def _from_row(path: Path, row: list[Any]) -> RdcFile | _Fault:
    if len(row) == 1:
        return _Fault(reason=str(row[0]), lasting=True)
    height, width, runs, model, version, latent_space = row
    return RdcFile(
        path=path,
        height=int(height),
        width=int(width),
        lengths=tuple(int(frames) for frames, _, count in runs for _ in range(count)),
        pictures=tuple(int(pictures) for _, pictures, count in runs for _ in range(count)),
        model=str(model),
        version=int(version),
        latent_space=str(latent_space),
    )
