"""An open file as a sequence of frames, what is refused, and that everything is closed."""

from __future__ import annotations

import gc
import io
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reducio_codec.codec import ReducioCodec
from reducio_codec.coding.rdc_video import RdcVideo
from reducio_codec.errors import FormatError, InputError, ReducioError
from reducio_codec.io import audio, files
from reducio_codec.rdc.reader import RdcReader
from reducio_codec.rdc.writer import RdcWriter
from tests.helpers import TinyModel, decoded_clips, moving_video
from tests.io.test_audio import film

CODEC = ReducioCodec(TinyModel())


@pytest.fixture(scope="module")
def data() -> bytes:
    """37 frames of 48x32: two full clips and a short one."""
    file = io.BytesIO()
    CODEC.compress(iter(moving_video(37, 32, 48)), file, rate=16)
    return file.getvalue()


def test_frames_by_number(data: bytes) -> None:
    with CODEC.open_file(io.BytesIO(data)) as video:
        every = np.concatenate([video.decode_clip(index) for index in range(video.clips)])
        assert len(video) == video.frames == 37
        assert video[20].shape == (32, 48, 3) and video[20].dtype == np.uint8
        for index in (0, 15, 16, 36, -1, -37, np.int64(5)):
            np.testing.assert_array_equal(video[index], every[index])
        for part in (slice(None), slice(14, 18), slice(-3, None), slice(None, None, -9), slice(40, 50), slice(5, 2)):
            np.testing.assert_array_equal(video[part], every[part])
        np.testing.assert_array_equal(np.stack(list(video)), every)
        assert [frame.shape for frame in video] == 37 * [(32, 48, 3)]
        frame = video[3]
        frame[:] = 0
        np.testing.assert_array_equal(video[3], every[3])  # a frame is the caller's


