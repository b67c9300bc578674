"""What came out of making or reading a file, in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, kw_only=True)
class CompressReport:
    """Where the bytes of a file went, and its rate. Rates count key frames, latent and container, not the sound."""

    width: int
    height: int
    frames: int
    clips: int
    duration: Fraction
    """Seconds of video: from the first frame to the end of the last, by their own times."""
    bytes: int
    """Size of the file."""
    keyframe_bytes: int
    latent_bytes: int
    audio_bytes: int
    elapsed_s: float
    """Seconds that it took, reading the source included."""
    audio_codec: str | None = None
    missed: str | None = None
    """Where the file isn't what ``target_kbps`` (within 5%) or ``target_psnr`` asked for: how far it is from that."""

    @property
    def container_bytes(self) -> int:
        """Header, frame times, record heads and checksums."""
        return self.bytes - self.keyframe_bytes - self.latent_bytes - self.audio_bytes

    @property
    def video_bytes(self) -> int:
        """All but the sound."""
        return self.bytes - self.audio_bytes

    @property
    def kbits_per_second(self) -> float:
        """Thousands of bits for a second of video."""
        return float(8 * self.video_bytes / 1000 / self.duration)

    @property
    def bpp(self) -> float:
        """Bits for each pixel of each frame."""
        return self._per_pixel(self.video_bytes)

    @property
    def bpp_without_keyframe(self) -> float:
        """The same without the key frames' pictures."""
        return self._per_pixel(self.video_bytes - self.keyframe_bytes)

    @property
    def frames_per_second(self) -> float:
        """Speed: frames for each second that it took."""
        return self.frames / self.elapsed_s

    def _per_pixel(self, count: int) -> float:
        return 8 * count / (self.width * self.height * self.frames)


@dataclass(frozen=True, kw_only=True)
class DecompressReport:
    """What was written, and what was damaged."""

    width: int
    height: int
    frames: int
    clips: int
    decoder: str
    elapsed_s: float
    """Seconds that it took, writing the video included."""
    problems: tuple[str, ...] = ()
    """One line for each piece of damage and what was shown in its place; empty for an intact file."""
    concealed_clips: tuple[int, ...] = ()
    """Numbers of the clips that show a repeated key frame, or grey where there is none."""

    @property
    def frames_per_second(self) -> float:
        """Speed: frames for each second that it took."""
        return self.frames / self.elapsed_s
