"""A folder of files and the folder of what is made of them: names, and what is done already."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reducio_codec.errors import FormatError, InputError, VideoError
from reducio_codec.io.images import natural_key
from reducio_codec.io.truncation import missing_bytes
from reducio_codec.io.video import open_video
from reducio_codec.rdc.reader import RdcReader

State = Literal["missing", "half", "done", "outdated"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One file to make of another."""

    source: Path
    target: Path
    name: str
    """Of the source, from the folder on."""

    def state(self) -> State:
        """Whether there is a target, is all of it there, and is it as new as its source."""
        if not self.target.exists():
            return "missing"
        if not is_whole(self.target):
            return "half"
        newer = self.target.stat().st_mtime_ns >= self.source.stat().st_mtime_ns
        return "done" if newer else "outdated"


@dataclass(frozen=True, kw_only=True)
class Found:
    """What lies in a folder."""

    folder: Path
    files: list[Path]
    unreadable: list[tuple[str, str]]
    """Folders below it that can't be read, each with the reason."""


def find_files(folder: Path, *, suffixes: Collection[str]) -> Found:
    """The files below a folder, to any depth, whose name ends with one of ``suffixes`` in upper or lower case.

    Hidden files and folders are left out, and folders that are links aren't entered.
    """
    unreadable: list[tuple[str, str]] = []

    def note(error: OSError) -> None:
        unreadable.append((os.path.relpath(error.filename, folder), str(error.strerror)))

    found: list[Path] = []
    for place, folders, files in os.walk(folder, onerror=note):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(place, name)
            for name in files
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in suffixes  # noqa: PTH122 - no Path for each
        ]
    found.sort(key=lambda path: (path.parent, natural_key(path)))
    return Found(folder=folder, files=found, unreadable=unreadable)


def plan_jobs(found: Found, *, out: Path, suffix: str) -> list[Job]:
    """A job for each file: the same place in ``out``, with another suffix.

    Where two files would get one name (a.mp4 and a.mkv), each keeps its own suffix before the new one: a.mp4.rdc, a.mkv.rdc.

    Raises:
        InputError: two files would get one name even so.
    """
    files, folder = found.files, found.folder
    places = [out / path.relative_to(folder) for path in files]
    short = [place.with_suffix(suffix) for place in places]
    met = Counter(_folded(place) for place in short)
    targets = [
        place.with_name(place.name + suffix) if met[_folded(name)] > 1 else name
        for place, name in zip(places, short, strict=True)
    ]
    owners: dict[Path, Path] = {}
    for path, target in zip(files, targets, strict=True):
        other = owners.setdefault(target, path)
        if other != path:
            raise InputError(f"{other} and {path} would both become {target}; rename one of them")
    return [
        Job(source=path, target=target, name=str(path.relative_to(folder)))
        for path, target in zip(files, targets, strict=True)
    ]


def _folded(path: Path) -> str:
    """One name for what some file systems take for one file."""
    return str(path).casefold()


def is_whole(path: Path) -> bool:
    """Whether a file of ours is all there: an .rdc file to its last record, a video as far as it says how long it is."""
    if not path.is_file():
        return True  # a folder of this name, say, which is no half of anything
    try:
        if path.suffix.lower() != ".rdc":
            with open_video(path):
                return missing_bytes(path) == 0
        with path.open("rb") as file:
            return not RdcReader(file).damage
    except (FormatError, VideoError):
        return False


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to do."""

    todo: list[Job]
    done: list[Job]
    """Finished before, and no older than their sources."""
    refused: list[tuple[str, str]]
    """Names of what can't be done, and why."""

    @property
    def files(self) -> int:
        """All of it."""
        return len(self.todo) + len(self.done) + len(self.refused)


def plan_folder(found: Found, *, out: Path, suffix: str, force: bool) -> Plan:
    """What there is to do, see ``plan_jobs``: all of it with ``force``; without, what is older than its source is refused."""
    jobs = plan_jobs(found, out=out, suffix=suffix)
    if force:
        return Plan(todo=jobs, done=[], refused=found.unreadable)
    sorted_out = Plan(todo=[], done=[], refused=list(found.unreadable))
    for job in jobs:
        try:
            state = job.state()
        except OSError as error:  # of a link that leads nowhere, for one
            sorted_out.refused.append((job.name, error.strerror or str(error)))
            continue
        if state == "done":
            sorted_out.done.append(job)
        elif state == "outdated":
            sorted_out.refused.append(
                (job.name, f"{job.target} exists and is older; remove it, or force=True makes all again")
            )
        else:
            sorted_out.todo.append(job)
    return sorted_out