def test_a_clip_is_decoded_once_for_its_frames(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = decoded_clips(monkeypatch)
    with CODEC.open_file(io.BytesIO(data)) as video:
        for _ in video:
            pass
    assert decoded == [0, 1, 2]


def test_it_works_without_with_and_ends_with_close(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.rdc").write_bytes(data)
    video = CODEC.open_file(tmp_path / "a.rdc")
    record = video.record(0)
    assert video[0].shape == (32, 48, 3)
    video.close()
    video.close()
    for use in (lambda: video[0], lambda: next(iter(video)), lambda: video.decode_clip(0), lambda: video.record(0),
                lambda: video.audio(), lambda: video.keyframe(record), lambda: video.conceal_clip(0)):  # fmt: skip
        with pytest.raises(InputError, match="closed"):
            use()
    file = io.BytesIO(data)
    with CODEC.open_file(file) as video:
        pass
    assert not file.closed  # it is the caller's
    with (tmp_path / "a.rdc").open("rb") as opened:
        video = CODEC.open_file(opened)
    with pytest.raises(InputError, match="closed"):
        video.decode_clip(1)


WRONG_USE: dict[str, Callable[[RdcVideo], Any]] = {
    "beyond the end": lambda video: video[37],
    "before the start": lambda video: video[-38],
    "a name": lambda video: video["a"],  # type: ignore[index]
    "a fraction": lambda video: video[1.5],  # type: ignore[index]
    "a truth": lambda video: video[True],
    "nothing": lambda video: video[None],  # type: ignore[index]
    "two": lambda video: video[1, 2],  # type: ignore[index]
    "a slice of fractions": lambda video: video[0.5:2],  # type: ignore[misc]
    "a slice without a step": lambda video: video[::0],
    "a clip's name": lambda video: video.decode_clip("0"),  # type: ignore[arg-type]
    "half a clip": lambda video: video.decode_clip(0.5),  # type: ignore[arg-type]
    "no clip": lambda video: video.decode_clip(None),  # type: ignore[arg-type]
    "a clip beyond the end": lambda video: video.decode_clip(3),
    "a clip before the start": lambda video: video.record(-1),
    "a record's name": lambda video: video.record("0"),  # type: ignore[arg-type]
    "a number for a record": lambda video: video.clip(0),  # type: ignore[arg-type]
    "a number for its times": lambda video: video.times(0),  # type: ignore[arg-type]
    "a number for its key frame": lambda video: video.keyframe(0),  # type: ignore[arg-type]
    "no decoder": lambda video: video.decode_clip(0, decoder=5),  # type: ignore[arg-type]
    "references": lambda video: video.decode_clip(0, references="1"),  # type: ignore[arg-type]
    "nothing to conceal": lambda video: video.conceal_clip("x"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("what", WRONG_USE)
def test_wrong_use_is_an_error_of_ours(what: str, data: bytes) -> None:
    with CODEC.open_file(io.BytesIO(data)) as video:
        with pytest.raises(InputError) as caught:
            WRONG_USE[what](video)
        assert isinstance(caught.value, IndexError) == (what in ("beyond the end", "before the start"))


def test_what_is_no_file_is_an_error_of_ours(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.rdc"
    path.write_bytes(data)
    closed = io.BytesIO(data)
    closed.close()

    class Words:
        def read(self, size: int = -1) -> str:
            return "words"

    with path.open(encoding="latin-1") as text, (tmp_path / "new").open("wb") as new:
        for wrong in (5, None, data, bytearray(data), text, io.StringIO("a"), new, closed, Words(), "", tmp_path, [1]):
            with pytest.raises(InputError):
                CODEC.open_file(wrong)  # type: ignore[arg-type]
            with pytest.raises(InputError):
                CODEC.decompress(wrong, tmp_path / "b.mp4")  # type: ignore[arg-type]
    for damaged in (b"", b"words", data[:20]):
        with pytest.raises(ReducioError):
            CODEC.open_file(io.BytesIO(damaged))
    assert not (tmp_path / "b.mp4").exists()


class Pipe(io.RawIOBase):
    """Bytes that come once."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._data.readinto(buffer)


def test_no_file_stays_open(data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python tells of each file that nobody closed: of temporary ones when they are on disk, so here all are."""
    monkeypatch.setattr(files, "SPOOL_BYTES", 1)
    monkeypatch.setattr(audio, "SPOOL_BYTES", 1)
    film(tmp_path / "film.mp4", moving_video(20, 48, 64), seconds=1)
    (tmp_path / "bad.rdc").write_bytes(data[:20])
    before = len(list(Path("/proc/self/fd").iterdir()))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        CODEC.compress(tmp_path / "film.mp4", tmp_path / "a.rdc")
        CODEC.decompress(tmp_path / "a.rdc", tmp_path / "b.mp4")
        CODEC.decompress(Pipe(data), tmp_path / "c.mp4")  # type: ignore[arg-type]
        with CODEC.open_file(tmp_path / "a.rdc") as video:
            assert video.audio() is not None
        assert CODEC.decode_clip(Pipe(data), 1).shape == (16, 32, 48, 3)  # type: ignore[arg-type]
        for wrong in (tmp_path / "bad.rdc", Pipe(data[:20])):
            with pytest.raises(ReducioError):
                CODEC.open_file(wrong)  # type: ignore[arg-type]
        gc.collect()
    assert not [str(warning.message) for warning in told if warning.category is ResourceWarning]
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_the_reader_makes_no_copy_of_its_own(data: bytes) -> None:
    with CODEC.open_file(Pipe(data)) as video:  # type: ignore[arg-type]
        assert video._reader._file is video._file
    assert RdcReader(io.BytesIO(data)).clips == 3


@pytest.fixture
def claim(data: bytes) -> io.BytesIO:
    """A clip of 16384x16384 that has no picture."""
    file = io.BytesIO()
    writer = RdcWriter(file, replace(RdcReader(io.BytesIO(data)).header, width=16384, height=16384))
    writer.write_clip(frames=16, latent_bytes=b"\0", references=0)
    writer.close()
    return io.BytesIO(file.getvalue())


def test_no_grey_of_any_size_that_is_claimed(claim: io.BytesIO, tmp_path: Path) -> None:
    """Its first frame took 12 GB."""
    with pytest.raises(FormatError, match="no picture of the file is intact, and 16384x16384 is too large"):
        CODEC.decompress(claim, tmp_path / "grey.mp4", on_error="conceal")
    assert not list(tmp_path.iterdir())


def test_a_latent_without_any_picture_is_not_decoded(claim: io.BytesIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few bytes of it are as large as the header claims the pictures to be: 128 MB at 16384x16384."""
    monkeypatch.setattr(CODEC.coder, "decode", lambda *_, **__: pytest.fail("decoded"))
    with CODEC.open_file(claim) as video:
        for use in (lambda: video.decode_clip(0), lambda: video.clip(video.record(0)), video.latents):
            with pytest.raises(FormatError, match="clip 0 has no picture of its own, and none beside it is intact"):
                use()
