"""Measures made for the eye: VMAF and VMAF-NEG (libvmaf), XPSNR, SSIMULACRA2.

Each takes two clips ``(T, H, W, 3)`` uint8 of sRGB. The video measures look at 4:2:0: both clips go through the very same
conversion (``reducio_codec.io.colour``: BT.709, limited range, chroma on the left), so what it loses is lost on both sides, and
what a codec did to colours finer than 4:2:0 isn't seen. SSIMULACRA2 looks at the RGB itself.

VMAF was trained on 1080p seen from three heights away: at 256 px its numbers are for comparing, not for reading. It rewards
sharpening; NEG doesn't. Equal clips have no score of exactly 100: a frame after which nothing moved is given less.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from importlib import metadata
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from bench import program
from bench.methods import Frames
from bench.results import NOT_RUN
from reducio_codec.errors import InputError, MissingDependencyError, VideoError
from reducio_codec.io.colour import FromRgb

PIXELS = "yuv420p"
_MODELS = r"version=vmaf_v0.6.1\:name=vmaf|version=vmaf_v0.6.1neg\:name=neg"

XPSNR_CEILING = 80.0
"""dB of equal clips, as this project's PSNR has it."""
_XPSNR_LINE = re.compile(r"average.*y:\s*(\S+)\s+u:\s*(\S+)\s+v:\s*(\S+)")

SSIMULACRA2_EVERY = 8
"""Of the frames, one in so many: the package is plain numpy, 0.2 s a picture of 256 x 256."""


@dataclass(frozen=True, kw_only=True)
class Vmaf:
    """Means over frames, 0 to 100."""

    vmaf: float
    neg: float
    """Without the enhancement gain: sharpening isn't rewarded."""


@dataclass(frozen=True, kw_only=True)
class Xpsnr:
    """dB of each plane, over all frames; at most XPSNR_CEILING."""

    y: float
    u: float
    v: float

    @property
    def weighted(self) -> float:
        """(4 Y + U + V) / 6: by the number of samples in 4:2:0."""
        return (4 * self.y + self.u + self.v) / 6


def vmaf(reference: Frames, decoded: Frames, *, rate: Fraction) -> Vmaf:
    """VMAF 0.6.1 and its NEG model by libvmaf, in FFmpeg's program. Sides must be even, and 16 pixels or more.

    Raises:
        MissingDependencyError: no program. VideoError: it has no libvmaf. InputError: clips that can't be compared.
    """
    _check(reference, decoded, side=16)
    with tempfile.TemporaryDirectory() as name:
        folder, inputs = Path(name), []
        for file, frames in (("decoded.yuv", decoded), ("reference.yuv", reference)):  # libvmaf's order
            (folder / file).write_bytes(program.raw(frames, pixel_format=PIXELS))
            inputs += program.raw_input(file, frames=frames, rate=rate, pixel_format=PIXELS)
        escaped = _MODELS.replace("\\", "\\\\")
        graph = f"[0:v][1:v]libvmaf=model={escaped}:log_fmt=json:log_path=log.json:n_threads=1"
        program.call(["-nostdin", *inputs, "-lavfi", graph, "-f", "null", "-"], folder=folder)
        log = json.loads((folder / "log.json").read_text(encoding="utf-8"))
    if len(log["frames"]) != len(reference):
        raise VideoError(f"libvmaf compared {len(log['frames'])} frames of {len(reference)}")
    found = log["pooled_metrics"]
    return Vmaf(vmaf=float(found["vmaf"]["mean"]), neg=float(found["neg"]["mean"]))


def xpsnr(reference: Frames, decoded: Frames, *, rate: Fraction) -> Xpsnr:
    """XPSNR (Helmrich et al. 2020) by FFmpeg's filter, in PyAV. From 32 frames a second on it weighs motion differently.

    Raises:
        MissingDependencyError: PyAV was built without the filter. InputError: clips that can't be compared.
    """
    _check(reference, decoded, side=16)
    if "xpsnr" not in av.filter.filters_available:
        raise MissingDependencyError(f"this PyAV ({av.__version__}) has no filter xpsnr; pip install --upgrade av")
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "xpsnr.log"
        _compare(reference, decoded, rate=rate, log=log)
        match = _XPSNR_LINE.search(log.read_text(encoding="utf-8"))
    if match is None:
        raise VideoError("the filter xpsnr gave no average")
    y, u, v = (min(float(value), XPSNR_CEILING) for value in match.groups())
    return Xpsnr(y=y, u=u, v=v)


