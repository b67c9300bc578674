"""VVenC through FFmpeg's program, and the anchors that keep all colours."""

from __future__ import annotations

import re
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from bench import program
from bench.codecs import vvenc
from bench.codecs.anchors import ENCODERS, FULL_CHROMA
from bench.codecs.conventional import LONG_GOP, Conventional
from bench.codecs.vvenc import VVenC, open_vvenc
from bench.methods import Frames
from reducio_codec.errors import InputError, MissingDependencyError, VideoError
from tests.helpers import moving_video

RATE = Fraction(16)


@pytest.fixture(scope="module")
def frames() -> Frames:
    return moving_video(20, 64, 96, seed=3)


def decibels(a: Frames, b: Frames) -> float:
    return float(-10 * np.log10(np.mean((a / 255 - b / 255) ** 2)))


def test_vvenc_there_and_back(frames: Frames) -> None:
    good, bad = (open_vvenc(qp)(frames, rate=RATE) for qp in (24, 45))
    assert good.frames.shape == bad.frames.shape == frames.shape
    assert good.bytes > 1.2 * bad.bytes
    assert decibels(good.frames, frames) > max(30, decibels(bad.frames, frames) + 1), (
        "wrong colours would not reach this"
    )


def test_vvenc_has_one_key_frame_and_no_talk(frames: Frames) -> None:
    codec = VVenC(qp=40)
    stream = codec.encode(np.concatenate([frames, frames, frames]), rate=RATE)
    kinds = [stream[match.end() + 1] >> 3 for match in re.finditer(rb"\x00\x00\x00?\x01", stream)]
    assert sum(kind in (7, 8, 9) for kind in kinds) == 1  # IDR or CRA
    assert not {20, 23, 24} & set(kinds)
    assert codec.settings["options"]["preset"] == "medium" and codec.settings["pixel_format"].startswith("yuv420p10le")


def test_a_program_that_hangs_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "hangs"
    script.write_text("#!/bin/sh\nexec sleep 1000\n")
    script.chmod(0o755)
    monkeypatch.setattr(program, "program", lambda: str(script))
    with pytest.raises(program.HungError, match="still running after 1 s"):
        program.call([], seconds=1)


def test_an_empty_or_hung_stream_is_tried_again(frames: Frames, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [b"", None, b"\0\0\1\0\x39abc"]

    def call(*_: object, **__: object) -> bytes:
        if (answer := answers.pop(0)) is None:
            raise program.HungError
        return answer

    monkeypatch.setattr(program, "call", call)
    assert VVenC(qp=40).encode(frames, rate=RATE) == b"\0\0\1\0\x39abc"
    answers += [b""] * vvenc.ATTEMPTS
    with pytest.raises(VideoError, match="wrote nothing or hung 5 times"):
        VVenC(qp=40).encode(frames, rate=RATE)


def test_without_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    program.program.cache_clear()
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(MissingDependencyError, match=r"reducio-codec\[bench\]"):
        open_vvenc(32)


def test_the_program_says_what_is_wrong(frames: Frames) -> None:
    with pytest.raises(VideoError, match="libnothing"):
        program.call(["-f", "lavfi", "-i", "color", "-c:v", "libnothing", "-f", "null", "-"])
    with pytest.raises(InputError, match="even sides"):
        program.raw(frames[:, :63], pixel_format="yuv420p")


@pytest.mark.parametrize("name", FULL_CHROMA)
def test_anchors_with_all_colours(name: str) -> None:
    """Colours that change from pixel to pixel: 4:2:0 loses them at any rate, 4:4:4 doesn't."""
    columns = np.arange(64) // 1 % 2
    stripes = np.stack([200 * columns, np.full(64, 100), 200 * (1 - columns)], -1).astype(np.uint8)
    frames = np.broadcast_to(stripes, (4, 64, 64, 3)).copy()
    plain = ENCODERS[name.removesuffix("-444")]
    full, half = (
        Conventional(encoder=encoder, crf=encoder.crf[0], gop=LONG_GOP)(frames, rate=RATE)
        for encoder in (FULL_CHROMA[name], plain)
    )
    assert decibels(full.frames, frames) > decibels(half.frames, frames) + 6
    settings = Conventional(encoder=FULL_CHROMA[name], crf=40, gop=LONG_GOP).settings
    assert settings["pixel_format"] == "yuv444p, BT.709 limited"
