"""The encoders that a codec is compared with, at the presets of someone who has time.

Those that count are the ones with a long GOP, SVT-AV1 and VVenC before all. They code 4:2:0, where most video is; a codec that
keeps all colours, as this one does, is compared with 4:4:4 as well, where the encoder has it (``-444`` in its name: SVT-AV1
and VVenC haven't).

All are tuned for PSNR where they have such a switch, because PSNR is compared: their default tuning for the eye would
cost them up to 1 dB here. One pass at constant quality; no encoder sees anything that the others don't.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from bench.codecs.conventional import GOPS, LONG_GOP, Conventional, Encoder
from bench.codecs.vvenc import QPS, open_vvenc
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

FULL_CHROMA = {
    f"{name}-444": replace(encoder, pixel_format="yuv444p")
    for name, encoder in ENCODERS.items()
    if encoder is not SVTAV1
}


def anchors() -> list[Candidate[VideoCodec]]:
    """Each encoder with a key frame every 16 frames, and with one only; then VVenC and 4:4:4, with one only."""
    found = [_candidate(f"{name}-{gop}", encoder, gop=GOPS[gop]) for name, encoder in ENCODERS.items() for gop in GOPS]
    found.append(Candidate(name="vvenc-long", points={f"qp{qp}": partial(open_vvenc, qp) for qp in QPS}))
    return found + [_candidate(f"{name}-long", encoder, gop=LONG_GOP) for name, encoder in FULL_CHROMA.items()]


def _candidate(name: str, encoder: Encoder, *, gop: int) -> Candidate[VideoCodec]:
    return Candidate(name=name, points={f"crf{crf}": _opener(encoder, crf=crf, gop=gop) for crf in encoder.crf})


def _opener(encoder: Encoder, *, crf: int, gop: int) -> Callable[[], VideoCodec]:
    def open_encoder() -> VideoCodec:
        encoder.check()
        return Conventional(encoder=encoder, crf=crf, gop=gop)

    return open_encoder
