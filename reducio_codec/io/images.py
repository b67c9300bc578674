"""Pictures as video: a folder of them, a single one, or an animated one; and numbered PNG files as output."""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from reducio_codec.errors import InputError, VideoError
from reducio_codec.io.colour import ColourInfo, on_black
from reducio_codec.io.decode import DEFAULT_RATE, VideoFrame, VideoInfo
from reducio_codec.io.files import check_output, writing_errors

logger = logging.getLogger(__name__)

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")
"""Files Pillow reads. GIF is not among them: FFmpeg reads it, with its frame times."""

_MILLISECOND = Fraction(1, 1000)
_PATTERN = re.compile(r"%(0(\d+))?d")
_NUMBERED = re.compile(r"[0-9]{5,}\.png")


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Sorts ``frame2`` before ``frame10``."""
    parts = re.split(r"([0-9]+)", path.name)
    return [(1, int(part), part) if part.isdigit() and part.isascii() else (0, 0, part.lower()) for part in parts]


def list_pictures(folder: Path) -> list[Path]:
    """The folder's pictures in natural order, hidden files left out."""
    found = [
        item
        for item in folder.iterdir()
        if item.suffix.lower() in PICTURE_SUFFIXES and not item.name.startswith(".") and item.is_file()
    ]
    return sorted(found, key=natural_key)


def picture_to_rgb(picture: Image.Image) -> npt.NDArray[np.uint8]:
    """Any Pillow picture -> (H, W, 3) uint8: turned as its EXIF says, 16 bit scaled, transparency put on black."""
    upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion would clip it at 255
        grey = np.asarray(upright).astype(np.float64)
        values = np.clip(np.rint(grey / 257), 0, 255).astype(np.uint8)
        return np.ascontiguousarray(np.repeat(values[..., None], 3, axis=2))
    if upright.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in upright.info:
        pixels = np.asarray(upright.convert("RGBA"))  # (H, W, 4)
        return on_black(pixels[..., :3], alpha=pixels[..., 3])
    return np.array(upright.convert("RGB"))


