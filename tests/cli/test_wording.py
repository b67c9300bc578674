"""What the API says, in the words of the command line."""

from __future__ import annotations

from importlib import import_module

import pytest

from reducio_codec.cli.wording import spell

SAID = {
    "decode": {
        "damaged from byte 9 on (on_error='conceal' shows the nearest key frame instead)":
            "damaged from byte 9 on (--on-error conceal shows the nearest key frame instead)",
        "on_error is 'x'; allowed: raise": "--on-error is 'x'; allowed: raise",
        "clip 1 uses that key frame, with references=1 not": "clip 1 uses that key frame, with --references 1 not",
        "decoder is 'sharp'; allowed: linear": "--decoder is 'sharp'; allowed: linear",
        "tile_size is 33; allowed: 32": "--tile-size is 33; allowed: 32",
        "lossless=True needs .mkv": "--lossless needs .mkv",
        "/a/on_error.rdc doesn't exist": "/a/on_error.rdc doesn't exist",
        "on_error.rdc doesn't exist": "on_error.rdc doesn't exist",
        "'on_error' is no file": "'on_error' is no file",
        "a=decoder=3/b doesn't exist": "a=decoder=3/b doesn't exist",
        "the decoder is none of them": "the decoder is none of them",
    },
    "encode": {
        "keyframe_quality is 101; allowed: 0 to 100": "--quality is 101; allowed: 0 to 100",
        "latent_step is 20.5": "--step is 20.5",
        "no effect without effort, a target or keyframe='best'": "no effect without effort, a target or --keyframe best",
        "target_psnr 60 was missed": "--target-psnr 60 was missed",
        "give target_kbps= or less": "give --target-kbps or less",
        "rate=24 is for folders": "rate=24 is for folders",
    },
    "generate": {
        "image_encoder= gives it one": "--image-encoder gives it one",
        "dtype is float16": "--dtype is float16",
    },
    "models": {"decoder is 'x'": "decoder is 'x'"},
}  # fmt: skip


@pytest.mark.parametrize(("command", "said"), [(name, said) for name, lines in SAID.items() for said in lines])
def test_options_are_named_as_they_are_typed(command: str, said: str) -> None:
    assert spell(said, import_module(f"reducio_codec.cli.{command}").command) == SAID[command][said]


def test_without_a_command_nothing_changes() -> None:
    assert spell("on_error='conceal'", None) == "on_error='conceal'"
