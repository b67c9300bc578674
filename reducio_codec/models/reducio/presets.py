"""The models of the paper's tables, by name. Each is ``reducio_codec.config.ReducioConfig`` with one or two fields changed.

with torch.device("meta"):
    model = ReducioVAE(PRESETS["ft2-fs32"].config)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from reducio_codec.config import ReducioConfig


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A row of the paper's tables."""

    config: ReducioConfig
    tables: tuple[int, ...]
    """Tables of arXiv 2411.13552 that have it."""
    psnr: float | None = None
    """Published PSNR in dB, by the paper's definition; None where no table gives it."""
    ssim: float | None = None
    """Published SSIM."""
    parameters_m: float | None = None
    """Published parameters in millions (Tab. 6). They count what ``dead_parameters`` counts."""


def _preset(*tables: int, psnr: float | None = None, ssim: float | None = None, parameters_m: float | None = None,
            **changes: Any) -> Preset:  # fmt: skip
    return Preset(
        config=ReducioConfig(**changes), tables=tables, psnr=psnr, ssim=ssim, parameters_m=parameters_m
    )  # fmt: skip


_FS16 = (1, 2, 2, 4, 4)
_FS64 = (1, 2, 2, 4, 4, 4, 4)

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        # f_t, f_s (Tab. 4). "ft4-fs32" is the paper's model, in every table; "ft2-fs32" is published, too.
        "ft4-fs32": _preset(1, 4, 5, 6, 9, 11, psnr=35.88, ssim=0.94, parameters_m=437),
        "ft2-fs32": _preset(4, 9, psnr=36.79, ssim=0.96, temporal_compression_ratio=2),
        "ft16-fs16": _preset(
            4, psnr=34.14, ssim=0.93,
            temporal_compression_ratio=16, spatial_compression_ratio=16, channel_multipliers=_FS16,
        ),
        "ft1-fs64": _preset(
            4, 10, psnr=35.51, ssim=0.93,
            temporal_compression_ratio=1, spatial_compression_ratio=64, channel_multipliers=_FS64,
        ),
        # latent channels (Tab. 5)
        "z4": _preset(5, psnr=33.17, latent_channels=4),
        "z8": _preset(5, 9, psnr=34.15, latent_channels=8),
        "z32": _preset(5, psnr=35.24, latent_channels=32),
        # fusion (Tab. 6); all share an encoder there, as "all-decoders" does
        "none": _preset(6, 11, psnr=27.91, ssim=0.80, parameters_m=435, decoders=("none",)),
        "linear": _preset(6, psnr=30.86, ssim=0.87, parameters_m=439, decoders=("linear",)),
        "add": _preset(6, psnr=34.17, ssim=0.93, parameters_m=450, decoders=("add",)),
        "all-decoders": _preset(6, decoders=("attention", "add", "linear", "none")),
        # convolutions (Tab. 10): the same f_t and f_s as "ft1-fs64"
        "ft1-fs64-2d": _preset(
            10, psnr=30.22, ssim=0.86, conv="2d",
            temporal_compression_ratio=1, spatial_compression_ratio=64, channel_multipliers=_FS64,
        ),
        # content frame (Tab. 11); without one there is no content encoder either
        "random-frame": _preset(11, psnr=31.72, content_frame="random"),
        "first-frame": _preset(11, content_frame="first"),
        "no-frame": _preset(11, psnr=27.91, content_frame="none", decoders=("none",)),
    }
)  # fmt: skip
"""Names to rows. The values of a table that isn't measured here stay what the paper printed."""


def dead_parameters(config: ReducioConfig) -> int:
    """Weights that the published content encoder has and never uses: a residual block and a norm at its deepest level.

    They are in the paper's parameter counts and in its checkpoints; this package doesn't build them.
    """
    if config.content_frame == "none":
        return 0
    width = config.content_channels * config.content_multipliers[-1]
    convolution, norm = width * width * 9 + width, 2 * width
    return 2 * (convolution + norm) + norm
