"""What the scripts of examples/ do beside what tests/docs runs of them."""

from __future__ import annotations

import csv
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

Call = Callable[..., str]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    """``call("script.py", "--option", ...)``, in an empty folder; gives what was printed."""

    def run(script: str, *words: object) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [str(EXAMPLES / script), *map(str, words)])
        runpy.run_path(sys.argv[0], run_name="__main__")
        return capsys.readouterr().out

    return run


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_goes_on_and_names_what_fails(call: Call, make_video: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "in" / "trip").mkdir(parents=True)
    for name in ("in/a.mp4", "in/trip/a.mkv"):
        make_video(name, frames=17)
    (tmp_path / "in" / "bad.mp4").write_text("no video")
    with pytest.raises(SystemExit, match="1 of 3 files failed"):
        call("compress_folder.py", "in", "out", "--codec", "reducio-test")
    assert [row["file"] for row in rows(tmp_path / "out" / "table.csv")] == ["a.mp4", "trip/a.mkv"]
    (tmp_path / "in" / "bad.mp4").unlink()
    make_video("in/b.mp4", frames=17)
    assert "a.mp4: is there" in call("compress_folder.py", "in", "out", "--codec", "reducio-test")
    found = rows(tmp_path / "out" / "table.csv")
    assert [row["file"] for row in found] == ["a.mp4", "trip/a.mkv", "b.mp4"]
    for row in found:
        assert int(row["bytes"]) == (tmp_path / "out" / (row["file"] + ".rdc")).stat().st_size


def test_parts_of_a_folder_are_all_of_it(call: Call, make_video: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(3):
        make_video(f"in/{number}.mp4", frames=1)
    for part in ("0/2", "1/2"):
        call("compress_folder.py", "in", "out", "--codec", "reducio-test", "--part", part)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *(f"{number}.mp4.rdc" for number in range(3)),
        "table-0.csv",
        "table-1.csv",
    ]
    with pytest.raises(SystemExit):
        call("compress_folder.py", "in", "out", "--part", "2/2")


def test_rate_and_distortion_of_an_odd_size(call: Call, make_video: Callable[..., Path], tmp_path: Path) -> None:
    make_video("odd.mkv", frames=20, width=75, height=49, pix_fmt="yuv444p")
    words = ["--qualities", "10,60", "--crfs", "24,36", "--preset", "ultrafast", "--csv", "c.csv", "--plot", "p.png"]
    printed = call("rate_distortion.py", "odd.mkv", "--codec", "reducio-test", *words)
    assert printed.splitlines()[-1].endswith(("at equal PSNR", "no common quality"))
    points = [(row["method"], float(row["kbit_s"]), float(row["psnr_db"])) for row in rows(tmp_path / "c.csv")]
    assert [name for name, _, _ in points] == ["reducio-test"] * 2 + ["x264"] * 2
    (_, small, worse), (_, large, better) = points[:2]
    assert small < large and worse < better
    (_, large, better), (_, small, worse) = points[2:]
    assert small < large and 20 < worse < better < 60
    assert (tmp_path / "p.png").stat().st_size > 1000


def test_an_own_decoder_learns(call: Call, make_video: Callable[..., Path]) -> None:
    make_video("a.mp4", frames=32, width=64, height=64)
    printed = call("own_decoder.py", ".", "--codec", "reducio-test", "--size", "64", "--batch", "2", "--steps", "30")
    gained = {line.rsplit(": ", 1)[0]: float(line.split()[-2]) for line in printed.splitlines() if line.endswith(" dB")}
    assert gained["own decoder, on what it was trained on"] > gained["repeat the key frame"] + 0.1
