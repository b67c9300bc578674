"""What the page plays: a video through this codec, with key frames by content and with one a clip, and through x264 at about
the same bytes, beside its source.

They lie side by side in one small VP9 file, so they can't run apart; the page cuts them out again. VP9 changes what is
seen a little; every number is taken from the frames before it.
"""

from __future__ import annotations

import base64
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from bench.codecs import ours
from bench.codecs.anchors import X264
from bench.codecs.conventional import Conventional
from bench.methods import Coded, Frames, NotRunError, VideoCodec
from bench.protocol import Sample, SampleSet
from bench.rd import protocol
from reducio_codec.coding.options import AUTO_QUALITY, QUALITY, STEP
from reducio_codec.config import CLIP_LENGTH
from reducio_codec.errors import InputError
from reducio_codec.metrics.psnr import psnr

_ONE = {"qualities": (QUALITY,), "steps": (STEP,), "group": 4}
"""The codec's defaults with one key frame a clip."""

_VP9_CRF = 12

_CLOSE = 0.01
"""Bytes that differ by less are equal for the search."""


@dataclass(frozen=True, kw_only=True)
class Track:
    """One of the things that are compared."""

    name: str
    bytes: int
    parts: dict[str, int]
    psnr: list[float]
    """dB of each frame against the source; empty for the source itself."""

    def to_json(self, *, seconds: float, pixels: int) -> dict[str, Any]:
        return {
            "name": self.name,
            "bytes": self.bytes,
            "parts": self.parts,
            "psnr": [round(value, 2) for value in self.psnr],
            "kbps": round(8 * self.bytes / 1000 / seconds, 1),
            "bpp": round(8 * self.bytes / pixels, 4),
        }


@dataclass(frozen=True, kw_only=True)
class Player:
    """One video of the page."""

    title: str
    rate: float
    size: int
    tracks: list[Track]
    """The source, this codec by content and with one key frame a clip, x264 at about the bytes of the first."""
    video: bytes
    """WebM, the tracks side by side."""

    def to_json(self) -> dict[str, Any]:
        frames = len(self.tracks[1].psnr)
        size = {"seconds": frames / self.rate, "pixels": frames * self.size**2}
        return {
            "title": self.title,
            "rate": self.rate,
            "frames": frames,
            "size": self.size,
            "tracks": [track.to_json(**size) for track in self.tracks],
            "video": base64.b64encode(self.video).decode(),
        }


def make_players(data: Path, *, model: str, decoder: str | None, count: int) -> tuple[list[Player], dict[str, str]]:
    """Players of ``count`` videos, evenly spread over the folder's names; and the videos that couldn't be used, with why.

    Raises:
        InputError: no usable video. NotRunError: no such model or decoder.
    """
    samples = SampleSet(folder=data, protocol=protocol("video"))
    places = np.unique(np.linspace(0, len(samples.videos) - 1, min(count, len(samples.videos))).round().astype(int))
    wanted = {"__".join(samples.videos[i].relative_to(data).parts) for i in places}
    candidates = [
        ours.files_by_content(model, decoder=decoder, qualities=(AUTO_QUALITY,)),
        ours.files(model, decoder=decoder, **_ONE),
    ]
    codecs = {candidate.name: next(iter(candidate.points.values()))() for candidate in candidates}
    players = [_player(sample, codecs=codecs) for sample in samples.of_videos(wanted)]
    if not players:
        raise InputError(f"{data} has no usable video: {'; '.join(samples.skipped.values())}")
    return players, samples.skipped


def _player(sample: Sample, *, codecs: Mapping[str, VideoCodec]) -> Player:
    coded = {name: codec(sample.pixels, rate=sample.rate) for name, codec in codecs.items()}
    size = next(iter(coded.values())).bytes
    crf, other = nearest_x264(sample.pixels, rate=sample.rate, size=size)
    coded[f"x264 veryslow, GOP {CLIP_LENGTH}, CRF {crf:g}"] = other
    tracks = [
        Track(name="source", bytes=0, parts={}, psnr=[]),
        *(_track(name, item, sample.pixels) for name, item in coded.items()),
    ]
    # (T, H, tracks * W, 3)
    side_by_side = np.concatenate((sample.pixels, *(item.frames for item in coded.values())), axis=2)
    return Player(
        title=sample.name,
        rate=float(sample.rate),
        size=sample.pixels.shape[1],
        tracks=tracks,
        video=_webm(side_by_side, rate=sample.rate),
    )


def nearest_x264(frames: Frames, *, rate: Fraction, size: int) -> tuple[float, Coded]:
    """x264's constant rate factor, in quarters, whose bytes are nearest to ``size`` of those that were tried.

    Bytes halve every six or so: from one try to the next by that rule, within the bounds that the tries have set.
    """
    X264.check()
    low, high = 40, 204  # quarters; bytes fall as they rise
    guess = 4 * 32
    tried: dict[int, Coded] = {}
    while low <= high:
        guess = min(max(guess, low), high)
        coded = tried[guess] = Conventional(encoder=X264, crf=guess / 4, gop=CLIP_LENGTH)(frames, rate=rate)
        if abs(coded.bytes / size - 1) < _CLOSE:
            break
        if coded.bytes > size:
            low = guess + 1
        else:
            high = guess - 1
        guess += round(4 * 6 * math.log2(coded.bytes / size))
    best = min(tried, key=lambda quarters: abs(tried[quarters].bytes - size))
    return best / 4, tried[best]


def _track(name: str, coded: Coded, source: Frames) -> Track:
    return Track(name=name, bytes=coded.bytes, parts=dict(coded.parts), psnr=list(map(psnr, source, coded.frames)))


def _webm(frames: Sequence[Any] | NDArray[np.uint8], *, rate: Fraction) -> bytes:
    try:
        av.codec.Codec("libvpx-vp9", "w")
    except av.codec.codec.UnknownCodecError as error:
        raise NotRunError(f"this PyAV ({av.__version__}) has no libvpx-vp9, which the players need") from error
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "players.webm"
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream("libvpx-vp9", rate=rate)
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt = "yuv420p"
            stream.bit_rate = 0
            stream.options = {"crf": str(_VP9_CRF), "g": str(CLIP_LENGTH), "deadline": "good", "cpu-used": "4"}
            for picture in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
            container.mux(stream.encode(None))
        return path.read_bytes()
