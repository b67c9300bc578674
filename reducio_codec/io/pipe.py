"""A video that comes as bytes, from a pipe or an open file: read once, from its beginning to its end."""

from __future__ import annotations

import io
import select
from collections.abc import Callable
from typing import Any, BinaryIO

from reducio_codec.errors import InputError

_HEAD_BYTES = 256
"""Enough for what a file says about its own length."""


def stream_name(file: Any) -> str:
    """What messages call a file object."""
    name = getattr(file, "name", None)
    if not isinstance(name, str):  # none, or the number of a file that has no name
        return "the input"
    return {"<stdin>": "standard input", "<stdout>": "standard output"}.get(name, name)


def read_some(file: Any, size: int) -> Any:
    """Up to ``size`` bytes of a file that can't seek, as soon as there are any; none at its end.

    What is there, not the whole size: frames of a camera come when they are made, and a Ctrl-C is seen between two calls of the
    system; ``read`` waits for the rest without a look at it. Who shares a pipe with us may have set it not to wait at all.
    """
    raw = file
    if isinstance(file, io.BufferedReader):
        if data := file.read1(size):
            return data
        raw = file.raw  # the end, or nothing yet: None from here is the latter
    while (data := raw.read(size)) is None and isinstance(raw, io.RawIOBase):
        select.select([raw], [], [])
    return data


def write_all(file: BinaryIO, data: bytes) -> None:
    """Write all of ``data``. A file without a buffer, as standard output is under ``python -u``, takes what it has room for."""
    if not isinstance(file, io.RawIOBase):
        file.write(data)
        return
    rest = memoryview(data)
    while rest:
        taken = file.write(rest)
        if taken is None:  # it doesn't wait by itself
            select.select([], [file], [])
        else:
            rest = rest[taken:]


class StoppedError(Exception):
    """Ctrl-C or SIGTERM came while FFmpeg waited for bytes; it is the cause. FFmpeg would take it for the end of the video."""


class Pipe:
    """What FFmpeg reads in place of a file that has a path. It counts, so that a cut can be told from an end.

    A regular file (``< in.mp4``) can also seek, which a format with its index at the end needs; a pipe can't.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self._at = 0
        self.length = 0
        """Bytes met so far; all of them once the end was read."""
        self.head = b""
        """The first bytes."""
        self.seek: Callable[..., int] | None = None
        seekable = getattr(file, "seekable", None)
        if callable(seekable) and seekable():
            self._begin = file.tell()
            self.seek = self._seek

    def __str__(self) -> str:
        return stream_name(self._file)

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; none at the end."""
        try:
            data = read_some(self._file, size) if self.seek is None else self._file.read(size)
        except (KeyboardInterrupt, SystemExit) as stop:
            raise StoppedError from stop
        if not isinstance(data, bytes):
            raise InputError(
                f"{self} gives {type(data).__name__}, not bytes; allowed: a file that is open in mode 'rb'"
            )
        if self._at <= len(self.head) < _HEAD_BYTES:
            self.head = (self.head[: self._at] + data)[:_HEAD_BYTES]
        self._at += len(data)
        self.length = max(self.length, self._at)
        return data

    def tell(self) -> int:
        """Where the next byte is, counted from the first that was there."""
        return self._at

    def _seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = self._file.seek(offset + self._begin * (whence == io.SEEK_SET), whence) - self._begin
        return self._at
