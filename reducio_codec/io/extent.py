"""How far a video reaches: told by its packets, and by the header of a Matroska file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from reducio_codec.io.containers import open_container, pick_stream
from reducio_codec.io.pipe import Pipe
from reducio_codec.io.tracks import track_end
from reducio_codec.io.truncation import structure_is_whole

_SLACK = Fraction(1, 2)
"""Seconds at a video's end that nobody misses."""


def ends_stream(packet: Packet[VideoStream]) -> bool:
    """Whether it is what PyAV gives behind the last packet. An empty packet with a time is another thing: the picture before
    it stays."""
    return not packet.size and packet.pts is None and packet.dts is None


class Extent:
    """Takes a stream's packets as they come, and knows what they add up to."""

    def __init__(self, container: InputContainer, stream: VideoStream, *, path: Path | Pipe) -> None:
        self._container, self._stream, self._path = container, stream, path
        self._met = 0
        self._begin: int | None = None
        self._last: int | None = None
        self._end: int | None = None
        self._decoded: int | None = None
        self._delay = 0
        self._byte = 0  # of the file, where the last packet ends
        self.frames = 0
        """Packets that are shown; an edit list can leave some out."""
        self.moves: list[int] = []
        """Ticks by which each recording behind the first is moved, where recordings are joined end to end: times then jump back
        by a second or more."""

    def add(self, packet: Packet[VideoStream]) -> None:
        if ends_stream(packet):
            return
        self._met += 1
        self._byte = (packet.pos or 0) + packet.size
        if packet.is_discard:
            return
        self.frames += bool(packet.size)
        decoded = packet.dts
        time = packet.pts if packet.pts is not None else decoded
        if time is None and self._decoded is not None:  # only some packets of an MPEG program stream have times
            decoded = self._decoded + (packet.duration or 0)
            time = decoded + self._delay
        if time is not None:
            if decoded is not None:  # in order, as the times of pictures needn't be
                if self._decoded is None:
                    self._delay = time - decoded
                elif (self._decoded - decoded) * self._tick >= 1:
                    self._delay = time - decoded
                    self.moves.append((self._end or 0) - time)
                self._decoded = decoded
            time += self.shift
            self._begin = time if self._begin is None else min(self._begin, time)
            if self._last is None or time >= self._last:
                self._last, self._end = time, time + (packet.duration or 0)

    @property
    def complete(self) -> bool:
        """As many have come as the header counts; False where it doesn't count them."""
        return 0 < self._stream.frames <= self._met

    def falls_short(self, length: int) -> bool:
        """Whether something is missing from what was read to its end, ``length`` bytes: frames that an MP4's header counts, or a
        part of one more in uncompressed video, which FFmpeg drops without a word."""
        kind = self._container.format.name
        if kind == "yuv4mpegpipe":
            return length > self._byte
        return kind.startswith("mov") and 0 < self._met < self._stream.frames

    @property
    def shift(self) -> int:
        """What is added to the file's own times by now."""
        return self.moves[-1] if self.moves else 0

    @property
    def end(self) -> int | None:
        """When the last picture stops being shown, in ticks of the stream; None where no packet has a time."""
        if self._end is None or self._last is None:
            return None
        claimed = self._claimed()
        if claimed is not None:  # a Matroska file keeps no duration of its last picture but in this sum
            return max(self._end, round(claimed / self._tick))
        if self._container.format.name.startswith("mov") and isinstance(self._path, Path):
            shown = track_end(self._path, track=self._stream.id)
            if shown is not None and round(shown / self._tick) > self._last:
                return round(shown / self._tick)
        return self._end

    @property
    def seconds(self) -> Fraction | None:
        """From the first picture to the end of the last."""
        end = self.end
        return None if end is None or self._begin is None else (end - self._begin) * self._tick

    @property
    def seconds_moved(self) -> list[Fraction]:
        """``moves`` in seconds."""
        return [move * self._tick for move in self.moves]

    def gap(self) -> str | None:
        """FFmpeg skips a damaged stretch of a Matroska file silently, to the end if need be; its header knows better."""
        claimed = self._claimed()
        if claimed is None or self._end is None or self._end * self._tick + _SLACK >= claimed:
            return None
        if structure_is_whole(self._path):
            return None  # it rests on its last picture
        return f"the last is at {float(self._end * self._tick):.2f} s, but the header says {float(claimed):.2f} s"

    @property
    def _tick(self) -> Fraction:
        return Fraction(self._stream.time_base or 1)

    def _claimed(self) -> Fraction | None:
        """Seconds at which a Matroska header says that this stream ends."""
        if not self._container.format.name.startswith("matroska"):
            return None
        tags = self._stream.metadata.items()
        tag = next((value for key, value in tags if key.upper().startswith("DURATION")), "")
        match = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", tag.strip())
        whole = Fraction(self._container.duration, av.time_base) if self._container.duration else None
        if match is None:
            others = len(self._container.streams) > 1  # the whole file's may be theirs
            return None if others else whole
        hours, minutes, seconds = match.groups()
        claimed = int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
        return claimed if whole is None else min(claimed, whole)  # a tag may be left from a longer file


def measure(path: Path, *, start: int | None = None) -> tuple[int, Fraction | None]:
    """Frames and seconds of a video, from its packets; reads the whole file, but decodes nothing.

    ``start``: time of the first picture that can be decoded; packets before it, with which a piece of a broadcast may begin,
    show nothing.
    """
    with _read(path, start=start) as extent:
        return extent.frames, extent.seconds


def moves(path: Path) -> list[Fraction]:
    """Seconds by which the picture of each recording behind the first is moved, where recordings are joined end to end."""
    with _read(path) as extent:
        return extent.seconds_moved


@contextmanager
def _read(path: Path, *, start: int | None = None) -> Iterator[Extent]:
    with open_container(path) as container:
        stream = pick_stream(container, path=path)
        extent = Extent(container, stream, path=path)
        try:
            for packet in container.demux(stream):
                if start is None or packet.pts is None or extent.moves or packet.pts >= start:
                    extent.add(packet)
        except av.FFmpegError:
            pass  # what comes before damage counts
        yield extent
