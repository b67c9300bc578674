"""Options that would do nothing beside others, or can't be, are refused in one line; what is accepted is listed once."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import click
import numpy as np
import pytest
from click.testing import CliRunner

from reducio_codec import ReducioCodec
from reducio_codec.cli import main
from reducio_codec.coding.options import EncodeKeywords, EncodeOptions
from reducio_codec.config import attribute_docs
from reducio_codec.errors import InputError
from tests.helpers import TinyModel, moving_video

CODEC = ReducioCodec(TinyModel(), model_id="tiny", model_hash="0011223344556677")

INERT: tuple[tuple[dict[str, Any], str], ...] = (
    ({"keyframe_codec": "png", "keyframe_quality": 50}, "keyframe_quality is 50, .*no effect.*keyframe_codec='png'"),
    (
        {"target_kbps": 50, "keyframe_quality": 50},
        "keyframe_quality is 50, .*no effect.*target_kbps=50 searches for it",
    ),
    ({"target_psnr": 30.0, "keyframe_quality": 10}, "keyframe_quality is 10, .*no effect.*target_psnr=30 searches"),
    ({"target_kbps": 50, "latent_step": 0.5}, "latent_step is 0.5, .*no effect.*target_kbps=50 searches for it"),
    ({"target_kbps": 50, "keyframe_codec": "png"}, "target_kbps is 50, .*keyframe_codec='png' is lossless"),
    ({"target_psnr": 40, "keyframe_codec": "png"}, "target_psnr is 40, .*keyframe_codec='png' is lossless"),
    ({"target_kbps": 50, "target_psnr": 30}, "target_kbps=50 and target_psnr=30 are given; give one of them"),
    ({"target_psnr": 30, "target_lpips": 0.1}, "target_psnr=30 and target_lpips=0.1 are given; give one of them"),
    ({"target_lpips": 0.1, "latent_step": 0.5}, "latent_step is 0.5, .*no effect.*target_lpips=0.1 searches for it"),
    ({"target_lpips": 1.5}, "target_lpips is 1.5; .* at most 1"),
    ({"keyframe": "best", "keyframe_index": 3}, "keyframe_index is 3, which keyframe='best' would not keep to"),
    ({"keyframe": "middle", "keyframe_index": 3}, "keyframe_index is 3, which keyframe='middle' would not keep to"),
    ({"seek_every": 4.0, "keyframe_codec": "png"}, "seek_every is 4.0, .*keyframe_codec='png' codes each by itself"),
    ({"seek_every": 2, "keyframe_codec": "webp"}, "seek_every is 2, .*keyframe_codec='webp' codes each by itself"),
    ({"keyframes": 2, "keyframe": "best"}, "keyframe is best, which has no effect: keyframes=2 chooses places"),
    ({"keyframes": "auto", "keyframe_index": 3}, "keyframe_index is 3, which has no effect: keyframes='auto' chooses"),
    ({"decoder": "copy"}, "decoder is 'copy', which has no effect without effort, a target or keyframe='best'"),
    ({"decoder": "copy", "keyframe": "middle", "effort": 0}, "decoder is 'copy', which has no effect"),
    ({"references": 2}, "references is 2; no decoder of this model"),
    ({"audio": True}, "audio is True, which has no effect.*frames"),
    ({"audio": False}, "audio is False, which has no effect.*frames"),
)

WRONG: tuple[tuple[dict[str, Any], str], ...] = (
    ({"keyframe_quality": 101}, "keyframe_quality is 101; allowed: 0 to 100"),
    ({"keyframe_quality": True}, "keyframe_quality is True; allowed: 0 to 100"),
    ({"keyframe_quality": "50"}, "keyframe_quality is '50'; allowed: 0 to 100"),
    ({"keyframe_codec": "gif"}, "keyframe_codec is 'gif'; allowed: avif, webp, jpeg, png"),
    ({"keyframe_codec": None}, "keyframe_codec is None; allowed: avif"),
    ({"keyframe_codec": ["avif"]}, r"keyframe_codec is \['avif'\]; allowed: avif"),
    ({"latent_step": 0}, "latent_step is 0; allowed: 0.015625 to 16"),
    ({"latent_step": "0.5"}, "latent_step is '0.5'; allowed: 0.015625 to 16"),
    ({"latent_step": True}, "latent_step is True; allowed: 0.015625 to 16"),
    ({"latent_step": float("nan")}, "latent_step is nan; allowed: 0.015625 to 16"),
    ({"keyframe_index": 16}, "keyframe_index is 16; allowed: 0 to 15"),
    ({"keyframe": "last"}, "keyframe is 'last'; allowed: middle, best"),
    ({"seek_every": 0}, "seek_every is 0; it must be above 0, at most 60"),
    ({"keyframes": 3}, "keyframes is 3; allowed: auto, 1, 2, 4, 8, 16"),
    ({"keyframes": True}, "keyframes is .*; allowed: auto, 1, 2, 4, 8, 16"),
    ({"target_kbps": 0}, "target_kbps is 0; it must be above 0"),
    ({"target_kbps": "60"}, "target_kbps is '60'; it must be above 0"),
    ({"target_kbps": True}, "target_kbps is True; it must be above 0"),
    ({"target_kbps": float("nan")}, "target_kbps is nan; it must be above 0"),
    ({"target_psnr": 99.0}, "target_psnr is 99.0; .* at most 60"),
    ({"effort": 1001}, "effort is 1001; allowed: 0 to 1000"),
    ({"effort": None}, "effort is None; allowed: 0 to 1000"),
    ({"effort": 1, "decoder": "sharp"}, "decoder is 'sharp'; allowed: mean, copy"),
    ({"references": 3}, "references is 3; allowed: 1 .*2"),
    ({"audio": "no"}, "audio is 'no'; allowed: None, True, False"),
)


@pytest.mark.parametrize(("options", "message"), [*INERT, *WRONG])
def test_what_would_do_nothing_or_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    file = io.BytesIO()
    with pytest.raises(InputError, match=message) as caught:
        CODEC.compress(moving_video(4, 32, 32), file, rate=16, **options)
    assert "\n" not in str(caught.value) and not file.getvalue()


@pytest.mark.parametrize("call", ["encode", "encode_stream"])
def test_tensors_refuse_a_step_and_a_decoder_that_nothing_is_refined_for(call: str) -> None:
    video = moving_video(4, 32, 32)
    for options, name in (({"latent_step": 0.25}, "latent_step is 0.25"), ({"decoder": "copy"}, "decoder is 'copy'")):
        with pytest.raises(InputError, match=f"{name}, which has no effect on encoding without effort"):
            getattr(CODEC, call)(video, **options)
    refined = {"effort": 1, "latent_step": 0.25, "decoder": "mean"}
    assert getattr(CODEC, call)(video, **refined) is not None


def test_times_and_sound_of_a_file_are_its_own(make_video: Callable[..., Path], tmp_path: Path) -> None:
    source = make_video(frames=3)
    with pytest.raises(InputError, match=r"rate is 5, but .* is a file with its own times"):
        CODEC.compress(source, tmp_path / "a.rdc", rate=5)
    for audio in (None, True, False):
        assert CODEC.compress(source, tmp_path / "a.rdc", audio=audio).audio_bytes == 0
    folder = tmp_path / "pictures"
    folder.mkdir()
    source.rename(folder / "clip.mp4")
    with pytest.raises(InputError, match=r"audio is True, which has no effect on .*folder"):
        CODEC.compress(folder, tmp_path / "a.rdc", audio=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--keyframe-codec", "png", "--quality", "50"], ["--quality is 50", "--keyframe-codec png"]),
        (["--target-kbps", "50", "--step", "0.5"], ["--step is 0.5", "--target-kbps 50"]),
        (["--target-psnr", "30", "--quality", "50"], ["--quality is 50", "--target-psnr 30"]),
        (["--target-psnr", "30", "--keyframe-codec", "png"], ["--target-psnr is 30", "--keyframe-codec png"]),
        (["--keyframe-codec", "webp", "--seek-every", "2"], ["--seek-every is 2", "--keyframe-codec webp"]),
    ],
)
@pytest.mark.parametrize("command", ["encode", "roundtrip"])
def test_the_command_line_refuses_them_in_its_words(
    command: str, options: list[str], words: list[str], make_video: Callable[..., Path], tmp_path: Path
) -> None:
    target = tmp_path / "out"
    arguments = [command, str(make_video(frames=2)), "-o", str(target), "-m", "reducio-test", *options]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2 and not target.exists()
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and all(word in line for word in words), line


def test_they_are_listed_once() -> None:
    """What a type checker is told is what there is, each says what it is, and the command line has all but the model's own."""
    fields = get_type_hints(EncodeOptions)
    assert fields == get_type_hints(EncodeKeywords)
    assert list(fields) == list(attribute_docs(EncodeOptions))
    for name in ("encode", "roundtrip"):
        command = main.get_command(click.Context(main), name)
        assert command is not None
        given = {parameter.name for parameter in command.params}
        assert set(fields) - given == {"keyframe_index"}
    with pytest.raises(TypeError, match="qualty"):
        CODEC.compress(moving_video(4, 32, 32), io.BytesIO(), rate=16, qualty=3)  # type: ignore[call-arg]


def test_numbers_of_numpy_are_numbers() -> None:
    video = moving_video(4, 32, 32)
    plain, numpy = io.BytesIO(), io.BytesIO()
    CODEC.compress(video, plain, rate=16, latent_step=0.25)
    CODEC.compress(video, numpy, rate=16, latent_step=np.float32(0.25))  # type: ignore[arg-type]
    assert plain.getvalue() == numpy.getvalue()
