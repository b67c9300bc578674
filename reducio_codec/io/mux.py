"""Encoding through FFmpeg: one video stream, an audio stream copied beside it, exact times."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.container import OutputContainer
from av.video.stream import VideoStream
from PIL import Image

from reducio_codec.errors import InputError, ReducioError, VideoError
from reducio_codec.io.audio import AudioCopier, AudioTrack, can_hold
from reducio_codec.io.colour import FromRgb
from reducio_codec.io.containers import first_line
from reducio_codec.io.files import PendingFile, writing_errors
from reducio_codec.io.gif import set_last_delay

logger = logging.getLogger(__name__)

_GIF_TICK = Fraction(1, 100)
_LARGEST = 2**31 - 1  # FFmpeg's rational numbers are pairs of 32-bit integers


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """What a file name suffix stands for."""

    container: str
    codec: str
    pixel_format: str
    crf: int | None = None
    """Default constant rate factor; None for codecs without one."""
    largest_crf: int = 51
    keeps_pixel_shape: bool = True
    """Whether the stream itself can say that its pixels aren't square."""
    options: tuple[tuple[str, str], ...] = ()


def choose_encoding(path: Path, *, width: int, height: int, lossless: bool) -> Encoding:
    """From the output's suffix. H.264 in 4:2:0 has even sides only; odd sizes are coded in 4:4:4, never cropped."""
    suffix = path.suffix.lower()
    if lossless:
        if suffix != ".mkv":
            raise InputError(
                f"lossless video can't be written to {path.name!r}; allowed: .mkv (FFV1), or a folder of PNG pictures"
            )
        # Level 3 cuts the picture into slices with a checksum each, which FFmpeg gets wrong on tiny pictures.
        options = (("level", "3"), ("slicecrc", "1")) if min(width, height) >= 16 else (("level", "1"),)
        return Encoding(container="matroska", codec="ffv1", pixel_format="bgr0", options=options)
    if suffix in (".mp4", ".m4v", ".mov", ".mkv"):
        container = {".mov": "mov", ".mkv": "matroska"}.get(suffix, "mp4")
        odd = width % 2 or height % 2
        # Beside a fast decoder "medium" (crf 12) takes half of the time. At 720p this takes 45% of what that does, for 33 to
        # 39% more bytes, at 51 dB against 52.
        return Encoding(
            container=container,
            codec="libx264",
            pixel_format="yuv444p" if odd else "yuv420p",
            crf=10,
            options=(("preset", "veryfast"),),
        )
    if suffix == ".webm":
        return Encoding(
            container="webm",
            codec="libvpx-vp9",
            pixel_format="yuv420p",
            crf=15,
            largest_crf=63,
            keeps_pixel_shape=False,
            options=(("b", "0"), ("deadline", "good"), ("cpu-used", "4"), ("row-mt", "1")),
        )
    if suffix == ".gif":
        # Whole pictures: FFmpeg writes only what changed by comparing palette indices, wrong when palettes differ.
        options = (("gifflags", "0"),)
        return Encoding(container="gif", codec="gif", pixel_format="pal8", keeps_pixel_shape=False, options=options)
    raise InputError(
        f"{path.name!r}: the suffix {suffix!r} isn't a video format that can be written; "
        "allowed: .mp4, .m4v, .mov, .mkv, .webm, .gif, or a folder or a name like %05d.png for pictures"
    )


