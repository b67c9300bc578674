"""Input and output paths: checked before the work starts, written under a temporary name, renamed at the end.

A run that fails, is interrupted or runs out of disk leaves the old file (or none), never half of a new one.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from reducio_codec.errors import DiskFullError, InputError, ReducioError, VideoError

VIDEO_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        "3gp", "asf", "avi", "flv", "gif", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mts", "mxf", "ogv", "ts",
        "vob", "webm", "wmv", "y4m",
    )
)  # fmt: skip
"""What counts as a video in a folder; a file that is named itself may be called anything."""

# What a full disk looks like: no space, quota used up, file larger than the file system or the process may write.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

SPOOL_BYTES = 16 << 20
"""A temporary file that is larger goes to disk."""

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def given_path(path: str | os.PathLike[str]) -> Path:
    """A path as somebody gave it, before it is anything else: ``Path("")`` would be the current folder, and an address
    would lose a slash. InputError for both, and for what is no path."""
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"a path is needed; this is a {type(path).__name__}")
    text = os.fspath(path)
    if not text:
        raise InputError("the path is empty; give a file or a folder ('.' is the current one)")
    if isinstance(text, str) and _ADDRESS.match(text) and not os.path.lexists(text):
        raise InputError(f"{text} is an address; download it first and give the file's name")
    return Path(path)


def temporary_file() -> BinaryIO:
    """Without a name, in memory as long as it is small; the caller closes it."""
    return cast(BinaryIO, tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES))


def output_stem(source: Path) -> Path:
    """What an output beside ``source`` is called, less its suffix: ``a/clip`` for a/clip.mp4, a folder's own name for a
    folder, its real one where it was given as ``.`` or ``..``. InputError for the root, which has none."""
    place = source.resolve() if source.name in ("", "..") else source
    if not place.name:
        raise InputError(f"{source} has no name that the output's could be made of; give the output's name")
    return place if place.is_dir() else place.with_suffix("")


def check_input(path: str | os.PathLike[str]) -> Path:
    """The path of a file or folder that exists and may be read; an empty file is refused here too."""
    found = given_path(path)
    try:
        mode = found.stat()
        if stat.S_ISDIR(mode.st_mode):
            next(found.iterdir(), None)
        elif not stat.S_ISREG(mode.st_mode):
            raise InputError(f"{found} is not a file or folder (a device, socket or pipe can't be read here)")
        else:
            with found.open("rb"):
                pass
    except FileNotFoundError:
        raise InputError(f"{found} doesn't exist") from None
    except PermissionError:
        raise InputError(f"no permission to read {found}") from None
    except ReducioError:
        raise
    except (OSError, ValueError) as error:  # name too long, a link to itself, a null byte in the name
        raise InputError(f"{str(path)!r} can't be opened: {error}") from None
    if stat.S_ISREG(mode.st_mode) and mode.st_size == 0:
        raise VideoError(f"{found} is empty (0 bytes)")
    return found


def check_file(path: str | os.PathLike[str], *, allowed: str) -> Path:
    """As ``check_input``, for what is one file; ``allowed`` says which."""
    found = check_input(path)
    if found.is_dir():
        raise InputError(f"{found} is a folder; allowed: {allowed}")
    return found


def check_output(path: str | os.PathLike[str], *, inputs: Iterable[str | os.PathLike[str]] = ()) -> Path:
    """The path that will really be written (links followed); raises InputError when that can't work.

    ``inputs`` are the files that are read meanwhile: none of them may be the output.
    """
    given = given_path(path)
    target = Path(os.path.realpath(given))
    parent = target.parent
    try:
        if target.is_dir():
            raise InputError(f"{given} is a folder; give the name of a file")
        check_regular(target, name=given)
        if not parent.is_dir():
            raise InputError(f"the folder {parent} of the output {given} doesn't exist")
        if not os.access(parent, os.W_OK | os.X_OK) or (target.exists() and not os.access(target, os.W_OK)):
            raise InputError(f"no permission to write {given}")
    except PermissionError:
        raise InputError(f"no permission to write {given}") from None
    except OSError as error:
        raise InputError(f"{given} can't be written: {error}") from None
    for source in inputs:
        if target.exists() and Path(source).exists() and target.samefile(source):
            raise InputError(f"the output {given} is the input {source}; choose another name")
    return target


def check_regular(target: Path, *, name: str | os.PathLike[str]) -> None:
    """InputError if there is something that is neither file nor folder: a rename would put a file in the place of a
    device, and nobody at the other end of a pipe would get it."""
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise InputError(f"{name} is not a regular file (a device, socket or pipe can't be replaced)")


def _full(path: str | os.PathLike[str], error: OSError) -> DiskFullError:
    return DiskFullError(f"no space left to write {path} ({os.strerror(error.errno or errno.ENOSPC)})")


@contextmanager
def writing_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns the system's errors while ``path`` is written into one clear line of ours; not BrokenPipeError."""
    try:
        yield
    except OSError as error:
        # Ours derive from other classes; PyAV's errors derive from OSError and carry FFmpeg's own numbers.
        if error.errno in _FULL:
            raise _full(path, error) from error
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            raise InputError(f"no permission to write {path}") from error
        if error.errno == errno.EPIPE:
            raise  # no error: who reads has seen enough, and every program's way to end then is its own
        raise ReducioError(f"{path} can't be written: {error.strerror or error}") from error


class PendingFile:
    """A temporary name beside its target: ``commit`` renames it, ``discard`` removes it."""

    def __init__(self, path: str | os.PathLike[str], *, inputs: Iterable[str | os.PathLike[str]] = ()) -> None:
        self.target = check_output(path, inputs=inputs)
        # A short name of its own: the target's name may already be as long as the file system allows.
        self.temporary = self.target.parent / f".{secrets.token_hex(8)}.tmp"

    def commit(self) -> None:
        with writing_errors(self.target):
            self.temporary.replace(self.target)

    def discard(self) -> None:
        with suppress(OSError):
            self.temporary.unlink(missing_ok=True)


@contextmanager
def atomic_write(path: str | os.PathLike[str], *, inputs: Iterable[str | os.PathLike[str]] = ()) -> Iterator[BinaryIO]:
    """An open, seekable binary file (read and write) that becomes ``path`` when the block ends well.

    On any exception, KeyboardInterrupt included, the temporary file is removed and ``path`` is as it was.
    """
    pending = PendingFile(path, inputs=inputs)
    try:
        with writing_errors(path):
            file = pending.temporary.open("x+b")
        try:
            yield file
        except OSError as error:
            if error.errno in _FULL:  # only writing can fail so; other errors are the block's own
                raise _full(path, error) from error
            raise
        finally:
            with writing_errors(path):
                file.close()
        pending.commit()
    except BaseException:
        pending.discard()
        raise
