"""What the report's players show: equal bytes, and videos that can't be used by name."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest
from click.testing import CliRunner

from bench.__main__ import main
from bench.report.players import nearest_x264
from tests.bench.fakes import video_folder
from tests.helpers import moving_video


@pytest.mark.parametrize("size", [900, 4000])
def test_x264_comes_near_the_bytes_that_it_is_given(size: int) -> None:
    crf, coded = nearest_x264(moving_video(16, 128, 128, seed=1), rate=Fraction(16), size=size)
    assert 10 <= crf <= 51 and abs(coded.bytes / size - 1) < 0.05


def test_x264_at_its_bounds_gives_its_smallest() -> None:
    crf, coded = nearest_x264(moving_video(16, 64, 64, seed=1), rate=Fraction(16), size=1)
    assert crf == 51 and coded.bytes > 1


def test_a_video_that_cannot_be_used_is_named_on_the_page(tmp_path: Path) -> None:
    data = video_folder(tmp_path / "data", {"a.mp4": 16, "b.mp4": 5}, height=64, width=64)
    (data / "c.mp4").write_bytes(b"no video")
    results = Path(__file__).parents[2] / "bench" / "results"
    page = tmp_path / "r.html"
    arguments = ["report", str(results), "--data", str(data), "--model", "reducio-test", "-o", str(page)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    text = page.read_text(encoding="utf-8")
    assert text.count('class="player"') == 1 and "No player of c.mp4" in text
    assert "No player of b.mp4: has 5 frames; a clip has 16" in text


def test_no_usable_video_is_an_error_and_leaves_no_page(tmp_path: Path) -> None:
    data = video_folder(tmp_path / "data", {"b.mp4": 5}, height=64, width=64)
    results = Path(__file__).parents[2] / "bench" / "results"
    done = CliRunner().invoke(main, ["report", str(results), "--data", str(data), "-o", str(tmp_path / "r.html")])
    assert done.exit_code == 2 and "has 5 frames" in done.output and not (tmp_path / "r.html").exists()


def test_the_film_of_a_player_has_every_frame_of_all_tracks(tmp_path: Path) -> None:
    from bench.report.players import make_players

    data = video_folder(tmp_path / "data", {"a.mp4": 16}, height=64, width=64)
    (player,), skipped = make_players(data, model="reducio-test", decoder="linear", count=1)
    (tmp_path / "f.webm").write_bytes(player.video)
    with av.open(str(tmp_path / "f.webm")) as film:
        frames = list(film.decode(video=0))
    assert not skipped and len(frames) == 16
    assert (frames[0].width, frames[0].height) == (len(player.tracks) * player.size, player.size)
    assert player.tracks[1].bytes == sum(player.tracks[1].parts.values()) and len(player.tracks[2].psnr) == 16
