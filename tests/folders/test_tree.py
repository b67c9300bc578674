"""Which files of a folder become which, and which of them are done."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from reducio_codec.codec import ReducioCodec
from reducio_codec.errors import InputError
from reducio_codec.folders.tree import find_files, plan_folder, plan_jobs
from reducio_codec.io.files import VIDEO_SUFFIXES

OUT = Path("/out")


def files(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def targets(folder: Path, *, suffix: str = ".rdc") -> dict[str, str]:
    jobs = plan_jobs(find_files(folder, suffixes=VIDEO_SUFFIXES), out=OUT, suffix=suffix)
    return {job.name: str(job.target.relative_to(OUT)) for job in jobs}


def test_the_tree_is_kept_and_hidden_and_other_files_are_left_out(tmp_path: Path) -> None:
    names = ("2.mp4", "10.mp4", "sub/B.MKV", "sub/deep/c.d.webm", "notes.txt", "old.rdc", ".e.mp4", ".git/f.mp4", "mp4")
    files(tmp_path, *names)
    (tmp_path / "folder.mp4").mkdir()
    assert list(targets(tmp_path).items()) == [
        ("2.mp4", "2.rdc"),
        ("10.mp4", "10.rdc"),
        ("sub/B.MKV", "sub/B.rdc"),
        ("sub/deep/c.d.webm", "sub/deep/c.d.rdc"),
    ]


def test_a_link_is_followed_to_a_file_and_not_into_a_folder(tmp_path: Path) -> None:
    folder, other = files(tmp_path / "videos", "a.mp4"), files(tmp_path / "other", "b.mp4")
    (folder / "b.mp4").symlink_to(other / "b.mp4")
    (folder / "other").symlink_to(other)
    (folder / "self").symlink_to(folder)
    assert set(targets(folder)) == {"a.mp4", "b.mp4"}


def test_two_files_never_get_one_name(tmp_path: Path) -> None:
    files(tmp_path, "a.mp4", "a.mkv", "b.mp4", "B.mov", "sub/a.mp4")
    assert targets(tmp_path) == {
        "a.mkv": "a.mkv.rdc",
        "a.mp4": "a.mp4.rdc",
        "b.mp4": "b.mp4.rdc",
        "B.mov": "B.mov.rdc",  # one file with b.rdc on some systems
        "sub/a.mp4": "sub/a.rdc",
    }
    files(tmp_path, "a.mp4.gif")
    with pytest.raises(InputError, match=r"a\.mp4.* and .*a\.mp4\.gif would both become /out/a\.mp4\.rdc"):
        targets(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_told_beside_the_files(tmp_path: Path) -> None:
    files(tmp_path, "a.mp4", "shut/b.mp4")
    (tmp_path / "shut").chmod(0)
    try:
        found = find_files(tmp_path, suffixes=VIDEO_SUFFIXES)
    finally:
        (tmp_path / "shut").chmod(0o700)
    assert [path.name for path in found.files] == ["a.mp4"]
    assert found.unreadable == [("shut", "Permission denied")]


def states(folder: Path, out: Path, *, force: bool = False) -> tuple[list[str], list[str], list[str]]:
    """Names of what is to do, done and refused."""
    found = find_files(folder, suffixes=VIDEO_SUFFIXES | {".rdc"})
    plan = plan_folder(found, out=out, suffix=".rdc" if out.name == "rdc" else ".mp4", force=force)
    return [job.name for job in plan.todo], [job.name for job in plan.done], [name for name, _ in plan.refused]


def test_what_is_whole_and_newer_is_done(make_video: Callable[..., Path], tmp_path: Path) -> None:
    video = make_video("clip.mp4", frames=20)
    folder, out, back = tmp_path / "in", tmp_path / "rdc", tmp_path / "back"
    for place in (folder, out, back):
        place.mkdir()
    video.rename(folder / "clip.mp4")
    assert states(folder, out) == (["clip.mp4"], [], [])
    codec = ReducioCodec.from_pretrained("reducio-test")
    codec.compress(folder / "clip.mp4", out / "clip.rdc")
    codec.decompress(out / "clip.rdc", back / "clip.mp4")
    for source, target in ((folder / "clip.mp4", out), (out / "clip.rdc", back)):
        name = source.name
        (made,) = target.iterdir()
        content = made.read_bytes()
        os.utime(source, ns=(made.stat().st_mtime_ns,) * 2)  # as when it was made: the first turn wrote it again
        assert states(source.parent, target) == ([], [name], [])
        assert states(source.parent, target, force=True) == ([name], [], [])
        for length in (0, 10, len(content) // 2, len(content) - 1):
            made.write_bytes(content[:length])
            assert states(source.parent, target) == ([name], [], []), length
        made.write_bytes(content)
        os.utime(source, ns=(made.stat().st_mtime_ns + 1,) * 2)
        assert states(source.parent, target) == ([], [], [name])  # what somebody may have made since isn't replaced
        os.utime(source, ns=(made.stat().st_mtime_ns,) * 2)
        assert states(source.parent, target) == ([], [name], [])