class MuxSink:
    """One output file under a temporary name; the header is written with the first frame."""

    def __init__(
        self,
        pending: PendingFile,
        *,
        encoding: Encoding,
        width: int,
        height: int,
        time_base: Fraction,
        rate: Fraction,
        crf: int | None,
        sample_aspect_ratio: Fraction,
        audio: AudioTrack | None,
    ) -> None:
        self._pending = pending
        self._encoding = encoding
        self._time_base = time_base
        self._clock = _GIF_TICK if encoding.container == "gif" else time_base
        self._shift: int | None = None
        self._waiting: av.VideoFrame | None = None
        self._durations: dict[int, int] = {}  # of frames in the encoder, by pts, in ticks of the clock
        self._held: av.Packet[VideoStream] | None = None
        self._first: tuple[int, int] | None = None  # pts and dts of the first packet
        self._last_gif_tick: int | None = None
        self._convert: FromRgb | None = None
        if encoding.pixel_format != "pal8":
            self._convert = FromRgb(pixel_format=encoding.pixel_format, width=width, height=height)
        self._audio: AudioCopier | None = None
        with self._errors():
            self._container = self._open(sound_rate=audio.sample_rate if audio is not None else 1)
            try:
                self._stream = self._add_video(
                    width=width, height=height, rate=rate, crf=crf, sample_aspect_ratio=sample_aspect_ratio
                )
                if audio is not None:
                    self._add_audio(audio)
            except BaseException:
                self.abort()
                raise

    def write(self, rgb: npt.NDArray[np.uint8], pts: int) -> None:
        """(H, W, 3) uint8 at ``pts`` in units of the time base."""
        with self._errors():
            if self._shift is None:
                self._begin(pts)
            frame = self._frame(rgb, pts + (self._shift or 0))
            if self._waiting is not None:
                self._encode(self._waiting, until=_pts(frame))
            self._waiting = frame

    def _begin(self, pts: int) -> None:
        """Picture and sound keep their distance; both are moved where one would begin before 0."""
        if self._encoding.container == "gif":
            self._shift = -pts  # a GIF always begins at once
        else:
            if pts < 0:
                logger.warning("%s begins before time 0; picture and sound are moved to 0", self._pending.target)
            picture = pts * self._time_base
            first = picture if self._audio is None else min(picture, self._audio.heard_from(picture))
            self._shift = max(0, math.ceil(-first / self._time_base))
        if self._audio is not None:
            self._audio.start((pts + self._shift) * self._time_base)

    def _encode(self, frame: av.VideoFrame, *, until: int) -> None:
        """A frame, once it is known until when it is shown."""
        self._durations[_pts(frame)] = until - _pts(frame)
        self._mux(self._stream.encode(frame))

    def close(self, *, end: int) -> None:
        """``end``: when the last frame stops being shown, in units of the time base."""
        assert self._waiting is not None
        with self._errors():
            last = round((end + (self._shift or 0)) * self._time_base / self._clock)
            until = max(last, _pts(self._waiting) + 1)
            self._encode(self._waiting, until=until)
            self._mux(self._stream.encode(None))
            self._mux_last(until=until)
            if self._audio is not None:
                self._audio.copy_until(None)
            self._container.close()
            if self._encoding.container == "gif":
                set_last_delay(self._pending.temporary, ticks=until - _pts(self._waiting))
        self._release()
        self._pending.commit()

    def abort(self) -> None:
        try:
            self._container.close()
        except (av.FFmpegError, OSError, ValueError):
            pass  # the file is thrown away; that its end couldn't be written doesn't matter
        finally:
            self._release()
            self._pending.discard()

    def _release(self) -> None:
        if self._audio is not None:
            self._audio.close()
            self._audio = None

    def _open(self, *, sound_rate: int) -> OutputContainer:
        options = {}
        if self._encoding.container in ("mp4", "mov"):
            # The time base itself becomes the picture's clock, so every pts is exact; and where picture and sound
            # begin is told in the movie's clock, which must fit both.
            clock = self._time_base.denominator
            common = math.lcm(clock, max(1, sound_rate))
            options = {
                "movflags": "+faststart",
                "video_track_timescale": str(clock),
                "movie_timescale": str(common if common <= _LARGEST else clock),
            }
        return av.open(
            f"file:{self._pending.temporary}", mode="w", format=self._encoding.container, container_options=options
        )

    def _add_video(
        self, *, width: int, height: int, rate: Fraction, crf: int | None, sample_aspect_ratio: Fraction
    ) -> VideoStream:
        options = dict(self._encoding.options)
        quality = self._encoding.crf if crf is None else crf
        if quality is not None:
            options["crf"] = str(quality)
        stream = self._container.add_stream(self._encoding.codec, rate=rate, options=options)
        if not isinstance(stream, VideoStream):
            raise VideoError(f"{self._encoding.codec} is not a video codec in this FFmpeg")
        stream.width, stream.height = width, height
        stream.pix_fmt = self._encoding.pixel_format
        stream.codec_context.time_base = self._clock
        stream.time_base = self._clock
        if self._convert is not None:
            self._convert.tag(stream.codec_context)
        if sample_aspect_ratio != 1 and not self._encoding.keeps_pixel_shape:
            logger.warning(
                "%s can't say that its pixels have the shape %s; write a .mp4 or .mkv to keep it",
                self._pending.target.name,
                sample_aspect_ratio,
            )
        elif sample_aspect_ratio != 1:
            stream.codec_context.sample_aspect_ratio = sample_aspect_ratio
        return stream

    def _add_audio(self, audio: AudioTrack) -> None:
        if not can_hold(audio, container_format=self._encoding.container):
            logger.warning(
                "%s can't hold %s sound, which is left out; write a .mkv to keep it",
                self._pending.target.name,
                audio.codec,
            )
            return
        self._audio = AudioCopier(audio, target=self._container)

    def _frame(self, rgb: npt.NDArray[np.uint8], pts: int) -> av.VideoFrame:
        if self._convert is not None:
            frame = self._convert(rgb)
            frame.pts, frame.time_base = pts, self._time_base
            return frame
        # 256 colours chosen for each frame alone, so that no frame waits for a palette of the whole video.
        picture = Image.fromarray(rgb).quantize(256)
        colours = np.zeros((256, 4), np.uint8)  # A, R, G, B
        palette = np.asarray(picture.getpalette() or [0, 0, 0], np.uint8).reshape(-1, 3)
        colours[: len(palette), 1:] = palette
        colours[:, 0] = 255
        frame = av.VideoFrame.from_ndarray((np.asarray(picture), colours), format="pal8")  # type: ignore[arg-type]
        tick = round(pts * self._time_base / _GIF_TICK)
        if self._last_gif_tick is not None:
            tick = max(tick, self._last_gif_tick + 1)
        self._last_gif_tick = tick
        frame.pts, frame.time_base = tick, _GIF_TICK
        return frame

    def _mux(self, packets: list[av.Packet[VideoStream]]) -> None:
        """All but the last packet, which waits: the one that ends the file is treated in its own way."""
        for packet in packets:
            tick = Fraction(packet.time_base)
            shown = self._durations.pop(round((packet.pts or 0) * tick / self._clock), 1)
            packet.duration = max(1, round(shown * self._clock / tick))
            self._send()
            self._held = packet

    def _send(self) -> None:
        packet, self._held = self._held, None
        if packet is None:
            return
        if self._first is None:
            self._first = (packet.pts or 0, packet.dts or 0)
        if self._audio is not None and packet.dts is not None:
            self._audio.copy_until(packet.dts * Fraction(packet.time_base))
        self._container.mux(packet)

    def _mux_last(self, *, until: int) -> None:
        """An MP4 file adds up its length in decoding order, where the last packet needn't be the last picture."""
        packet = self._held
        if packet is not None and self._first is not None and self._encoding.container in ("mp4", "mov"):
            end = round(until * self._clock / Fraction(packet.time_base))
            decoded = end - self._first[0] + self._first[1]  # where the sum of decoding times has to end
            shown = end - (packet.pts or 0)
            packet.duration = max(1, min(shown, decoded - (packet.dts or 0)))
            packet.dts = max(packet.dts or 0, decoded - packet.duration)
        self._send()

    def _errors(self) -> _Errors:
        return _Errors(self._pending.target)


def _pts(frame: av.VideoFrame) -> int:
    assert frame.pts is not None  # each gets one in MuxSink._frame
    return frame.pts


class _Errors:
    """FFmpeg's and the system's errors while writing, as ours. Used as a context manager."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is None or isinstance(error, ReducioError):
            return
        if isinstance(error, OSError) and 0 < (error.errno or 0) < 4096:
            with writing_errors(self._target):
                raise error
        if isinstance(error, (av.FFmpegError, ValueError, OverflowError)):
            raise VideoError(f"{self._target} can't be encoded: {first_line(error)}") from error


def check_fractions(*, time_base: Fraction, rate: Fraction) -> None:
    """Both must be positive and fit FFmpeg's 32-bit fractions."""
    for name, value in (("time_base", time_base), ("rate", rate)):
        if value <= 0 or value.numerator > _LARGEST or value.denominator > _LARGEST:
            raise InputError(f"{name} is {value}; it must be positive, with both numbers at most {_LARGEST}")
