"""A latent and its key frames to a file and back, without the video that they come from."""

from __future__ import annotations

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reducio_codec import Latent, ReducioCodec
from reducio_codec.errors import FormatError, InputError, WeightsError
from reducio_codec.io.pixels import to_bytes
from tests.helpers import ConvModel, TinyModel, moving_video

CODEC = ReducioCodec(TinyModel(), model_id="tiny", model_hash="0011223344556677")
VIDEO = moving_video(37, 40, 50)
EXACT: dict[str, Any] = {"keyframe_codec": "png", "latent_step": 1 / 64}


def written(codec: ReducioCodec, latent: torch.Tensor, keyframe: torch.Tensor, **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    codec.write_file(latent, keyframe, file, rate=25, **options)
    return file


def test_there_and_back(tmp_path: Path) -> None:
    latent, keyframe = CODEC.encode(VIDEO)
    path = tmp_path / "a.rdc"
    report = CODEC.write_file(latent, keyframe, path, rate=Fraction(30000, 1001), **EXACT)
    assert report.bytes == path.stat().st_size and (report.frames, report.clips) == (37, 3)
    assert (report.width, report.height) == (50, 40) and report.duration == Fraction(37 * 1001, 30000)
    found, pictures = CODEC.read_file(path)
    assert isinstance(found, Latent) and (found.num_frames, found.keyframe_index) == (37, 7)
    assert found.shape == latent.shape and found.dtype == latent.dtype
    assert torch.equal(pictures, keyframe)
    torch.testing.assert_close(found.plain(), latent.plain(), atol=0.5 / 64 + 1e-6, rtol=0)
    with CODEC.open_file(path) as video:
        assert np.array_equal(video[:], CODEC.decode(found, pictures, output="uint8")[0].numpy())
        assert video.rate == Fraction(30000, 1001)
    again = written(CODEC, found, pictures, **EXACT)
    torch.testing.assert_close(CODEC.read_file(again)[0].plain(), found.plain(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("frames", [1, 16, 17])
@pytest.mark.parametrize("index", [0, 7, 15])
def test_any_length_and_key_frame(frames: int, index: int) -> None:
    latent, keyframe = CODEC.encode(VIDEO[:frames], keyframe_index=index)
    found, pictures = CODEC.read_file(written(CODEC, latent, keyframe, **EXACT))
    assert (found.num_frames, found.keyframe_index) == (frames, index)
    assert torch.equal(pictures, keyframe)
    assert CODEC.decode(found, pictures).shape[2] == frames


def test_a_compressed_file_reads_as_encode_gives() -> None:
    codec = ReducioCodec(ConvModel())
    file = io.BytesIO()
    codec.compress(list(VIDEO), file, rate=16, keyframe_codec="png", latent_step=1 / 64)
    latent, keyframe = codec.encode(VIDEO)
    found, pictures = codec.read_file(file)
    assert torch.equal(pictures, keyframe) and found.num_frames == 37
    torch.testing.assert_close(found.plain(), latent.plain(), atol=0.5 / 64 + 1e-6, rtol=0)
    with codec.open_file(file) as video:
        assert torch.equal(video.latents()[0], found)
        shown = codec.decode(found, pictures, output="uint8")[0].numpy()
        assert np.array_equal(shown, np.concatenate([video.decode_clip(i) for i in range(3)]))


def test_options_are_those_of_compress() -> None:
    latent, keyframe = CODEC.encode(VIDEO)
    default = written(CODEC, latent, keyframe)
    same = {"keyframe_quality": 50, "keyframe_codec": "avif", "latent_step": 0.5, "seek_every": 4.0}
    assert written(CODEC, latent, keyframe, **same).getvalue() == default.getvalue()
    for less in ({"keyframe_quality": 10}, {"latent_step": 4}):
        assert len(written(CODEC, latent, keyframe, **less).getvalue()) < len(default.getvalue())
    with CODEC.open_file(default) as video:
        assert video.header.step == 512 and video.header.keyframe_codec == "avif"
    plain = written(CODEC, latent.plain(), keyframe, num_frames=37, keyframe_index=7)
    assert plain.getvalue() == default.getvalue()
    assert CODEC.read_file(written(CODEC, latent.plain(), keyframe))[0].num_frames == 48


def test_a_latent_from_elsewhere(device: torch.device) -> None:
    """Half precision, another device, gradients: what a diffusion model leaves."""
    latent, keyframe = CODEC.encode(VIDEO)
    expected = written(CODEC, latent.half().float(), keyframe).getvalue()
    given = latent.half().to(device).requires_grad_()
    assert written(CODEC, given, keyframe.to(device)).getvalue() == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda z, k: (torch.cat([z, z]), torch.cat([k, k])), "a batch of 2; a file holds one video"),
        (lambda z, k: (z[:, :8], k), "latent has shape"),
        (lambda z, k: (z, to_bytes(k).long()), "keyframe is torch.int64"),
        (lambda z, k: (z * float("nan"), k), "latent holds a value that isn't finite"),
        (lambda z, k: (z * 1e30, k), "latent"),
    ],
)
def test_refusals_leave_no_file(change: Callable[..., Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        CODEC.write_file(*change(*CODEC.encode(VIDEO)), tmp_path / "a.rdc", rate=8)
    assert not list(tmp_path.iterdir())


def test_wrong_options() -> None:
    latent, keyframe = CODEC.encode(VIDEO)
    for options, message in (
        ({"rate": 0}, "rate is 0"),
        ({"rate": 8, "keyframe_quality": 101}, "keyframe_quality is 101"),
        ({"rate": 8, "keyframe_codec": "png", "keyframe_quality": 5}, "no effect"),
        ({"rate": 8, "latent_step": 0}, "latent_step is 0"),
        ({"rate": 8, "num_frames": 5}, "num_frames is 5"),
    ):
        with pytest.raises(InputError, match=message):
            CODEC.write_file(latent, keyframe, io.BytesIO(), **options)  # type: ignore[arg-type]


def test_files_that_one_latent_cannot_say() -> None:
    file = io.BytesIO()
    calm_at_last = np.repeat(VIDEO[:1], 16, 0)
    calm_at_last[:9] = np.random.default_rng(0).integers(0, 256, (9, 40, 50, 3))
    CODEC.compress([*calm_at_last, *calm_at_last[::-1]], file, rate=8, keyframe="best")
    with pytest.raises(InputError, match=r"key frames at the places 3, 11, .*open_file"):
        CODEC.read_file(file)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    file = written(CODEC, *CODEC.encode(VIDEO))
    other = ReducioCodec(TinyModel(), model_id="other", model_hash="ffff")
    with pytest.raises(WeightsError, match="needs model 'tiny'"):
        other.read_file(file)
    data = bytearray(file.getvalue())
    data[len(data) // 2] ^= 255
    with pytest.raises(FormatError):
        CODEC.read_file(io.BytesIO(bytes(data)))
    with pytest.raises(InputError, match="doesn't exist"):
        CODEC.read_file(tmp_path / "none.rdc")
