"""Whatever holds an ``.rdc`` file, opened: a path, a file object, a pipe."""

from __future__ import annotations

import io
import os
from contextlib import ExitStack
from typing import Any, BinaryIO, cast

from reducio_codec.coding.engine import Engine
from reducio_codec.coding.rdc_video import RdcVideo
from reducio_codec.errors import FormatError, InputError, WeightsError
from reducio_codec.io.files import check_file, temporary_file


def open_rdc(src: str | os.PathLike[str] | BinaryIO, *, engine: Engine) -> RdcVideo:
    """A path or a binary file object as an :class:`RdcVideo`, which closes what is opened here."""
    with ExitStack() as opened:
        if isinstance(src, str | os.PathLike):
            path = check_file(src, allowed="an .rdc file")
            file: BinaryIO = opened.enter_context(path.open("rb"))
            name = str(path)
        else:
            file, given = _seekable(src, opened=opened), getattr(src, "name", None)
            name = given if isinstance(given, str) else "the input"
        try:
            return RdcVideo(file, engine=engine, opened=opened.pop_all())
        except (FormatError, WeightsError) as error:
            raise type(error)(f"{name}: {error}") from error


def _seekable(file: Any, *, opened: ExitStack) -> BinaryIO:
    """A binary file object that can seek: the one that is given, or a copy of what it still holds."""
    allowed = "allowed: a path or a binary file object that can be read"
    if isinstance(file, bytes | bytearray | memoryview):
        raise InputError(f"source is a {type(file).__name__}; {allowed} (io.BytesIO(data) is one)")
    if not callable(getattr(file, "read", None)):
        raise InputError(f"source is a {type(file).__name__}; {allowed}")
    if getattr(file, "closed", False):
        raise InputError(f"source is closed; {allowed}")
    if isinstance(file, io.TextIOBase):
        raise InputError(f"source is open as text; {allowed} (mode 'rb')")
    if callable(getattr(file, "readable", None)) and not file.readable():
        raise InputError(f"source is open for writing alone; {allowed}")
    if callable(getattr(file, "seekable", None)) and file.seekable():
        return cast(BinaryIO, file)
    copy = opened.enter_context(temporary_file())
    while block := file.read(1 << 20):
        if not isinstance(block, bytes | bytearray):
            raise InputError(f"source gives {type(block).__name__}, not bytes; {allowed}")
        copy.write(block)
    return copy
