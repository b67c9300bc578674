"""A video to a file and back, and what a person wants to know of it: bytes, quality, speed, and pictures to look at."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reducio_codec.clips.forms import frames_of
from reducio_codec.clips.sources import Rate, open_source
from reducio_codec.coding.compress import Progress, compress
from reducio_codec.coding.options import EncodeKeywords, EncodeOptions
from reducio_codec.coding.rdc_video import RdcVideo
from reducio_codec.coding.report import CompressReport
from reducio_codec.errors import InputError, VideoError
from reducio_codec.io.decode import VideoFrame
from reducio_codec.io.files import atomic_write, given_path, output_stem
from reducio_codec.io.strips import SideBySide, strip
from reducio_codec.io.writer import VideoWriter
from reducio_codec.measure.memory import PeakMemory
from reducio_codec.metrics.psnr import Psnr, PsnrMeter
from reducio_codec.metrics.ssim import SsimMeter
from reducio_codec.models.contract import choose_decoder

if TYPE_CHECKING:
    from reducio_codec.codec import ReducioCodec

Clip = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Against the source, on 8-bit values."""

    psnr: Psnr
    ssim: float | None
    """None for videos with a side below 11 pixels, the size of the measure's window."""


@dataclass(frozen=True, kw_only=True)
class Roundtrip:
    """What :func:`roundtrip` measured and wrote."""

    file: CompressReport
    decoder: str
    decoded: Quality
    copied: Quality
    """The file's key frames alone, each repeated for its whole clip."""
    decode_fps: float
    """Frames decoded a second, key-frame and entropy decoding included, writing the video not."""
    peak_memory: int | None
    """Bytes of the whole process, or on an accelerator what torch took there; None where the system doesn't tell."""
    outputs: tuple[Path, ...]
    """The .rdc file, the decoded video, the side-by-side video, and the strip of the clip with the most motion."""


@dataclass
class _Meters:
    psnr: PsnrMeter = field(default_factory=PsnrMeter)
    ssim: SsimMeter = field(default_factory=SsimMeter)

    def add(self, source: Clip, shown: Clip, *, keyframes: Sequence[int]) -> None:
        self.psnr.add(source, shown, keyframe=keyframes)
        self.ssim.add(source, shown)

    def result(self) -> Quality:
        return Quality(psnr=self.psnr.result(), ssim=self.ssim.result())


def output_paths(folder: Path, *, source: Path) -> tuple[Path, ...]:
    """Where :func:`roundtrip` writes: file, decoded video, side-by-side video, strip."""
    name = output_stem(source).name
    return tuple(folder / f"{name}{end}" for end in (".rdc", ".decoded.mp4", ".side-by-side.mp4", ".strip.png"))


def roundtrip(
    codec: ReducioCodec,
    src: Any,
    folder: str | Path,
    *,
    rate: Rate | None = None,
    progress: Progress | None = None,
    decoding: Progress | None = None,
    **options: Unpack[EncodeKeywords],
) -> Roundtrip:
    """Compress ``src`` into ``folder``, decode the file, and compare; ``src``, ``rate`` and ``options`` as for
    ``ReducioCodec.compress``, and ``decoder`` is the one that the file is decoded with, too. Frames without a file are held in
    memory, and what is made of them is called ``video``.

    ``progress`` is called while the file is written, ``decoding`` while it is read back and compared.

    Raises:
        InputError, VideoError: as ``ReducioCodec.compress``; InputError also if ``folder`` is a file.
    """
    stored, target = isinstance(src, str | os.PathLike), given_path(folder)
    source = given_path(src) if stored else list(frames_of(src))  # it is read twice
    name, references = choose_decoder(
        codec.model, decoder=options.pop("decoder", None), references=options.get("references")
    )
    coding = EncodeOptions(**options)
    coding = replace(coding, decoder=name if coding.searches else None, references=references)
    if target.exists() and not target.is_dir():
        raise InputError(f"{target} is a file; the results need a folder")
    peak = PeakMemory(codec.device)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"can't make the folder {target}: {error.strerror}") from error
    paths = output_paths(target, source=source if isinstance(source, Path) else Path("video"))
    report = compress(codec.engine, source, paths[0], options=coding, rate=rate, progress=progress)
    with open_source(source, rate=rate, audio=False) as again:
        decoded, copied, seconds = _compare(codec, again.frames, paths, decoder=name, progress=decoding)
    return Roundtrip(
        file=report,
        decoder=name,
        decoded=decoded,
        copied=copied,
        decode_fps=report.frames / seconds,
        peak_memory=peak.bytes(),
        outputs=paths,
    )


def _writer(path: Path, video: RdcVideo, *, width: int, height: int) -> VideoWriter:
    return VideoWriter(path, width=width, height=height, time_base=video.header.time_base, rate=video.rate)


def _compare(
    codec: ReducioCodec,
    frames: Iterator[VideoFrame],
    paths: tuple[Path, ...],
    *,
    decoder: str,
    progress: Progress | None,
) -> tuple[Quality, Quality, float]:
    """Decodes the file beside its source's frames, writes the videos and the strip; both qualities and the seconds it took."""
    decoded_meters, copied_meters, seconds = _Meters(), _Meters(), 0.0
    done = 0
    liveliest: tuple[float, Clip, Clip, Clip] | None = None  # motion, source, key frame, decoded
    with codec.open_file(paths[0]) as video:
        header = video.header
        pair = SideBySide(height=header.height, width=header.width)
        with (
            _writer(paths[1], video, width=header.width, height=header.height) as plain,
            _writer(paths[2], video, width=pair.width, height=pair.height) as beside,
        ):
            for index in range(video.clips):
                record = video.record(index)
                began = time.perf_counter()
                decoded = video.shown_clip(index, decoder=decoder)
                seconds += time.perf_counter() - began
                original = np.stack([frame.rgb for _, frame in zip(decoded, frames, strict=False)])
                if len(original) != len(decoded):
                    raise VideoError(f"{paths[0]}: its source gave fewer frames when it was read a second time")
                if record.references:
                    keyframe = video.keyframe(record)
                copied = np.repeat(keyframe[None], len(decoded), 0)
                places = [frame - record.start for frame in record.references]
                decoded_meters.add(original, decoded, keyframes=places)
                copied_meters.add(original, copied, keyframes=places)
                motion = float(np.abs(original.astype(np.int16) - copied).mean())
                if liveliest is None or motion > liveliest[0]:
                    liveliest = motion, original, keyframe, decoded
                times = video.times(record)
                for before, after, when, until in zip(
                    original, decoded, times, [*times[1:], video.end(record)], strict=True
                ):
                    plain.write(after, when - header.start, duration=until - when)
                    beside.write(pair.frame(before, after), when - header.start, duration=until - when)
                done += len(decoded)
                if progress is not None:
                    progress(done, video.frames)
    assert liveliest is not None  # a file holds at least one clip
    _, original, keyframe, decoded = liveliest
    with atomic_write(paths[3]) as file:
        Image.fromarray(strip(original, keyframe, {"decoded": decoded})).save(file, "PNG")
    return decoded_meters.result(), copied_meters.result(), seconds
