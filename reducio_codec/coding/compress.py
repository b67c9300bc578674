"""Video to ``.rdc`` file: clip by clip, so memory doesn't grow with length."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from reducio_codec.clips.sources import Rate, TimedClip, open_source
from reducio_codec.coding.decision import Decider
from reducio_codec.coding.engine import Engine
from reducio_codec.coding.options import EncodeOptions
from reducio_codec.coding.output import Output
from reducio_codec.coding.report import CompressReport
from reducio_codec.config import check_choice
from reducio_codec.errors import InputError, VideoError
from reducio_codec.io.files import atomic_write, writing_errors
from reducio_codec.io.stages import stage, timed
from reducio_codec.rdc.keyframe import check_keyframe_codec


class Progress(Protocol):
    """Called with the frames done and, where that is known, the frames in all."""

    def __call__(self, done: int, total: int | None, /) -> object: ...


@contextmanager
def open_target(dst: str | os.PathLike[str] | BinaryIO, *, inputs: Iterable[Path]) -> Iterator[BinaryIO]:
    """A file object as it is, or a path through a temporary file that is renamed at the end."""
    if isinstance(dst, str | os.PathLike):
        with atomic_write(dst, inputs=inputs) as file:
            yield file
    elif callable(getattr(dst, "write", None)):
        with writing_errors(str(getattr(dst, "name", "the output"))):
            yield dst
    else:
        raise InputError(f"destination is a {type(dst).__name__}; allowed: a path or a binary file object")


def compress(
    engine: Engine,
    src: str | os.PathLike[str] | Iterable[Any],
    dst: str | os.PathLike[str] | BinaryIO,
    *,
    options: EncodeOptions,
    rate: Rate | None = None,
    audio: bool | None = None,
    progress: Progress | None = None,
) -> CompressReport:
    """See :meth:`reducio_codec.codec.ReducioCodec.compress`."""
    began = time.perf_counter()
    check_keyframe_codec(options.keyframe_codec)
    _check_audio(audio, src)
    decider = Decider(engine, options)
    inputs = [Path(src)] if isinstance(src, str | os.PathLike) else []
    with open_source(src, rate=rate, audio=audio is not False) as source, open_target(dst, inputs=inputs) as file:
        clips = source.clips(keyframe_index=decider.keyframe_index)
        with stage("reading"):
            first = next(clips, None)
        if first is None:
            raise VideoError(f"{src} has no frames")
        output = Output(
            file,
            engine=engine,
            source=source,
            first=first,
            step=decider.step,
            codec=options.keyframe_codec,
            references=decider.references,
        )
        groups = decider.groups(chain([first], clips), time_base=source.time_base)
        del first
        for group in timed(groups, "reading"):
            for done in _write_group(group, output, decider=decider):
                if progress is not None:
                    progress(done, source.expected_frames)
            del group  # its frames, before the next ones are read
        with stage("writing"):
            if source.audio is not None:
                output.write_audio(source.audio)
            output.close()
            file.flush()
    report = output.report(began=began, audio_codec=None if source.audio is None else source.audio.codec)
    return replace(report, missed=decider.missed(report.kbits_per_second))


def _write_group(group: Sequence[TimedClip], output: Output, *, decider: Decider) -> Iterator[int]:
    """Clips that are decided on together; gives the frames in the file after each."""
    before = output.size
    seconds = float((group[-1].end - group[0].times[0]) * output.header.time_base)
    with stage("key frames"):
        coded = decider.code([item.clip for item in group], seconds=seconds)
    for number, (item, clip) in enumerate(zip(group, coded.clips, strict=True)):
        latent = coded.latents[number]
        with stage("writing"):
            output.write(replace(item, clip=clip), number, pictures=coded.pictures, latent=latent, step=coded.step)
        yield output.frames
    decider.spend(output.size - before, seconds=seconds)


def _check_audio(audio: bool | None, src: object) -> None:
    """Refuse a wish about the sound of what has none."""
    check_choice(audio, name="audio", allowed=(None, True, False))
    if audio is None:
        return
    if not isinstance(src, str | os.PathLike):
        raise InputError(f"audio is {audio}, which has no effect: frames have no sound")
    if Path(src).is_dir():
        raise InputError(
            f"audio is {audio}, which has no effect on {os.fspath(src)}: a folder of pictures has no sound"
        )
