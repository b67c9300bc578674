"""Each command from its arguments to its files, with a toy model; what goes wrong is one line and leaves nothing behind."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from reducio_codec.cli import encode as encode_command
from reducio_codec.cli import main
from reducio_codec.cli import roundtrip as roundtrip_command
from reducio_codec.cli.options import coding_options
from reducio_codec.config import LiteConfig
from reducio_codec.io.video import open_video, read_clip
from reducio_codec.models.lite.model import ReducioLite
from reducio_codec.models.precision import NAMES
from reducio_codec.rdc.ranges import STEP_RANGE
from reducio_codec.weights.card import ModelCard
from reducio_codec.weights.io import save_model

MakeVideo = Callable[..., Path]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a toy model with two decoders."""
    torch.manual_seed(0)
    config = LiteConfig(channels_4=4, channels_8=4, channels_16=4, channels_32=8, decoders=("linear", "none"))
    card = ModelCard(name="toy", licence="MIT", summary="For tests.").text()
    return str(save_model(ReducioLite(config), tmp_path_factory.mktemp("models") / "toy", card=card))


@pytest.fixture
def rdc(model: str, make_video: MakeVideo, tmp_path: Path) -> Path:
    """20 frames of 64x48, compressed: a full clip and a short one."""
    path = tmp_path / "clip.rdc"
    done = run("encode", make_video(frames=20), "-o", path, "-m", model)
    assert done.exit_code == 0, done.stderr
    return path


def run(*arguments: Any, **options: Any) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], **options)


def refused(done: Result, *words: str, code: int) -> None:
    """The command ended with ``code`` and one line on stderr that holds all ``words``."""
    assert done.exit_code == code, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_encode_and_decode_with_default_names(model: str, make_video: MakeVideo, tmp_path: Path) -> None:
    source = make_video("clip.mp4", frames=20)
    done = run("encode", source, "--model", model)
    assert done.exit_code == 0, done.stderr
    assert "20 frames" in done.stdout and "kbit/s" in done.stdout
    done = run("decode", tmp_path / "clip.rdc", "--model", model)
    assert done.exit_code == 0, done.stderr
    assert names(tmp_path) == ["clip.decoded.mp4", "clip.mp4", "clip.rdc"]
    with open_video(tmp_path / "clip.decoded.mp4") as reader:
        assert (reader.info.width, reader.info.height) == (64, 48)
        assert len(list(reader)) == 20


def test_decoders_and_lossless(model: str, rdc: Path, tmp_path: Path) -> None:
    done = run("decode", rdc, "-m", model, "--lossless", "--decoder", "none")
    assert done.exit_code == 0, done.stderr
    assert run("decode", rdc, "-m", model, "--lossless", "-o", tmp_path / "linear.mkv").exit_code == 0
    none, linear = read_clip(tmp_path / "clip.decoded.mkv"), read_clip(tmp_path / "linear.mkv")
    assert none.shape == linear.shape == (20, 48, 64, 3)
    assert not np.array_equal(none, linear)


def test_rate_options_reach_the_file(model: str, make_video: MakeVideo, tmp_path: Path) -> None:
    source = make_video(frames=16)
    sizes = {}
    for name, options in {
        "small": ["--quality", 5, "--step", 4],
        "large": ["--quality", 90, "--step", 0.1],
        "png": ["--keyframe-codec", "png"],
    }.items():
        path = tmp_path / f"{name}.rdc"
        assert run("encode", source, "-o", path, "-m", model, *options).exit_code == 0
        info = json.loads(run("info", path, "--json").stdout)
        sizes[name] = info["parts"]["pictures"]["bytes"]
        assert info["keyframe_codec"] == ("png" if name == "png" else "avif")
    assert sizes["small"] < sizes["large"]


def test_pipes(model: str, rdc: Path, tmp_path: Path) -> None:
    done = run("encode", tmp_path / "clip.mp4", "-o", "-", "-m", model)  # the very file that ``rdc`` was made of
    assert done.exit_code == 0, done.stderr
    assert done.stdout_bytes == rdc.read_bytes()
    assert "20 frames" in done.stderr
    done = run("decode", "-", "-o", tmp_path / "out.mp4", "-m", model, input=rdc.read_bytes())
    assert done.exit_code == 0, done.stderr
    assert read_clip(tmp_path / "out.mp4").shape == (20, 48, 64, 3)
    assert json.loads(run("info", "-", "--json", input=rdc.read_bytes()).stdout)["frames"] == 20
    refused(run("decode", "-", "-m", model, input=rdc.read_bytes()), "-o", code=2)


