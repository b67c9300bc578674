"""Everything that reads a file, and the rules that it keeps whatever the file holds."""

from __future__ import annotations

import io
import itertools
import json
import random
import resource
import shutil
import signal
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import numpy as np
import torch

from reducio_codec.codec import ReducioCodec
from reducio_codec.coding.rdc_video import RdcVideo
from reducio_codec.errors import LONGEST_MESSAGE, FormatError, InputError, ReducioError, VideoError, WeightsError
from reducio_codec.rdc.entropy import LatentCoder
from reducio_codec.rdc.info import describe_rdc
from reducio_codec.rdc.outline import read_outline
from reducio_codec.rdc.reader import RdcReader
from reducio_codec.rdc.tables import CLASSES, LADDER, PASSES, TIMES, WEIGHT, LatentTables
from reducio_codec.weights.zoo import BUNDLED

MODEL = BUNDLED / "reducio-test"
DAMAGE = (FormatError, VideoError, WeightsError)
"""What a file may end in. An InputError would blame the user."""

SECONDS, SECONDS_A_BYTE, SECONDS_A_FRAME = 3.0, 20e-6, 0.05
"""Of the process, that a file may take; a byte holds at most 1.6 frames."""
HANGS = 240
"""Seconds of the clock after which a file is given up."""
MEMORY, MEMORY_A_BYTE, MEMORY_A_PIXEL = 160 << 20, 300, 40
"""By which a file may raise the most memory that the process ever had: video encoders and pictures' decoders of the
largest seeds, so much a byte, and so much a pixel of a huge picture that is there."""
_MOST_PIXELS = 1 << 18
"""Of a video that is decoded."""
_LONGEST_SIDE = 512
"""Of a video that is written: encoders take memory by the row."""
_FLOOR, _PEAK_A_BYTE = 600_000, 150
"""Of Python's memory while a file is looked at without decoding: as in tests/rdc/test_hostile.py."""


class Broken(Exception):
    """A rule was broken."""


