"""Which samples are made of a set of videos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reducio_codec.config import PIXEL_MULTIPLE
from reducio_codec.training.options import check


@dataclass(frozen=True, kw_only=True)
class ExtractOptions:
    """What ``reducio-codec extract`` takes from videos."""

    frame_rate: float = 16.0
    """Frames per second: faster videos are thinned to it by their time stamps, slower ones stay. 0 takes every frame."""
    find_cuts: bool = True
    """Look for scene cuts, which no clip crosses."""
    frame_steps: tuple[int, ...] = (1,)
    """Distances between the frames of a clip; each makes clips of its own, where they fit into a scene."""
    distance: int = 8
    """Frames from the start of one clip of a scene to that of the next, times the clip's frame step."""
    size: int = 256
    """Side of the samples in pixels; with buckets, the side of a square of about their area."""
    buckets: bool = False
    """Cut to the one of PixArt-alpha's 40 shapes that is nearest to the video's; otherwise to a square."""
    crop: Literal["centre", "random"] = "centre"
    """Where the crop lies."""
    crop_range: tuple[float, ...] = (1.0, 1.0)
    """Smallest and largest crop, over the side of the largest one of that shape in the picture."""
    crops: int = 1
    """Samples of each clip, each with a random crop of its own."""
    flip: bool = False
    """Every sample a second time, mirrored left to right."""
    storage: Literal["stream", "disk"] = "disk"
    """Where decoded frames are: nowhere (decoded again for each clip), or in a cache on disk."""
    stored_side: int = 288
    """The cache has frames with their shorter side reduced to this many pixels; 0 keeps every size. Not for stream."""
    keyframe: Literal["jpeg", "png", "webp"] = "jpeg"
    """Format of the key pictures (JPEG is 4:4:4, PNG lossless)."""
    quality: int = 95
    """Quality of the key pictures, without meaning for PNG."""
    dtype: Literal["float16", "float32"] = "float16"
    """What latents and tokens are stored as."""
    shard_samples: int = 256
    """Samples in a shard; the last one has fewer."""
    seed: int = 0
    """Seed of the crops."""

    def __post_init__(self) -> None:
        def need(name: str, good: bool, allowed: str) -> None:
            check(f"extract.{name}", getattr(self, name), good, allowed)

        need("frame_rate", self.frame_rate >= 0, "0 or more")
        steps = self.frame_steps
        need("frame_steps", bool(steps) and min(steps) >= 1 and len(set(steps)) == len(steps), "different, 1 or more")
        for name in ("distance", "crops", "shard_samples"):
            need(name, getattr(self, name) >= 1, "at least 1")
        need("size", self.size >= PIXEL_MULTIPLE and self.size % PIXEL_MULTIPLE == 0, f"a multiple of {PIXEL_MULTIPLE}")
        low_high = self.crop_range
        need("crop_range", len(low_high) == 2 and 0 < low_high[0] <= low_high[1] <= 1, "two numbers in 0 to 1")
        need("crops", self.crops == 1 or self.crop == "random", "1 where extract.crop is 'centre'")
        need("quality", 0 <= self.quality <= 100, "in 0 to 100")
        stored = self.stored_side
        need("stored_side", stored == 0 or stored >= PIXEL_MULTIPLE, f"0, or {PIXEL_MULTIPLE} or more")
        need("seed", self.seed >= 0, "0 or more")
