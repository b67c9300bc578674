"""Folders of small files, and a cache of each test's own."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from reducio_codec.codec import ReducioCodec
from tests.helpers import moving_video


@pytest.fixture(scope="session")
def codec() -> ReducioCodec:
    return ReducioCodec.from_pretrained("reducio-test")


@pytest.fixture(scope="session")
def coded(codec: ReducioCodec) -> dict[tuple[int, int, int], bytes]:
    """Files by frames, height and width."""
    files = {}
    for frames, height, width in ((37, 32, 48), (16, 32, 48), (5, 32, 48), (33, 64, 32)):
        file = io.BytesIO()
        video = moving_video(frames, height, width, seed=frames)
        codec.compress(iter(video), file, rate=16, keyframes=1, latent_step=1 / 16)
        files[frames, height, width] = file.getvalue()
    return files


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where what is known of folders is kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "reducio-codec" / "folders"


@pytest.fixture
def folder(coded: dict[tuple[int, int, int], bytes], tmp_path: Path) -> Path:
    """Three files of one size, 3 + 1 + 1 clips, at two depths, and one that is no .rdc file."""
    root = tmp_path / "videos"
    (root / "more" / "deep").mkdir(parents=True)
    (root / "a.rdc").write_bytes(coded[37, 32, 48])
    (root / "more" / "b.RDC").write_bytes(coded[16, 32, 48])
    (root / "more" / "deep" / "c.rdc").write_bytes(coded[5, 32, 48])
    (root / "notes.txt").write_text("no video")
    return root