class Readers:
    """Reads files with one small model, in one folder for what is written."""

    def __init__(self, folder: Path) -> None:
        self._codec = ReducioCodec.from_pretrained("reducio-test")
        self._folder = folder
        self._pixels, self._writable = 0, False

    def read(self, name: str, data: bytes, *, seed: int) -> str:
        """How a file ended; its name says what it is. Broken, or what was raised, if it breaks a rule."""
        rng = random.Random(seed)
        before, began = _most_memory(), time.process_time()
        with _alarm():
            if name.endswith(".rdc"):
                end = self._rdc(data, rng)
            elif name.endswith(".latent"):
                end = _end_of(lambda: _latent(data, rng))
            else:
                end = _end_of(lambda: self._model(name.rpartition("-")[2], data))
        seconds, more = time.process_time() - began, _most_memory() - before
        allowed = SECONDS + len(data) * (SECONDS_A_BYTE + (1.6 * SECONDS_A_FRAME if name.endswith(".rdc") else 0))
        if seconds > allowed:
            raise Broken(f"{seconds:.1f} s for {len(data)} bytes")
        pixels = self._pixels if end == "open: huge and intact" else 0
        if more > MEMORY + MEMORY_A_BYTE * len(data) + MEMORY_A_PIXEL * pixels:
            raise Broken(f"{more >> 20} MB for {len(data)} bytes")
        return end

    # ------------------------------------------------------------------ .rdc

    def _rdc(self, data: bytes, rng: random.Random) -> str:
        end = _end_of(lambda: _look(data, measured=rng.random() < 0.1))
        if end != "read":
            for use in (lambda: self._open(data), lambda: self._decompress(data, conceal=True)):
                if _end_of(use) == "read":
                    raise Broken(f"info ends in {end}, another reader reads it")
            return end
        if self._huge(data):
            return "open: huge and intact"
        draw = rng.random()  # decoding costs ten times what looking does
        if draw < 0.4:
            return f"open: {_end_of(lambda: self._open(data))}"
        end = _end_of(lambda: self._decode(data, rng))
        if draw > 0.8 and self._writable:  # grey takes as much to write as any video of its size
            raised = _end_of(lambda: self._decompress(data, conceal=False))
            concealed = _end_of(lambda: self._decompress(data, conceal=True))
            if raised == "read" != concealed:
                raise Broken(f"decompress reads it, and with conceal ends in {concealed}")
            return f"decompress: {'read' if raised == 'read' else 'concealed' if concealed == 'read' else concealed}"
        return f"decode_clip: {end}"

    def _huge(self, data: bytes) -> bool:
        """Whether it is a video of many pixels with a picture that holds them: it takes as long as any of its size."""
        self._pixels, self._writable = 0, False
        try:
            with self._codec.open_file(io.BytesIO(data)) as video:
                self._pixels = video.header.width * video.header.height
                self._writable = max(video.header.width, video.header.height) <= _LONGEST_SIDE
                return self._pixels > _MOST_PIXELS and video.conceal_clip(0)[1] != "mid-grey"
        except DAMAGE:
            return False

    def _open(self, data: bytes) -> None:
        self._codec.open_file(io.BytesIO(data)).close()

    def _decode(self, data: bytes, rng: random.Random) -> None:
        """Every way into an open file. What is damaged is asked for all the same; the first damage is raised at the end."""
        problems: list[ReducioError] = []

        def tried(use: Callable[[], object]) -> object:
            try:
                return use()
            except DAMAGE as error:
                _check_message(error)
                problems.append(error)
                return None

        with self._codec.open_file(io.BytesIO(data)) as video:
            if not len(video) == video.frames <= 16 * video.clips <= 2 * len(data):
                raise Broken(f"{video.frames} frames in {video.clips} clips of {len(data)} bytes")
            numbers = (
                range(video.clips)
                if video.clips < 5
                else sorted({0, video.clips - 1, *rng.sample(range(video.clips), 3)})
            )
            for number in numbers:
                record = video.record(number)
                times = video.times(record)
                if len(times) != record.frames or video.end(record) <= times[-1]:
                    raise Broken(f"clip {number}: {record.frames} frames, times {times}, end {video.end(record)}")
                tried(lambda: video.keyframe(record))  # noqa: B023 - called at once
                tried(lambda: _check_frames(video, number, video.decode_clip(number, lost=_check_line)))  # noqa: B023
                if rng.random() < 0.2:
                    tried(lambda: video.decode_clip(number, decoder="linear"))  # noqa: B023
                tried(lambda: _check_frames(video, number, video.conceal_clip(number)[0]))  # noqa: B023
            for number in rng.choices(list(numbers), k=4):  # in any order, as what is kept of other clips depends on it
                tried(lambda: _check_frames(video, number, video.shown_clip(number, lost=_check_line)))  # noqa: B023
            tried(video.audio)
            for use in (
                lambda: video[0],
                lambda: video[-1],
                lambda: video[rng.randrange(len(video))],
                lambda: video[-3:],
                lambda: video.get_frames_at([0, rng.randrange(len(video)), -1]),
                lambda: video.get_frames_played_at([0, video.frame_times[-1] * rng.random()]),
            ):
                tried(use)
            tried(lambda: list(itertools.islice(video, 20)))
            if len(video.frame_times) != len(video) + 1 or (np.diff(video.frame_times) < 0).any():
                raise Broken(f"{len(video)} frames have the times {video.frame_times}")
            if problems:
                raise problems[0]

    def _decompress(self, data: bytes, *, conceal: bool) -> None:
        path = self._folder / "out.mp4"
        try:
            report = self._codec.decompress(io.BytesIO(data), path, on_error="conceal" if conceal else "raise")
        except BaseException:
            left = list(self._folder.iterdir())
            if left:
                raise Broken(f"a failed decompress leaves {left[0].name}") from None
            raise
        if not path.is_file() or report.frames < 1 or (report.problems and not conceal):
            raise Broken(f"decompress says {report}")
        path.unlink()

    # ------------------------------------------------------------------ models

    def _model(self, name: str, data: bytes) -> None:
        folder = self._folder / "model"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            for path in MODEL.iterdir():
                if path.name != name:
                    (folder / path.name).symlink_to(path)
            (folder / name).write_bytes(data)
            codec = ReducioCodec.from_pretrained(folder)
            codec.coder.decode(b"\x00\x01\x02", (16, 4, 1, 1), step=0.5)
            codec.decode(torch.zeros(1, 16, 4, 1, 1), torch.zeros(1, 3, 1, 32, 32))
        finally:
            shutil.rmtree(folder)


