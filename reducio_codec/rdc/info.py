"""What is in a file: every byte of an ``.rdc`` file by its purpose, with rates; the basic facts of a video."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

from reducio_codec.io.extent import measure
from reducio_codec.io.files import check_input
from reducio_codec.io.images import PICTURE_SUFFIXES
from reducio_codec.io.video import open_video
from reducio_codec.rdc.header import MAGIC
from reducio_codec.rdc.layers.audio import Audio
from reducio_codec.rdc.layers.pictures import Pictures
from reducio_codec.rdc.reader import RdcReader
from reducio_codec.rdc.timing import clock_of_header, mean_rate


@dataclass(frozen=True, kw_only=True)
class Part:
    """Bytes that serve one purpose."""

    bytes: int
    share: float
    """Of the file, 0 to 1."""
    kbit_s: float
    bpp: float
    """Bits for each pixel of each frame."""


@dataclass(frozen=True, kw_only=True)
class RdcInfo:
    """An ``.rdc`` file. The parts add up to the file."""

    kind: str
    bytes: int
    width: int
    height: int
    frames: int
    clips: int
    keyframes: int
    """Frames that are coded as pictures, none or many in a clip."""
    duration_s: float
    """From the first frame to the end of the last, by their own times."""
    rate: Fraction
    """Frames per second, the mean where times vary."""
    model: str
    model_version: int
    latent_space: str
    keyframe_codec: str
    colour: str
    """``bt709``: what the decoded RGB values mean."""
    latent_step: float
    """The file's; a clip can have another."""
    latent_step_range: tuple[float, float]
    """Smallest and largest of the clips."""
    references: int
    """2 where the cuts between clips are marked, for decoders that use the neighbours' key frames."""
    cuts: tuple[int, ...]
    """Clips that a scene change keeps from the key frame of the clip before, or that one from theirs."""
    parts: dict[str, Part]
    """By the layers' names: ``pictures``, ``latent``, ``times``, ``audio``, ``cuts``, ``index``; ``container`` is the rest, and
    ``unknown`` what records hold that this program doesn't know."""
    total: Part
    video: Part
    """All but the sound: what other reports give as the rate."""
    without_keyframe: Part
    """The video less its key frames: the motion, and what it takes to carry it."""
    damage: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; fractions as ``"30000/1001"``."""
        return {**asdict(self), "rate": str(self.rate)}


@dataclass(frozen=True, kw_only=True)
class MediaInfo:
    """A video file or a folder of pictures; rates count the whole file, sound included."""

    kind: str
    bytes: int
    width: int
    height: int
    frames: int | None
    duration_s: float | None
    rate: Fraction
    codec: str
    rotation: int
    has_audio: bool
    kbit_s: float | None
    bpp: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; fractions as ``"30000/1001"``."""
        return {**asdict(self), "rate": str(self.rate)}


def describe_file(path: str | Path) -> RdcInfo | MediaInfo:
    """Look at an ``.rdc`` file, told by its first bytes, or else at a video; decodes no picture of an ``.rdc`` file.

    Raises:
        InputError: no such file. FormatError: a damaged header. VideoError: not a video either.
    """
    found = check_input(path)
    if found.is_file():
        with found.open("rb") as file:
            if file.read(len(MAGIC)) == MAGIC:
                return describe_rdc(file)
    return _describe_video(found)


def describe_rdc(file: BinaryIO) -> RdcInfo:
    """An open ``.rdc`` file, from its beginning."""
    reader = RdcReader(file)
    header, frames = reader.header, reader.frames
    duration, rate = _timing(reader)
    pixels = frames * header.width * header.height
    sizes = reader.byte_report()
    total = sum(sizes.values())
    video = total - sizes.get(Audio.NAME, 0)
    damage, steps = [*reader.damage], []
    for clip in reader:
        damage += clip.damage
        steps.append(clip.step / 1024)

    def part(size: int) -> Part:
        return Part(
            bytes=size,
            share=size / total,
            kbit_s=8 * size / duration / 1000 if duration else 0.0,
            bpp=8 * size / pixels if pixels else 0.0,
        )

    return RdcInfo(
        kind="rdc",
        bytes=total,
        width=header.width,
        height=header.height,
        frames=frames,
        clips=reader.clips,
        keyframes=len(reader.pictures.frames),
        duration_s=duration,
        rate=rate,
        model=header.model,
        model_version=header.version,
        latent_space=header.latent_space,
        keyframe_codec=header.keyframe_codec,
        colour=header.colour,
        latent_step=header.step / 1024,
        latent_step_range=(min(steps, default=header.step / 1024), max(steps, default=header.step / 1024)),
        references=header.references,
        cuts=tuple(reader.cuts),
        parts={name: part(size) for name, size in sizes.items()},
        total=part(total),
        video=part(video),
        without_keyframe=part(video - sizes.get(Pictures.NAME, 0)),
        damage=tuple(damage),
    )


def _timing(reader: RdcReader) -> tuple[float, Fraction]:
    """Seconds of the video and its mean rate, from the frames' times."""
    header, clock = reader.header, clock_of_header(reader.header)
    nominal = 1 / (clock.step * header.time_base)
    if not reader.clips:
        return 0.0, nominal
    clip = reader.read_clip(reader.clips - 1)
    number = clip.start + clip.frames - 1
    last = clip.timestamps[-1] if clip.timestamps else clock(number)
    end = clock.end(number, time=last) if reader.end is None else reader.end
    seconds = max(1, end - header.start) * header.time_base
    rate = mean_rate(reader.frames, seconds=seconds, time_base=header.time_base, nominal=nominal)
    return float(seconds), rate


def _describe_video(path: Path) -> MediaInfo:
    entries = [path] if path.is_file() else path.iterdir()
    files = [item for item in entries if item.is_file()]  # a link may lead nowhere
    size = sum(item.stat().st_size for item in files)
    with open_video(path) as reader:
        info = reader.info
    if path.is_file() and path.suffix.lower() not in PICTURE_SUFFIXES:  # what the header says of these may be anything
        frames, seconds = measure(path, start=info.start)
        if frames and seconds:
            rate = mean_rate(frames, seconds=seconds, time_base=info.time_base, nominal=info.rate)
            info = replace(info, frames=frames, duration_s=float(seconds), rate=rate)
    pixels = (info.frames or 0) * info.width * info.height
    return MediaInfo(
        kind="video" if path.is_file() else "folder",
        bytes=size,
        width=info.width,
        height=info.height,
        frames=info.frames,
        duration_s=info.duration_s,
        rate=info.rate,
        codec=info.codec,
        rotation=info.rotation,
        has_audio=info.has_audio,
        kbit_s=8 * size / info.duration_s / 1000 if info.duration_s else None,
        bpp=8 * size / pixels if pixels else None,
    )