def _compare(reference: Frames, decoded: Frames, *, rate: Fraction, log: Path) -> None:
    """Run the filter; it writes its averages when the graph goes, at the end of this function."""
    height, width = reference.shape[1:3]
    graph, form = av.filter.Graph(), av.VideoFormat(PIXELS)
    # no tag can differ: whatever a clip went through, both are frames of one converter
    convert = FromRgb(pixel_format=PIXELS, width=width, height=height)
    sources: list[Any] = [
        graph.add_buffer(width=width, height=height, format=form, time_base=1 / rate) for _ in range(2)
    ]
    measure, sink = graph.add("xpsnr", f"stats_file={_escaped(log)}"), graph.add("buffersink")
    for number, source in enumerate(sources):
        source.link_to(measure, 0, number)
    measure.link_to(sink)
    graph.configure()
    for index, pair in enumerate(zip(decoded, reference, strict=True)):
        for source, picture in zip(sources, pair, strict=True):
            frame = convert(picture)
            frame.pts, frame.time_base = index, 1 / rate
            source.push(frame)
    for source in sources:
        source.push(None)
    while True:
        try:
            graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return


def _escaped(path: Path) -> str:
    """A path as a filter's option takes it."""
    return re.sub(r"([\\':])", r"\\\1", str(path))


def ssimulacra2(reference: Frames, decoded: Frames, *, every: int = SSIMULACRA2_EVERY) -> float:
    """SSIMULACRA2 (Sneyers), mean over one frame in ``every``, the first included; 100 for equal ones, and it can be negative.

    By the package ``ssimulacra2``. MissingDependencyError without it. InputError: clips that can't be compared.
    """
    _check(reference, decoded, side=8)
    try:
        package = importlib.import_module("ssimulacra2")
    except ImportError as error:
        raise MissingDependencyError("SSIMULACRA2 needs: pip install 'reducio-codec[bench]'") from error
    chosen = slice(None, None, every)
    scores = [
        package.compute_ssimulacra2(_png(a), _png(b)) for a, b in zip(reference[chosen], decoded[chosen], strict=True)
    ]
    return float(np.mean(scores))


def _png(picture: Frames) -> io.BytesIO:
    """The package reads files only."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=0)
    file.seek(0)
    return file


def _check(reference: Frames, decoded: Frames, *, side: int) -> None:
    same = reference.shape == decoded.shape and reference.dtype == decoded.dtype == np.uint8
    if not same or reference.ndim != 4 or not len(reference) or min(reference.shape[1:3]) < side:
        raise InputError(
            f"clips are {reference.dtype} {reference.shape} and {decoded.dtype} {decoded.shape}; both must be uint8 "
            f"(T, H, W, 3) of one shape, with sides of {side} pixels or more"
        )


COLUMNS = {"vmaf": ("vmaf", "vmaf_neg"), "xpsnr": ("xpsnr",), "ssimulacra2": ("ssimulacra2",)}
"""What can be asked for, and the names of its numbers in a result."""


@dataclass(frozen=True, kw_only=True)
class Perceptual:
    """The measures of a run."""

    tools: Mapping[str, str | None] = field(default_factory=dict)
    """Those that were asked for, each with what its cells say instead of a number, or None where it runs."""

    @classmethod
    def open(cls, names: Sequence[str]) -> Perceptual:
        """What is missing becomes a sentence. InputError for an unknown name."""
        for name in names:
            if name not in COLUMNS:
                raise InputError(f"measure is {name!r}; allowed: {', '.join(COLUMNS)}")
        return cls(tools={name: _missing(name) for name in names})

    def measure(self, reference: Frames, decoded: Frames, *, rate: Fraction) -> dict[str, float | str]:
        """Numbers by column, or why there is none."""
        found: dict[str, float | str] = {}
        for name, reason in self.tools.items():
            if reason is not None:
                found |= dict.fromkeys(COLUMNS[name], reason)
            elif name == "vmaf":
                scores = vmaf(reference, decoded, rate=rate)
                found |= {"vmaf": scores.vmaf, "vmaf_neg": scores.neg}
            elif name == "xpsnr":
                found["xpsnr"] = xpsnr(reference, decoded, rate=rate).weighted
            else:
                found["ssimulacra2"] = ssimulacra2(reference, decoded)
        return found

    def describe(self) -> dict[str, str]:
        """Versions and models, for the result file."""
        said = {
            "vmaf": lambda: f"vmaf_v0.6.1 and its neg, FFmpeg {program.version()}",
            "xpsnr": lambda: f"(4 Y + U + V) / 6, libavfilter {'.'.join(map(str, av.library_versions['libavfilter']))}",
            "ssimulacra2": lambda: f"{metadata.version('ssimulacra2')}, one frame in {SSIMULACRA2_EVERY}",
        }
        return {name: said[name]() if reason is None else reason for name, reason in self.tools.items()}

    def could_add(self, metrics: Mapping[str, Any]) -> bool:
        """Whether a finished result lacks a number that this run could take."""
        columns = [column for name, reason in self.tools.items() if reason is None for column in COLUMNS[name]]
        return any(isinstance(metrics.get(column, ""), str) for column in columns)


def _missing(name: str) -> str | None:
    if name == "xpsnr":
        return None if "xpsnr" in av.filter.filters_available else f"{NOT_RUN}this PyAV has no xpsnr"
    package = "ssimulacra2" if name == "ssimulacra2" else "imageio_ffmpeg"
    return None if importlib.util.find_spec(package) else f"{NOT_RUN}needs {package.replace('_', '-')}"
