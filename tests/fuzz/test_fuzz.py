"""A few seconds of fuzzing, always the same files; and that a broken rule is seen."""

from __future__ import annotations

import io
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from reducio_codec.errors import FormatError, InputError
from tests.fuzz import readers
from tests.fuzz.case_models import MODEL_MUTATIONS
from tests.fuzz.cases import MUTATIONS
from tests.fuzz.readers import MODEL
from tests.fuzz.records import Pieces
from tests.fuzz.run import GOLDEN, fuzz


def test_odd_files_break_no_rule() -> None:
    found = fuzz(seed=16, files=40)
    assert found.tried == 40 == sum(found.ends.values())
    assert not found.broken, found.report()


def test_every_mutation_makes_files_and_most_are_opened() -> None:
    """Files that aren't told apart from noise would try nothing but the first check."""
    rng, ends = random.Random(3), Counter[bool]()
    files = [Pieces.of(path.read_bytes()) for path in sorted(GOLDEN.rglob("*.rdc"))]
    for path, pieces in zip(sorted(GOLDEN.rglob("*.rdc")), files, strict=True):
        assert pieces.join() == path.read_bytes()  # what isn't changed stays
    for make in MUTATIONS.values():
        for _ in range(10):
            try:
                Pieces.of(make(rng, files))
                ends[True] += 1
            except FormatError:
                ends[False] += 1
    assert ends[True] > 3 * ends[False], ends
    folder = {path.name: path.read_bytes() for path in MODEL.iterdir()}
    for change in MODEL_MUTATIONS.values():
        name, data = change(rng, folder)
        assert name in folder and data != folder[name]


def _raises(error: Exception) -> Callable[[io.BytesIO], object]:
    def look(file: io.BytesIO) -> object:
        raise error

    return look


def _eats(file: io.BytesIO) -> object:
    kept = bytes(50_000_000)
    raise FormatError(f"read {len(kept)}")


@pytest.mark.parametrize(
    ("look", "said"),
    [
        (_raises(IndexError("list index")), "IndexError"),
        (_raises(AssertionError("never")), "AssertionError"),
        (_raises(MemoryError()), "MemoryError"),
        (_raises(InputError("your fault")), "wrong usage"),
        (_raises(FormatError("this one alone says so")), "another reader reads it"),
    ],
)
def test_a_broken_rule_is_seen(
    look: Callable[[io.BytesIO], object], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "describe_rdc", look)
    found = fuzz(seed=1, files=6)
    assert any(said in place + trace for place, (_, _, trace) in found.broken.items()), found.report()
    assert "BROKEN" in found.report()


def test_time_and_memory_are_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, reading = (GOLDEN / "default.rdc").read_bytes(), readers.Readers(tmp_path)
    assert reading.read("a.rdc", b"no file", seed=0) == "FormatError"
    monkeypatch.setattr(readers, "SECONDS", -1e9)
    with pytest.raises(readers.Broken, match=" s for 7 bytes"):
        reading.read("a.rdc", b"no file", seed=0)
    monkeypatch.setattr(readers, "SECONDS", 60)
    monkeypatch.setattr(readers, "MEMORY", -(1 << 40))
    with pytest.raises(readers.Broken, match=f"MB for {len(data)} bytes"):
        reading.read("a.rdc", data, seed=0)
    monkeypatch.setattr(readers, "describe_rdc", _eats)
    with pytest.raises(readers.Broken, match="bytes of memory"):
        readers._look(data, measured=True)
