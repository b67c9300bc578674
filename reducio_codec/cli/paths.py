"""Names of files and folders on the command line, and what ``-`` stands for."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, BinaryIO

import click

from reducio_codec.errors import InputError
from reducio_codec.io.files import check_regular, given_path, output_stem, temporary_file

STANDARD = Path("-")
"""Standard input or output, where a command reads or writes an .rdc file."""


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
VIDEO = PathName(dash="a video can't be read from standard input; save it to a file first and give its name")
PICTURE = PathName(dash="a picture can't be read from standard input; save it to a file first and give its name")
NEW_VIDEO = PathName(dash="a video can't be written to standard output; give -o OUT.mp4")
STORED = PathName(dash="'-' is neither a file nor a folder here; ./- is one of that name")


def beside(source: Path, suffix: str) -> Path:
    """The name of an output that got none: the source's, with another suffix."""
    stem = output_stem(source)
    return stem.with_name(stem.name + suffix)


def check_new(*paths: Path, force: bool) -> None:
    """Refuse to replace files without ``--force``, and what is no file ever, before any work is done."""
    for path in paths:
        if path == STANDARD:
            continue
        check_regular(path, name=path)
        if path.exists() and not path.is_dir() and not force:
            raise InputError(f"{path} exists; --force replaces it")


def standard_input() -> BinaryIO:
    """All of standard input as a file that can seek, as readers need it; the caller closes it."""
    if sys.stdin is None:
        raise InputError("standard input is closed; pipe an .rdc file into '-'")
    source = sys.stdin.buffer
    if source.isatty():
        raise InputError("standard input is a terminal; pipe an .rdc file into '-'")
    spool = temporary_file()
    while block := source.read(1 << 20):
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