def test_bytes_are_not_written_to_a_terminal(
    model: str, make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reducio_codec.cli import paths
    from reducio_codec.errors import InputError

    class Terminal(io.BytesIO):
        def isatty(self) -> bool:
            return True

    class Stream:
        buffer = Terminal()

    monkeypatch.setattr(sys, "stdout", Stream())
    monkeypatch.setattr(sys, "stdin", Stream())
    for function in (paths.standard_output, paths.standard_input, lambda: paths.open_standard_input(what="a video")):
        with pytest.raises(InputError, match="terminal"):
            function()


def test_info_counts_every_byte(rdc: Path) -> None:
    info = json.loads(run("info", rdc, "--json").stdout)
    assert (info["width"], info["height"], info["frames"], info["clips"]) == (64, 48, 20, 2)
    assert info["rate"] == "16" and info["duration_s"] == pytest.approx(20 / 16)
    size = rdc.stat().st_size
    assert info["bytes"] == size == sum(part["bytes"] for part in info["parts"].values())
    assert info["total"]["kbit_s"] == pytest.approx(8 * size / 1000 / (20 / 16))
    assert info["total"]["bpp"] == pytest.approx(8 * size / (20 * 64 * 48))
    assert info["without_keyframe"]["bytes"] == size - info["parts"]["pictures"]["bytes"]
    text = run("info", rdc)
    for word in ("64x48", "20 frames", "2 clips", "pictures", "latent", "container", f"{size:,}", "without sound"):
        assert word in text.stdout
    assert text.stderr == ""


def test_info_of_a_video(make_video: MakeVideo) -> None:
    source = make_video(frames=20)
    info = json.loads(run("info", source, "--json").stdout)
    assert (info["kind"], info["codec"], info["frames"], info["has_audio"]) == ("video", "h264", 20, False)
    assert info["bytes"] == source.stat().st_size
    assert "h264, 64x48, 20 frames" in run("info", source).stdout


def test_existing_files_are_kept_without_force(model: str, rdc: Path, make_video: MakeVideo, tmp_path: Path) -> None:
    before = rdc.read_bytes()
    source = make_video(frames=3)
    refused(run("encode", source, "-o", rdc, "-m", model), "exists", "--force", code=2)
    assert rdc.read_bytes() == before
    assert run("encode", source, "-o", rdc, "-m", model, "--force").exit_code == 0
    assert rdc.read_bytes() != before
    (tmp_path / "out.mp4").write_bytes(b"precious")
    refused(run("decode", rdc, "-o", tmp_path / "out.mp4", "-m", model), "exists", code=2)
    assert (tmp_path / "out.mp4").read_bytes() == b"precious"


def test_damage_stops_or_is_concealed(model: str, rdc: Path, tmp_path: Path) -> None:
    content = bytearray(rdc.read_bytes())
    content[len(content) * 2 // 3] ^= 255
    rdc.write_bytes(content)
    done = run("decode", rdc, "-o", tmp_path / "out.mp4", "-m", model)
    assert done.exit_code == 1 and done.stderr.startswith("error: ")
    assert names(tmp_path) == ["clip.mp4", "clip.rdc"]
    done = run("decode", rdc, "-o", tmp_path / "out.mp4", "-m", model, "--on-error", "conceal")
    assert done.exit_code == 0, done.stderr
    assert all(line.startswith("warning: ") for line in done.stderr.splitlines()) and done.stderr
    assert len(read_clip(tmp_path / "out.mp4")) == 20
    assert "warning: " in run("info", rdc).stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", ("empty",)), (b"not a video at all", ()), (b"\x89RDC\r\n\x1a\n\x63", ("version",))],
)
def test_bad_files(model: str, tmp_path: Path, content: bytes, words: tuple[str, ...]) -> None:
    bad = tmp_path / "bad.bin"
    bad.write_bytes(content)
    refused(run("decode", bad, "-m", model), "bad.bin", *words, code=1)
    refused(run("decode", bad), "bad.bin", code=1)
    refused(run("encode", bad, "-m", model), "bad.bin", code=1)
    assert names(tmp_path) == ["bad.bin"]


def test_missing_files_and_folders(model: str, rdc: Path, tmp_path: Path) -> None:
    refused(run("encode", tmp_path / "no.mp4", "-m", model), "no.mp4", code=2)
    refused(run("decode", tmp_path / "no.rdc", "-m", model), "no.rdc", code=2)
    refused(run("info", tmp_path / "no.rdc"), "no.rdc", code=2)
    refused(run("decode", rdc, "-o", tmp_path / "no" / "out.mp4", "-m", model), "no", code=2)


def test_output_is_input(model: str, make_video: MakeVideo) -> None:
    source = make_video(frames=3)
    before = source.read_bytes()
    refused(run("encode", source, "-o", source, "-m", model, "--force"), source.name, code=2)
    assert source.read_bytes() == before


def test_wrong_and_unknown_models(model: str, rdc: Path, make_video: MakeVideo, tmp_path: Path) -> None:
    refused(run("encode", make_video(frames=3), "-o", tmp_path / "x.rdc", "-m", "reducio-huge"), "reducio-lite", code=1)
    refused(run("decode", rdc), "toy", "--model", code=1)
    torch.manual_seed(1)
    config = LiteConfig(channels_4=4, channels_8=4, channels_16=4, channels_32=8)
    other = save_model(ReducioLite(config), tmp_path / "other", card="# other")
    refused(run("decode", rdc, "-m", other), "toy", code=1)
    refused(run("decode", rdc, "-m", model, "--decoder", "sharp"), "linear, none", code=2)


@pytest.mark.parametrize(
    "options",
    [
        ["--quality", "101"],
        ["--step", "0"],
        ["--step", "17"],
        ["--keyframe-codec", "bmp"],
        ["--keyframe-codec", "png", "--quality", "50"],
        ["--target-kbps", "50", "--step", "1"],
        ["--target-psnr", "0"],
        ["--tile-size", "100"],
        ["--tile-size", "huge"],
        ["--tile-overlap", "48"],
        ["--device", "tpu"],
        ["--dtype", "int8"],
        ["--threads", "0"],
    ],
)
def test_option_values_are_checked(model: str, make_video: MakeVideo, tmp_path: Path, options: list[str]) -> None:
    source = make_video(frames=2)
    threads = torch.get_num_threads()
    refused(run("encode", source, "-o", tmp_path / "x.rdc", "-m", model, *options), code=2)
    assert not (tmp_path / "x.rdc").exists()
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("name", ["encode", "decode", "roundtrip", "generate", "extract"])
def test_commands_with_a_device_take_dtypes_by_every_name(name: str) -> None:
    parameters = {parameter.name: parameter for parameter in import_module(f"reducio_codec.cli.{name}").command.params}
    assert {"device", "dtype"} <= parameters.keys()
    assert set(parameters["dtype"].type.choices) == {"auto", *NAMES}


def test_dtype_reaches_the_model(
    model: str, make_video: MakeVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, opened = make_video(frames=1), []
    real = encode_command.open_codec
    monkeypatch.setattr(encode_command, "open_codec", lambda *a, **more: opened.append(real(*a, **more)) or opened[-1])
    for option in ("--dtype float32", "--dtype bf16", "--dtype bfloat16", "--precision fp16"):
        assert run("encode", source, "-f", "-m", model, *option.split()).exit_code == 0
    assert [codec.dtype for codec in opened] == [torch.float32, torch.bfloat16, torch.bfloat16, torch.float16]


def test_step_range_is_the_coders() -> None:
    def function() -> None: ...

    options = coding_options(function).__click_params__  # type: ignore[attr-defined]
    (step,) = [option for option in options if option.name == "latent_step"]
    assert (step.type.min, step.type.max) == STEP_RANGE


def test_roundtrip_shows_a_table_and_writes_what_it_names(model: str, make_video: MakeVideo, tmp_path: Path) -> None:
    source, folder = make_video("clip.mp4", frames=20), tmp_path / "out"
    done = run("roundtrip", source, "-o", folder, "-m", model, "--decoder", "linear", "--quality", 70)
    assert done.exit_code == 0, done.stderr
    for word in ("toy (linear)", "repeat the key frame", "kbit/s", "bpp", "PSNR", "SSIM", "frames/s", "peak memory"):
        assert word in done.stdout
    written = ["clip.decoded.mp4", "clip.rdc", "clip.side-by-side.mp4", "clip.strip.png"]
    assert names(folder) == written
    for name in written:
        assert name in done.stdout
    assert f"file {(folder / 'clip.rdc').stat().st_size:,} bytes" in done.stdout
    refused(run("roundtrip", source, "-o", folder, "-m", model), "exists", code=2)
    assert run("roundtrip", source, "-o", folder, "-m", model, "-f").exit_code == 0


def test_roundtrip_with_a_target_tells_what_is_out_of_reach(model: str, make_video: MakeVideo, tmp_path: Path) -> None:
    source = make_video("clip.mp4", frames=20)
    done = run("roundtrip", source, "-o", tmp_path / "out", "-m", model, "--target-psnr", 60)
    assert done.exit_code == 0, done.stderr
    assert "--target-psnr 60 was missed: the file has " in done.stderr


def test_roundtrip_has_a_clip_of_its_own(
    model: str, make_video: MakeVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_video(roundtrip_command.EXAMPLE) as reader:
        assert (reader.info.width, reader.info.height, reader.info.frames) == (512, 288, 64)
    assert roundtrip_command.EXAMPLE.stat().st_size < 400_000
    assert "Licence: CC0" in roundtrip_command.EXAMPLE.with_suffix(".txt").read_text()
    monkeypatch.setattr(roundtrip_command, "EXAMPLE", make_video("flower.mp4", frames=3))  # the real one takes a minute
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # the default folder is the command's own: results of the first run are replaced
        done = run("roundtrip", "-m", model, "--decoder", "none", "--keyframe-codec", "jpeg")
        assert done.exit_code == 0, done.stderr
    assert "flower.strip.png" in names(tmp_path / "roundtrip")


def test_the_bundled_model_needs_no_name(make_video: MakeVideo, tmp_path: Path) -> None:
    assert run("encode", make_video("clip.mp4", frames=3)).exit_code == 0
    done = run("decode", tmp_path / "clip.rdc")
    assert done.exit_code == 0, done.stderr
    assert read_clip(tmp_path / "clip.decoded.mp4").shape == (3, 48, 64, 3)


def test_convert_refuses_what_is_no_checkpoint(model: str, tmp_path: Path) -> None:
    bad = tmp_path / "bad.ckpt"
    bad.write_bytes(b"no checkpoint")
    refused(run("convert", bad, tmp_path / "out"), "bad.ckpt", code=1)
    refused(run("convert", tmp_path / "no.ckpt", tmp_path / "out"), "no.ckpt", code=2)
    refused(run("convert", bad, model), "exists", "--force", code=2)
    assert names(tmp_path) == ["bad.ckpt"]


def test_convert_makes_a_model_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from reducio_codec.weights import convert

    asked = []
    monkeypatch.setattr(convert, "convert_checkpoint", lambda *paths: asked.append(paths))
    done = run("convert", "a.ckpt", tmp_path / "out")
    assert done.exit_code == 0
    assert asked == [(Path("a.ckpt"), tmp_path / "out")]
    assert f"--model {tmp_path / 'out'}" in done.stdout


def test_interrupt_leaves_nothing_behind(
    model: str, make_video: MakeVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_video(frames=20)
    from reducio_codec.coding import pictures

    def interrupt(*_: Any, **__: Any) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(pictures, "code_keyframes", interrupt)
    done = run("encode", source, "-m", model)
    assert done.exit_code == 130
    assert done.stderr.splitlines() == ["interrupted"]
    assert names(tmp_path) == ["clip.mp4"]


def test_sigterm_leaves_nothing_behind(model: str, make_video: MakeVideo, tmp_path: Path) -> None:
    """A real process that its system ends in the middle of its work."""
    source = make_video("clip.mp4", frames=400)
    command = [sys.executable, "-m", "reducio_codec", "encode", str(source), "-m", model]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(Path.cwd())})
    deadline = time.monotonic() + 120
    while len(names(tmp_path)) < 2 and time.monotonic() < deadline:  # until the hidden file is there
        time.sleep(0.05)
    assert len(names(tmp_path)) == 2
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert names(tmp_path) == ["clip.mp4"]


def test_profile_shows_where_the_time_goes(model: str, make_video: MakeVideo, tmp_path: Path) -> None:
    source, rdc = make_video("clip.mp4", frames=20), tmp_path / "clip.rdc"
    for arguments in (
        ("encode", source, "-o", "-"),  # the file goes to standard output, so the table doesn't
        ("encode", source, "-o", rdc),
        ("decode", rdc, "-o", tmp_path / "a.mp4"),
        ("roundtrip", source, "-o", tmp_path / "trip"),
    ):
        done = run(*arguments, "-m", model, "--profile")
        assert done.exit_code == 0, done.stderr
        lines = (done.stderr if "-" in arguments else done.stdout).splitlines()
        rows = {line[:12].strip(): line[12:].split() for line in lines if line[12:].count(".") == 2}
        assert {"reading", "network", "blending", "key frames", "colour", "writing", "waiting", "together"} <= set(rows)
        seconds, share, apart = rows["together"]
        assert share == "100%" and float(apart) == pytest.approx(1000 * float(seconds) / 20, abs=0.6)
    refused(run("encode", tmp_path, "-o", tmp_path / "out", "-m", model, "--profile"), "--profile", "folder", code=2)
    refused(run("decode", tmp_path, "-o", tmp_path / "out", "-m", model, "--profile"), "--profile", "folder", code=2)
