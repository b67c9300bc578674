"""Outputs appear whole or not at all, and wrong paths are told in one clear line."""

from __future__ import annotations

import errno
import os
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from reducio_codec.errors import InputError, ReducioError, VideoError
from reducio_codec.io.files import atomic_write, check_input, check_output, writing_errors
from reducio_codec.io.video import open_video
from reducio_codec.io.writer import VideoWriter


def test_the_file_appears_whole(tmp_path):
    target = tmp_path / "a.bin"
    with atomic_write(target) as file:
        file.write(b"12345")
        file.seek(0)
        assert file.read() == b"12345"
        assert not target.exists()
    assert target.read_bytes() == b"12345"
    assert list(tmp_path.iterdir()) == [target]


def test_permissions_are_those_of_a_new_file(tmp_path):
    (tmp_path / "plain").touch()
    with atomic_write(tmp_path / "a.bin"):
        pass
    assert (tmp_path / "a.bin").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError, OSError])
def test_any_failure_leaves_what_was_there(tmp_path, error):
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    with pytest.raises(error), atomic_write(target) as file:
        file.write(b"half")
        raise error
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_keeps_being_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link.bin").symlink_to(tmp_path / "real" / "a.bin")
    with atomic_write(tmp_path / "link.bin") as file:
        file.write(b"new")
    assert (tmp_path / "link.bin").is_symlink()
    assert (tmp_path / "real" / "a.bin").read_bytes() == b"new"


def test_a_name_as_long_as_allowed(tmp_path):
    target = tmp_path / ("a" * 251 + ".bin")
    with atomic_write(target) as file:
        file.write(b"x")
    assert target.exists()


def test_wrong_outputs(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "in").write_bytes(b"x")
    (tmp_path / "same").hardlink_to(tmp_path / "in")
    for path, message in [
        (tmp_path / "folder", "is a folder; give the name of a file"),
        (tmp_path / "no" / "a", "doesn't exist"),
        (tmp_path / "in" / "a", "doesn't exist"),
        (Path("/dev/null"), "is not a regular file"),
        (tmp_path / "in", "is the input"),
        (tmp_path / "same", "is the input"),
        (tmp_path / ("a" * 300), "can't be written"),
    ]:
        with pytest.raises(InputError, match=message):
            check_output(path, inputs=[tmp_path / "in"])
        with pytest.raises(InputError, match=message), atomic_write(path, inputs=[tmp_path / "in"]):
            pass


def test_wrong_inputs(tmp_path):
    (tmp_path / "empty.mp4").touch()
    for path, error, message in [
        (tmp_path / "no.mp4", InputError, "doesn't exist"),
        (tmp_path / "empty.mp4", VideoError, r"is empty \(0 bytes\)"),
        (Path("/dev/null"), InputError, "is not a file or folder"),
        ("a\0b", InputError, "can't be opened"),
    ]:
        with pytest.raises(error, match=message):
            check_input(path)


@contextmanager
def nobody() -> Iterator[Path]:
    """A public folder, visited as a user without rights (root may do everything, so it steps down)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "secret.mp4").write_bytes(b"x")
        (folder / "secret.mp4").chmod(0)
        (folder / "closed").mkdir(mode=0o555)
        (folder / "fixed.mp4").write_bytes(b"x")
        (folder / "fixed.mp4").chmod(0o444)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            if user == 0:
                os.seteuid(0)


def test_no_permission(monkeypatch):
    # access() asks for the real user, who is root where the tests run as root: ask for the effective one.
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: access(path, mode, effective_ids=True))
    with nobody() as folder:
        with pytest.raises(InputError, match=r"no permission to read .*secret\.mp4"):
            open_video(folder / "secret.mp4")
        for name in ("closed/a.mp4", "fixed.mp4"):
            with pytest.raises(InputError, match=f"no permission to write .*{name}"):
                check_output(folder / name)
        with pytest.raises(InputError, match="no permission to write"):
            VideoWriter(folder / "closed" / "a.mp4", width=2, height=2, time_base=Fraction(1), rate=Fraction(1))


def test_a_real_full_device():
    with (
        pytest.raises(ReducioError, match=r"no space left to write out\.rdc \(No space left on device\)"),
        writing_errors("out.rdc"),
        Path("/dev/full").open("wb") as file,
    ):
        file.write(b"x" * 100_000)


@contextmanager
def small_disk(size: int) -> Iterator[None]:
    """No file may grow beyond ``size`` bytes: the kernel then refuses to write, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_disk_full_in_a_file(tmp_path):
    with (
        small_disk(5000),
        pytest.raises(ReducioError, match=r"no space left to write .*a\.bin"),
        atomic_write(tmp_path / "a.bin") as file,
    ):
        file.write(bytes(3000))  # waits in a buffer; the file is too large only when it is closed
        file.write(bytes(3000))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "lossless"), [("a.mkv", True), ("a.mp4", False), ("a.gif", False), ("pictures", False)]
)
def test_disk_full_in_a_video(tmp_path, name, lossless):
    noise = np.random.default_rng(0).integers(0, 256, (8, 96, 128, 3), dtype=np.uint8)
    with (
        small_disk(20_000),
        pytest.raises(ReducioError, match=rf"no space left to write .*{name}"),
        VideoWriter(
            tmp_path / name, width=128, height=96, time_base=Fraction(1, 16), rate=Fraction(16), lossless=lossless
        ) as writer,
    ):
        for index, rgb in enumerate(noise):
            writer.write(rgb, index)
    assert not list(tmp_path.iterdir())


def test_other_errors_are_not_called_a_full_disk():
    with pytest.raises(ReducioError, match=r"a\.bin can't be written"), writing_errors("a.bin"):
        raise OSError(errno.EIO, "Input/output error")
    with pytest.raises(InputError, match="no permission"), writing_errors("a.bin"):
        raise OSError(errno.EROFS, "Read-only file system")
