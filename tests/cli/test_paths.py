"""Every command that takes a path: names without a name, addresses, ``-``, and standard streams that are closed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from reducio_codec.cli import main
from reducio_codec.cli.paths import PathName, beside
from reducio_codec.codec import ReducioCodec
from reducio_codec.errors import InputError
from reducio_codec.io.files import check_input, check_output
from reducio_codec.training.manifest import find_videos
from reducio_codec.weights.zoo import resolve

ROOT = Path(__file__).resolve().parents[2]
MODEL = ("-m", "reducio-test")

NEEDS_A_PATH = {
    "encode": ["encode", "{}"],
    "encode -o": ["encode", "clip.mp4", "-o", "{}"],
    "decode": ["decode", "{}"],
    "decode -o": ["decode", "clip.rdc", "-o", "{}"],
    "decode --frames": ["decode", "clip.rdc", "--frames", "{}"],
    "play": ["play", "{}"],
    "info": ["info", "{}"],
    "roundtrip": ["roundtrip", "{}"],
    "roundtrip -o": ["roundtrip", "clip.mp4", "-o", "{}"],
    "convert": ["convert", "{}", "out"],
    "generate": ["generate", "--image", "{}", "-o", "out.mp4"],
    "generate -o": ["generate", "--image", "a.png", "-o", "{}"],
    "train": ["train", "lite", "--data", "{}", "--out", "run"],
    "train --val": ["train", "lite", "--data", "a", "--val", "{}", "--out", "run"],
    "train --out": ["train", "lite", "--data", "a", "--out", "{}"],
    "extract": ["extract", "{}", "--codec", "reducio-test", "--out", "out"],
    "train-dit": ["train-dit", "dit-lite", "--latents", "{}", "--out", "run"],
}


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of three pictures, with a dot in its name; it is the current one."""
    folder = tmp_path / "holiday.2024"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (64, 48), (80 * number, 20, 90)).save(folder / f"{number}.png")
    monkeypatch.chdir(folder)
    return folder


def refused(arguments: list[str], *words: str) -> None:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2, done.output
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and "a bug" not in line
    for word in words:
        assert word in line


@pytest.mark.parametrize("command", NEEDS_A_PATH)
def test_an_empty_name_and_an_address_are_refused(command: str, pictures: Path) -> None:
    for value, word in (("", "empty"), ("https://example.org/a.mp4", "download it first")):
        refused([part.format(value) for part in NEEDS_A_PATH[command]], word)
    assert len(list(pictures.iterdir())) == 3


@pytest.mark.parametrize("command", sorted(set(NEEDS_A_PATH) - {"encode -o", "decode -o", "play", "info"}))
def test_standard_streams_carry_videos_and_files_of_ours_only(command: str, pictures: Path) -> None:
    """``encode -`` and ``decode -`` lack the name of an output here."""
    refused([part.format("-") for part in NEEDS_A_PATH[command]])
    assert len(list(pictures.iterdir())) == 3


def test_a_folder_without_a_name_lends_its_real_one(pictures: Path, tmp_path: Path) -> None:
    for given in (".", "../holiday.2024", str(pictures)):
        done = CliRunner().invoke(main, ["encode", given, *MODEL])
        assert done.exit_code == 0, done.stderr
        (tmp_path / "holiday.2024.rdc").unlink()
    below = pictures / "below"
    below.mkdir()
    os.chdir(below)
    assert CliRunner().invoke(main, ["roundtrip", "..", "-o", str(tmp_path / "out"), *MODEL]).exit_code == 0
    assert (tmp_path / "out" / "holiday.2024.rdc").is_file()
    assert beside(Path("a/b.c.mp4"), ".rdc") == Path("a/b.c.rdc")
    refused(["encode", "/"], "/", "name")
    for folder in (".", "..", "/"):
        refused(["decode", folder, "-o", "x.mp4"], "folder")


def test_a_file_called_dash_has_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert PathName(dash="no").convert("./-", None, None) == tmp_path / "-"


def test_the_api_takes_no_empty_name_either(pictures: Path) -> None:
    codec = ReducioCodec.from_pretrained("reducio-test")
    for wrong in (
        lambda: codec.encode(""),
        lambda: codec.compress("", "a.rdc"),
        lambda: codec.compress(".", ""),
        lambda: codec.open_file(""),
        lambda: check_input(""),
        lambda: check_output(""),
        lambda: check_input(5),  # type: ignore[arg-type]
        lambda: find_videos(""),
        lambda: codec.encode("https://example.org/a.mp4"),
    ):
        with pytest.raises(InputError, match=r"empty|path is needed|download"):
            wrong()
    with pytest.raises(Exception, match="no model ''"):
        resolve("")
    assert codec.encode(".")[0].num_frames == 3


def test_a_pipe_is_named_once(pictures: Path) -> None:
    os.mkfifo("pipe.mp4")
    refused(["encode", "pipe.mp4"], "is not a file or folder")
    with pytest.raises(InputError, match=r"^pipe\.mp4 is not a file or folder"):
        check_input("pipe.mp4")


