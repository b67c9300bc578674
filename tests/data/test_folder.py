"""What is known of a folder is remembered, and looked at again where a file is new or has changed."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from reducio_codec.data import folder as folder_module
from reducio_codec.data.folder import RdcFile, find_files
from reducio_codec.errors import FormatError, InputError

Coded = dict[tuple[int, int, int], bytes]


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are opened."""
    names: list[str] = []
    real = folder_module._look
    monkeypatch.setattr(folder_module, "_look", lambda path: names.append(path.name) or real(path))
    return names


def find(folder: Path, **options: Any) -> list[RdcFile]:
    return find_files(folder, **{"on_error": "raise", **options})


def test_only_new_and_changed_files_are_opened(folder: Path, cache: Path, coded: Coded, looked: list[str]) -> None:
    first = find(folder)
    assert sorted(looked) == ["a.rdc", "b.RDC", "c.rdc"]
    assert [(file.path, file.height, file.width, file.lengths) for file in first] == [
        (folder / "a.rdc", 32, 48, (16, 16, 5)),
        (folder / "more" / "b.RDC", 32, 48, (16,)),
        (folder / "more" / "deep" / "c.rdc", 32, 48, (5,)),
    ]
    looked.clear()
    (stored,) = cache.iterdir()
    before = stored.stat().st_mtime_ns
    assert find(folder) == first and find(folder / "more" / "..") == [
        RdcFile(**{**{name: getattr(file, name) for name in RdcFile.__slots__}, "path": folder / "more" / ".." / name})
        for file, name in zip(first, ("a.rdc", "more/b.RDC", "more/deep/c.rdc"), strict=True)
    ]
    assert looked == [] and stored.stat().st_mtime_ns == before

    (folder / "b.rdc").write_bytes(coded[5, 32, 48])  # a new one
    (folder / "a.rdc").write_bytes(coded[33, 64, 32])  # another size
    assert [file.lengths for file in find(folder)] == [(16, 16, 1), (5,), (16,), (5,)]
    assert sorted(looked) == ["a.rdc", "b.rdc"]
    looked.clear()

    state = (folder / "b.rdc").stat()
    os.utime(folder / "b.rdc", ns=(state.st_atime_ns, state.st_mtime_ns + 1))  # the same size, changed
    find(folder)
    assert looked == ["b.rdc"]
    looked.clear()

    (folder / "b.rdc").unlink()
    assert len(find(folder)) == 3 and looked == []
    assert len(json.loads(stored.read_text())["files"]) == 3  # forgotten


def test_same_names_in_two_folders(folder: Path, tmp_path: Path, coded: Coded) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.rdc").write_bytes(coded[5, 32, 48])
    for _ in range(2):
        assert find(folder)[0].lengths == (16, 16, 5)
        assert [file.lengths for file in find(tmp_path / "other")] == [(5,)]


def test_a_damaged_cache_is_made_anew(folder: Path, cache: Path, looked: list[str]) -> None:
    first = find(folder)
    (stored,) = cache.iterdir()
    good = stored.read_text()
    rows = json.loads(good)
    for bad in (
        "",
        "words",
        "[]",
        good[:100],
        json.dumps({**rows, "format": 99}),
        json.dumps({"format": 1}),
        json.dumps({**rows, "files": {"a.rdc": 5}}),
        json.dumps({**rows, "files": {name: [size, time, [1, 2]] for name, (size, time, _) in rows["files"].items()}}),
        "\xff",
    ):
        stored.write_text(bad, encoding="latin-1")
        looked.clear()
        assert find(folder) == first and len(looked) == 3
        looked.clear()
        assert find(folder) == first and looked == []


def test_without_a_place_for_the_cache(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, looked: list[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for _ in range(2):
        assert len(find(folder)) == 3
    assert len(looked) == 6 and "can't be remembered" in caplog.text


def test_damage_is_remembered_and_what_may_pass_is_not(
    folder: Path, coded: Coded, looked: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "bad.rdc").write_text("words")
    (folder / "link.rdc").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "pipe.rdc")
    (folder / "folder.rdc").mkdir()
    for _ in range(2):
        looked.clear()
        with pytest.raises(FormatError, match=r"bad\.rdc: not an \.rdc file \(and 2 more of 6 files\)"):
            find(folder)
    assert sorted(looked) == ["link.rdc", "pipe.rdc"]
    with caplog.at_level(logging.WARNING):
        assert len(find(folder, on_error="skip")) == 3
    assert [
        "bad.rdc" in caplog.messages[0],
        "link.rdc" in caplog.messages[1],
        "pipe.rdc" in caplog.messages[2],
    ] == 3 * [True]
    (folder / "nowhere").write_bytes(coded[5, 32, 48])
    assert len(find(folder, on_error="skip")) == 4


def test_nothing_that_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.rdc").write_text("words")
    with pytest.raises(FormatError, match=r"a\.rdc: not an \.rdc file$"):
        find(tmp_path / "bad", on_error="skip")


def test_names_that_are_not_text(folder: Path, coded: Coded, looked: list[str]) -> None:
    name = os.fsdecode(b"caf\xe9 \n.rdc")
    (folder / name).write_bytes(coded[5, 32, 48])
    for _ in range(2):
        assert folder / name in [file.path for file in find(folder)]
    assert len(looked) == 4


def test_a_folder_in_it_that_cannot_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def refused(path: Path) -> Any:
        if path.name == "deep":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(InputError, match=r"deep can't be read: Permission denied"):
        find(folder)