def _open(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except UnidentifiedImageError:
        raise VideoError(f"{path} is not a picture that can be read") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise VideoError(f"{path} can't be read as a picture: {error}") from error


def _pixels(picture: Image.Image, *, path: Path) -> npt.NDArray[np.uint8]:
    try:
        return picture_to_rgb(picture)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise VideoError(f"{path} can't be read as a picture: {error}") from error


def _checked_rate(rate: Fraction | float | None) -> Fraction:
    if rate is None:
        return DEFAULT_RATE
    exact = Fraction(rate).limit_denominator(100_000)
    if exact <= 0:
        raise InputError(f"rate is {rate}; it must be a positive number of frames per second")
    return exact


def probe_folder(folder: Path, *, rate: Fraction | float | None) -> tuple[VideoInfo, list[Path]]:
    """Info from the first picture, and all of them in order."""
    files = list_pictures(folder)
    if not files:
        raise InputError(f"the folder {folder} has no pictures; allowed: {', '.join(PICTURE_SUFFIXES)}")
    exact = _checked_rate(rate)
    with _open(files[0]) as picture:
        height, width, _ = _pixels(picture, path=files[0]).shape
        codec = (picture.format or "picture").lower()
    info = VideoInfo(
        width=width,
        height=height,
        time_base=1 / exact,
        rate=exact,
        frames=len(files),
        duration_s=float(len(files) / exact),
        codec=codec,
    )
    return info, files


def read_folder(files: list[Path], *, info: VideoInfo, start: int = 0) -> Iterator[VideoFrame]:
    """The pictures one by one; one of another size is an error that names it."""
    for index, path in enumerate(files[start:], start=start):
        with _open(path) as picture:
            rgb = _pixels(picture, path=path)
        height, width, _ = rgb.shape
        if (width, height) != (info.width, info.height):
            raise VideoError(
                f"{path} is {width}x{height}, but {files[0].name} is {info.width}x{info.height}; "
                "all pictures of a folder must have one size"
            )
        yield VideoFrame(rgb=rgb, pts=index, duration=1)


def probe_picture(path: Path) -> VideoInfo:
    """One frame, or as many as an animated WebP, PNG or AVIF has."""
    with _open(path) as picture:
        height, width, _ = _pixels(picture, path=path).shape
        codec = (picture.format or "picture").lower()
        ends = [end for _, end in _times(picture, path=path)]
        count = len(ends)
    if count == 1:
        rate = DEFAULT_RATE
        return VideoInfo(
            width=width,
            height=height,
            time_base=1 / rate,
            rate=rate,
            frames=1,
            duration_s=float(1 / rate),
            codec=codec,
            colour=ColourInfo(),
        )
    return VideoInfo(
        width=width,
        height=height,
        time_base=_MILLISECOND,
        rate=Fraction(1000 * count, ends[-1]),
        frames=count,
        duration_s=ends[-1] / 1000,
        codec=codec,
    )


def _times(picture: Image.Image, *, path: Path) -> Iterator[tuple[int, int]]:
    """Start and end of every frame in milliseconds. A frame without a duration is shown 100 ms, as browsers do.

    The picture that an animated PNG shows to who can't animate it isn't one of them, where it says so.
    """
    count = int(getattr(picture, "n_frames", 1)) if picture.format in ("WEBP", "PNG", "AVIF") else 1
    first = 1 if count > 1 and getattr(picture, "default_image", False) else 0
    sum_of_durations, end = Fraction(0), 0
    for index in range(first, count):
        try:
            picture.seek(index)
            picture.load()  # WebP and AVIF know a frame's duration only after they decoded it
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise VideoError(f"{path}: only the first {index} frames can be read: {error}") from error
        sum_of_durations += Fraction(picture.info.get("duration") or 100)
        start, end = end, max(end + 1, round(sum_of_durations))
        yield start, end


def read_picture(path: Path, *, info: VideoInfo, start: int = 0) -> Iterator[VideoFrame]:
    """The frames of one picture file."""
    with _open(path) as picture:
        for index, (begin, end) in enumerate(_times(picture, path=path)):
            if index >= start:
                duration = 1 if info.time_base != _MILLISECOND else end - begin  # a still lasts one frame
                yield VideoFrame(rgb=_pixels(picture, path=path), pts=begin, duration=duration)


def names_pictures(path: Path) -> bool:
    """Whether an output of this name is a folder of pictures, or a pattern for their names."""
    return path.is_dir() or not path.suffix or path.suffix.lower() == ".png"


class PictureSink:
    """Numbered PNG files, made in a hidden folder beside the target and moved into place at the end.

    The target is a folder, or a pattern like ``frames/%05d.png``. There must be no pictures yet, or, with ``replace``, those
    with a number for a name go.
    """

    def __init__(self, path: str | os.PathLike[str], *, replace: bool = False) -> None:
        target = Path(path)
        if target.suffix.lower() == ".png" and not target.is_dir():
            match = _PATTERN.search(target.name)
            if match is None or target.name.count("%") != 1:
                raise InputError(f"{target} is not a name for numbered pictures; write it like frames/%05d.png")
            self._folder, self._name = target.parent, target.name
        else:
            self._folder, self._name = target, "%05d.png"
        self._replace = replace
        if self._folder.is_dir() and not replace and list_pictures(self._folder):
            raise InputError(f"the folder {self._folder} already has pictures; give an empty or a new one")
        marker = check_output(self._folder.absolute() / ".new" if self._folder.is_dir() else self._folder.absolute())
        self._temporary = marker.parent / f".{os.getpid()}-{id(self):x}.tmp"
        with writing_errors(self._folder):
            self._temporary.mkdir()
        self._count = 0

    def write(self, rgb: npt.NDArray[np.uint8], pts: int) -> None:
        """One picture; its time is not kept, a picture file has no place for it."""
        with writing_errors(self._folder):
            Image.fromarray(rgb).save(self._temporary / (self._name % self._count), compress_level=4)
        self._count += 1

    def close(self) -> None:
        with writing_errors(self._folder):
            if not self._folder.is_dir():
                self._temporary.replace(self._folder)
                return
            for old in list_pictures(self._folder) if self._replace else ():
                if _NUMBERED.fullmatch(old.name):
                    old.unlink()
            for file in self._temporary.iterdir():
                file.replace(self._folder / file.name)
            self._temporary.rmdir()

    def abort(self) -> None:
        shutil.rmtree(self._temporary, ignore_errors=True)
