"""Messages of errors: one line that can be read, whatever a library or a file had to say in it."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reducio_codec import errors
from reducio_codec.errors import LONGEST_MESSAGE, ReducioError, one_line
from reducio_codec.generate.folder import load_dit
from reducio_codec.weights.io import load_model
from tests.weights.test_hostile_folder import folder

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ReducioError)]


@given(st.sampled_from(KINDS), st.text(max_size=3 * LONGEST_MESSAGE))
def test_a_message_is_a_line(kind: type[ReducioError], text: str) -> None:
    message = str(kind(text))
    assert len(message) <= LONGEST_MESSAGE
    assert len(message.splitlines()) <= 1
    assert str(kind(message)) == message


def test_what_a_line_keeps() -> None:
    assert one_line("a  b.mp4 can't be read") == "a  b.mp4 can't be read"
    assert one_line("first\n  second\r\nthird\n") == "first second third"
    long = one_line(f"/a/file is damaged: {'x' * 60_000}; pip install it")
    assert long.startswith("/a/file is damaged: xxx") and long.endswith("xxx; pip install it") and " ... " in long


HEADERS = [
    json.dumps({"a": "x" * 60_000}),
    json.dumps({"x" * 60_000: 1}),
    json.dumps({"a": "\n" * 60_000}),
    '"' * 60_000,
]


@pytest.mark.parametrize("header", HEADERS, ids=["long value", "long name", "many lines", "no JSON"])
def test_a_library_that_quotes_the_whole_file(header: str, tmp_path: Path) -> None:
    place = folder(tmp_path)
    (place / "model.safetensors").unlink()
    (place / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header.encode())
    with pytest.raises(ReducioError, match=r"model\.safetensors is damaged") as found:
        load_model(place)
    assert len(str(found.value)) <= LONGEST_MESSAGE
    (place / "config.json").unlink()
    (place / "config.json").write_text(json.dumps({"format": 1, "architecture": "x" * 60_000}))
    with pytest.raises(ReducioError) as found:
        load_dit(place)
    assert len(str(found.value)) <= LONGEST_MESSAGE