def shell(line: str) -> subprocess.CompletedProcess[str]:
    command = line.replace("RC", f'"{sys.executable}" -m reducio_codec')
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}  # as users have it
    return subprocess.run(
        ["sh", "-c", command], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_closed_streams(pictures: Path, tmp_path: Path) -> None:
    done = shell("RC encode . -m reducio-test -o ../all.rdc <&- >&- 2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "all.rdc").read_bytes()[1:4] == b"RDC"
    for line, code, words in (
        ("RC info nothing.rdc 2>&-", 2, ""),
        ("RC decode - -o a.mp4 <&-", 2, "error: standard input is closed"),
        ("RC encode - -o a.rdc <&-", 2, "error: standard input is closed; pipe a video"),
        ("RC decode ../all.rdc -o - >&-", 2, "error: standard output is closed"),
        ("RC encode . -o - >&-", 2, "error: standard output is closed"),
        ("RC models >/dev/full", 1, "error: "),
        ("RC decode ../all.rdc -o - >/dev/full", 1, "error: no space left to write standard output"),
        ("RC --version >/dev/full", 1, "error: No space left on device"),
    ):
        done = shell(line)
        assert done.returncode == code, line
        assert done.stderr.startswith(words) and len(done.stderr.splitlines()) == bool(words)


def test_what_a_library_says_on_a_closed_stream_reaches_no_file(tmp_path: Path) -> None:
    """Without a standard error the next file that is opened would be it."""
    code = (
        "import os\n"
        "from reducio_codec.cli.paths import fill_closed_streams\n"
        "fill_closed_streams()\n"
        "with open('out.bin', 'wb') as file:\n"
        "    os.write(2, b'noise')\n"
    )
    line = f'"{sys.executable}" -c "{code}" 2>&-'
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(["sh", "-c", line], env=environment, cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "out.bin").read_bytes() == b""


def test_no_file_is_left_open(make_video: Callable[..., Path], tmp_path: Path) -> None:
    """Python tells of files that nobody closed; here it tells of none."""
    from tests.io.test_audio import film

    frames = np.zeros((20, 48, 64, 3), np.uint8)
    film(tmp_path / "film.mp4", frames, seconds=1)
    code = (
        "import sys, gc\n"
        "from reducio_codec.cli import main\n"
        "for line in open('lines'):\n"
        "    try:\n"
        "        main(line.split())\n"
        "    except SystemExit as end:\n"
        "        assert end.code == 0, line\n"
        "    gc.collect()\n"
    )
    lines = (
        "encode film.mp4 -m reducio-test",
        "decode film.rdc",
        "info film.rdc",
        "info film.mp4",
        "roundtrip film.mp4 -m reducio-test -o out",
    )
    (tmp_path / "lines").write_text("\n".join(lines))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default::ResourceWarning"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    told = [line for line in done.stderr.splitlines() if "unclosed" in line and "'lines'" not in line]
    assert done.returncode == 0 and not told, done.stderr


DEVICE = {
    "encode": ["encode", ".", "-o", "{}", *MODEL],
    "decode": ["decode", "../a.rdc", "-o", "{}", *MODEL],
    "generate": ["generate", "--image", "0.png", "-o", "{}"],
    "convert-lpips": ["convert-lpips", "../a.rdc", "-o", "{}"],
}


@pytest.mark.parametrize("force", [[], ["-f"]])
@pytest.mark.parametrize("command", DEVICE)
def test_what_is_no_file_is_never_replaced(command: str, force: list[str], pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "a.rdc").write_bytes(b"x")
    os.mkfifo("pipe.mp4")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("socket.mp4")
    Path("link.mp4").symlink_to("pipe.mp4")
    with listener:
        for name in ("/dev/full", "/dev/null", "pipe.mp4", "socket.mp4", "link.mp4"):
            kind = Path(name).stat().st_mode
            refused([*(part.format(name) for part in DEVICE[command]), *force], name, "is not a regular file")
            assert Path(name).stat().st_mode == kind
    assert len(list(pictures.iterdir())) == 6


@pytest.mark.parametrize(
    "line",
    ["RC encode . -o - -m reducio-test", "RC models", "RC --help", "RC encode --help", "RC --version",
     "RC info ../a.rdc", "RC info ../a.rdc --json", "RC encode . -o ../b.rdc -m reducio-test",
     "RC decode ../a.rdc -o ../a.mp4 -m reducio-test", "RC decode ../a.rdc -o -"],
)  # fmt: skip
def test_a_reader_that_has_seen_enough_ends_it_quietly(line: str, pictures: Path, tmp_path: Path) -> None:
    """As SIGPIPE ends other programs: no word, and the exit code that a shell gives them."""
    ReducioCodec.from_pretrained("reducio-test").compress(".", tmp_path / "a.rdc")
    reading, writing = os.pipe()
    os.close(reading)  # whoever reads is gone before the first byte
    command = [sys.executable, "-m", "reducio_codec", *line.split()[1:]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(
            command, env=environment, stdout=pipe, stderr=subprocess.PIPE, text=True, timeout=120, check=False
        )
    assert (done.stderr, done.returncode) == ("", 141)
