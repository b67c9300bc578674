"""The four encoders that a codec is compared with, at the presets of someone who has time.

All are tuned for PSNR where they have such a switch, because PSNR is compared: their default tuning for the eye would
cost them up to 1 dB here. One pass at constant quality; no encoder sees anything that the others don't.
"""

from __future__ import annotations

from collections.abc import Callable

from bench.codecs.conventional import GOPS, Conventional, Encoder
from bench.methods import Candidate, VideoCodec

X264 = Encoder(
    library="libx264",
    codec="h264",
    decoder="h264",
    options={"preset": "veryslow", "tune": "psnr"},
    private="x264-params",
    private_options={},
    gop_options={"keyint": "{gop}", "scenecut": "0", "open-gop": "0"},
    crf=(26, 31, 36, 41, 46, 51),
)
X265 = Encoder(
    library="libx265",
    codec="hevc",
    decoder="hevc",
    options={"preset": "slow", "tune": "psnr"},
    private="x265-params",
    private_options={"log-level": "error", "info": "0", "pools": "none", "frame-threads": "1"},
    gop_options={"keyint": "{gop}", "min-keyint": "{gop}", "scenecut": "0", "open-gop": "0"},
    crf=(26, 31, 36, 41, 46, 51),
)
SVTAV1 = Encoder(
    library="libsvtav1",
    codec="av1",
    decoder="libdav1d",
    options={"preset": "4"},
    private="svtav1-params",
    private_options={"tune": "1", "lp": "1"},
    gop_options={},
    crf=(33, 40, 47, 54, 59, 63),
)
VP9 = Encoder(
    library="libvpx-vp9",
    codec="vp9",
    decoder="vp9",
    options={"deadline": "good", "cpu-used": "1", "tune": "psnr", "lag-in-frames": "25", "auto-alt-ref": "1"},
    private="",
    private_options={},
    gop_options={},
    crf=(33, 40, 47, 54, 59, 63),
)

ENCODERS = {"x264": X264, "x265": X265, "svtav1": SVTAV1, "vp9": VP9}


def anchors() -> list[Candidate[VideoCodec]]:
    """Each encoder with a key frame every 16 frames, and with one only."""
    return [
        Candidate(
            name=f"{name}-{gop_name}",
            points={f"crf{crf}": _opener(encoder, crf=crf, gop=gop) for crf in encoder.crf},
        )
        for name, encoder in ENCODERS.items()
        for gop_name, gop in GOPS.items()
    ]


def _opener(encoder: Encoder, *, crf: int, gop: int) -> Callable[[], VideoCodec]:
    def open_encoder() -> VideoCodec:
        encoder.check()
        return Conventional(encoder=encoder, crf=crf, gop=gop)

    return open_encoder