def _look(data: bytes, *, measured: bool) -> None:
    """What looks at a file without a model."""
    if measured:
        tracemalloc.start()
    try:
        info = describe_rdc(io.BytesIO(data))
    finally:
        peak = tracemalloc.get_traced_memory()[1] if measured else 0
        tracemalloc.stop()
        if peak > _FLOOR + _PEAK_A_BYTE * len(data):
            raise Broken(f"info takes {peak} bytes of memory for a file of {len(data)}")
    json.dumps(info.to_json(), allow_nan=False)
    if sum(part.bytes for part in info.parts.values()) != len(data) or not 0 <= info.frames <= 16 * info.clips:
        raise Broken(f"info says {info}")
    reader = RdcReader(io.BytesIO(data))
    start = 0
    for clip in reader:
        reader.beside(clip.index)
        if (clip.start, reader.clip_at(clip.start)) != (start, clip.index) or not 1 <= clip.frames <= 16:
            raise Broken(f"clip {clip.index} begins at {clip.start}; the one before ends at {start}")
        start += clip.frames
    lengths = read_outline(io.BytesIO(data)).lengths
    if not info.damage and lengths != tuple(clip.frames for clip in reader):
        raise Broken(f"clips have {lengths} frames by the file's outline")
    for message in (*info.damage,):
        _check_line(message)
    sum(map(len, reader.audio()))


def _latent(data: bytes, rng: random.Random) -> None:
    """A latent of any tables; one that decodes is what it is, however often it is coded."""
    step, channels, *shape = data[0] * 64 + 16, *(1 + value % 5 for value in data[1:5])
    draws = np.random.default_rng(rng.randrange(1 << 32))
    tables = LatentTables(
        multipliers=tuple(rng.choice((1, 1024, 65536)) for _ in range(channels)),
        follow=draws.integers(0, 17, (channels, PASSES - 1)).tolist(),
        weights=draws.integers(0, WEIGHT + 1, (channels, TIMES, PASSES, 3)).tolist(),
        scales=draws.integers(0, len(LADDER), (channels, TIMES, PASSES, CLASSES)).tolist(),
    )
    coder, size = LatentCoder(tables), (channels, shape[0], shape[1], shape[2])
    step = min(step, 16384)
    symbols = coder.decode(data[5:], size, step=step / 1024)
    again = coder.decode(coder.encode(symbols, step=step / 1024), size, step=step / 1024)
    if not np.array_equal(symbols, again):
        raise Broken("a latent that was decoded is coded as another")


# ------------------------------------------------------------------ rules


def _end_of(use: Callable[[], object]) -> str:
    """What a use ended in: "read", or the error of ours that says what is damaged."""
    try:
        use()
    except InputError as error:
        raise Broken(f"a damaged file is called wrong usage: {error}") from error
    except DAMAGE as error:
        _check_message(error)
        return type(error).__name__
    return "read"


def _check_message(error: ReducioError) -> None:
    _check_line(str(error))


def _check_line(message: str) -> None:
    if not message or "\n" in message or len(message) > LONGEST_MESSAGE:
        raise Broken(f"a message of {len(message)} characters isn't a line: {message[:200]!r}")


def _check_frames(video: RdcVideo, number: int, frames: np.ndarray) -> None:
    expected = (video.record(number).frames, video.header.height, video.header.width, 3)
    if frames.shape != expected or frames.dtype != np.uint8:
        raise Broken(f"clip {number} is {frames.dtype} {frames.shape}, not {expected}")


def _most_memory() -> int:
    """Bytes that the process ever had in memory at once."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@contextmanager
def _alarm() -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise Broken(f"no end within {HANGS} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(HANGS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
