"""All quality metrics of one sample as JSON values; what can't be computed says which file it needs."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.perceptual import Perceptual
from bench.protocol import KEYFRAME
from bench.results import NOT_RUN
from reducio_codec.config import CLIP_LENGTH
from reducio_codec.errors import InputError
from reducio_codec.metrics.fvd import PREPROCESSING, I3d, find_i3d
from reducio_codec.metrics.lpips import Lpips, LpipsMeter, Net
from reducio_codec.metrics.ms_ssim import MsSsimMeter
from reducio_codec.metrics.psnr import PsnrMeter
from reducio_codec.metrics.ssim import SsimMeter
from reducio_codec.metrics.weights import NeedsFileError

METRICS = ("psnr_paper", "psnr_pooled", "psnr_pooled_without_keyframe", "ssim", "ms_ssim", "lpips")


@dataclass(frozen=True, kw_only=True)
class Quality:
    """The metrics of this run. ``lpips`` and ``i3d`` are the loaded network, or what the cell says instead."""

    lpips: Lpips | str
    i3d: I3d | str
    perceptual: Perceptual = field(default_factory=Perceptual)
    """For whole samples, by whoever has them and their rate."""

    @classmethod
    def open(
        cls,
        *,
        lpips_net: Net = "alex",
        lpips_trunk: Path | None = None,
        i3d: Path | None = None,
        download: bool = False,
        with_fvd: bool = True,
        perceptual: Sequence[str] = (),
    ) -> Quality:
        """Find the networks of others; what is missing becomes a sentence, a wrong file stays an error."""
        distance: Lpips | str
        features: I3d | str = NOT_RUN + "only for reconstruction"
        try:
            distance = Lpips(lpips_net, trunk=lpips_trunk)
        except NeedsFileError as error:
            distance = f"{NOT_RUN}needs {error.file}"
        if with_fvd:
            try:
                features = I3d(find_i3d(i3d, download=download))
            except NeedsFileError as error:
                features = f"{NOT_RUN}needs {error.file}"
        return cls(lpips=distance, i3d=features, perceptual=Perceptual.open(perceptual))

    def measure(self, reference: NDArray[np.uint8], decoded: NDArray[np.uint8]) -> dict[str, Any]:
        """``(N*16, H, W, 3)`` uint8 each to METRICS; numbers are means over the N clips."""
        if reference.shape != decoded.shape:
            raise InputError(f"the source has {reference.shape} and the result {decoded.shape}; they must be equal")
        psnr, ssim, ms_ssim = PsnrMeter(), SsimMeter(), MsSsimMeter()
        for first in range(0, len(reference), CLIP_LENGTH):
            clip = slice(first, first + CLIP_LENGTH)
            psnr.add(reference[clip], decoded[clip], keyframe=KEYFRAME)
        ssim.add(reference, decoded)
        ms_ssim.add(reference, decoded)
        lpips: float | str
        if isinstance(self.lpips, str):
            lpips = self.lpips
        else:
            meter = LpipsMeter(self.lpips)
            meter.add(reference, decoded)
            lpips = meter.result()
        found = psnr.result()
        too_small = NOT_RUN + "frames are too small"
        return {
            "psnr_paper": found.paper,
            "psnr_pooled": found.pooled,
            "psnr_pooled_without_keyframe": found.pooled_without_keyframe,
            "ssim": too_small if (value := ssim.result()) is None else value,
            "ms_ssim": too_small if (value := ms_ssim.result()) is None else value,
            "lpips": lpips,
        }

    def describe(self) -> dict[str, Any]:
        """Which networks, for the result file."""
        i3d: Any = self.i3d
        if not isinstance(self.i3d, str):
            i3d = {"sha256": self.i3d.sha256, "preprocessing": PREPROCESSING}
        return {"lpips": self.lpips if isinstance(self.lpips, str) else self.lpips.describe(), "i3d": i3d} | (
            {"perceptual": self.perceptual.describe()} if self.perceptual.tools else {}
        )

    def features(self, clip: NDArray[np.uint8]) -> str | None:
        """I3D features of one clip as base64 of little-endian float32, or None without the network."""
        return None if isinstance(self.i3d, str) else pack(self.i3d(clip))

    def could_add(self, result: dict[str, Any]) -> bool:
        """Whether a finished result lacks what this run could compute, its network having come since."""
        lpips_missing = isinstance(result["metrics"]["lpips"], str) and not isinstance(self.lpips, str)
        return (
            lpips_missing
            or self.perceptual.could_add(result["metrics"])
            or ("i3d" in result and result["i3d"] is None and not isinstance(self.i3d, str))
        )


def pack(values: NDArray[np.float32]) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode()


def unpack(text: str) -> NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(text), "<f4")
