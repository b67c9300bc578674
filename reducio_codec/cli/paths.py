"""Names of files and folders on the command line, and what ``-`` stands for."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import click

from reducio_codec.errors import InputError
from reducio_codec.io.files import check_regular, given_path, output_stem, temporary_file
from reducio_codec.io.pipe import read_some

STANDARD = Path("-")
"""Standard input or output."""


class PathName(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on only
    """A path as it was given: not empty, no address; ``-`` only where ``dash`` doesn't say why it can't be."""

    name = "path"

    def __init__(self, *, dash: str = "") -> None:
        self._dash = dash

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = given_path(value)
        if path != STANDARD:
            return path
        if value != "-":
            return path.absolute()  # ./- is a file of that name
        if self._dash:
            raise InputError(self._dash)
        return path


RDC = PathName()
PIPED = PathName()
"""A video, or ``-`` for one in a pipe."""
VIDEO = PathName(dash="a video can't be read from standard input here; save it to a file first and give its name")
PICTURE = PathName(dash="a picture can't be read from standard input; save it to a file first and give its name")
NEW_VIDEO = PathName(dash="a video can't be written to standard output here; give -o OUT.mp4")
STORED = PathName(dash="'-' is neither a file nor a folder here; ./- is one of that name")


def beside(source: Path, suffix: str) -> Path:
    """The name of an output that got none: the source's, with another suffix."""
    stem = output_stem(source)
    return stem.with_name(stem.name + suffix)


def check_new_folder(folder: Path, *, force: bool) -> None:
    """Refuse a folder that holds anything without ``--force``, and what is none."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    if folder.is_dir() and not force and next(folder.iterdir(), None) is not None:
        raise InputError(f"{folder} is not empty; --force replaces the numbered pictures in it")


def check_new(*paths: Path, force: bool) -> None:
    """Refuse to replace files without ``--force``, and what is no file ever, before any work is done."""
    for path in paths:
        if path == STANDARD:
            continue
        check_regular(path, name=path)
        if path.exists() and not path.is_dir() and not force:
            raise InputError(f"{path} exists; --force replaces it")


def open_standard_input(*, what: str) -> BinaryIO:
    """Standard input for bytes, of ``what`` ("a video"); refused where it is a terminal or closed."""
    if sys.stdin is None:
        raise InputError(f"standard input is closed; pipe {what} into '-'")
    source = sys.stdin.buffer
    if source.isatty():
        raise InputError(f"standard input is a terminal; pipe {what} into '-'")
    return source


def standard_input() -> BinaryIO:
    """An .rdc file from standard input, all of it, as a file that can seek, as its reader needs it; the caller closes it."""
    source = open_standard_input(what="an .rdc file")
    spool = temporary_file()
    while block := read_some(source, 1 << 20):
        spool.write(block)
    spool.seek(0)
    return spool


def standard_output() -> BinaryIO:
    """Standard output for bytes; refused where it is a terminal, which bytes would garble."""
    if sys.stdout is None:
        raise InputError("standard output is closed; redirect '-o -' into a file or a pipe")
    target = sys.stdout.buffer
    if target.isatty():
        raise InputError("standard output is a terminal; redirect '-o -' into a file or a pipe")
    with suppress(OSError):  # that of a test has no number
        os.set_blocking(target.fileno(), True)  # who shares a pipe may have set it not to wait for its reader
    return target


def fill_closed_streams() -> None:
    """Put the null device wherever a standard stream is closed: the next file that is opened would get its number, and
    what a library writes to standard error would land in that file."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number: this one
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)
