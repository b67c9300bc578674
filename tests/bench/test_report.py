"""The page in a real browser without a network: it plays, the views follow, and nothing is asked of anyone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from bench.__main__ import main
from bench.report.page import build, from_markdown
from tests.browser import chromium, phone, wait
from tests.helpers import moving_video
from tests.train.conftest import write_video


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of two short videos and of their rate-distortion results."""
    data = tmp_path_factory.mktemp("data")
    for number in range(2):
        write_video(data / f"v{number}.mkv", moving_video(32, 256, 256, seed=number))
    folder = tmp_path_factory.mktemp("results")
    done = CliRunner().invoke(
        main,
        ["run", "rd", "--data", str(data), "-o", str(folder), "--model", "reducio-test", "--qualities", "20,60",
         "--steps", "1", "--methods", "reducio-test-attention,x264-gop16", "--perceptual", ""],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return data, folder


@pytest.fixture(scope="module")
def page(results: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    data, folder = results
    path = tmp_path_factory.mktemp("page") / "report.html"
    done = CliRunner().invoke(
        main,
        ["report", str(folder), "-o", str(path), "--data", str(data), "--players", "2", "--model", "reducio-test"],
    )
    assert done.exit_code == 0, done.output
    return path


def test_players_come_before_tables(results: tuple[Path, Path], page: Path) -> None:
    def order(text: str) -> list[str]:
        found = re.findall(r'<section id="([a-z-]+)"', text)
        assert re.findall(r'<a href="#([a-z-]+)"', text) == found
        return found

    assert order(page.read_text(encoding="utf-8"))[:2] == ["players", "tables"]
    without = build(results[1], players=[], no_players="nobody asked")
    assert order(without)[0] == "tables" and order(without)[-1] == "players" and "nobody asked" in without


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        opened.execute_cdp_cmd("Network.enable", {})
        opened.execute_cdp_cmd(
            "Network.emulateNetworkConditions",
            {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1},
        )
        yield opened


PIXELS = """
const canvas = window.players[0][arguments[0]] || window.players[0].views[arguments[0]];
return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data];
"""


def pixels(browser: Any, which: str | int) -> np.ndarray[Any, Any]:
    """(256, 256, 3) of a canvas of the first player."""
    found: np.ndarray[Any, Any] = np.array(browser.execute_script(PIXELS, which), np.int16).reshape(256, 256, 4)[
        ..., :3
    ]
    return found


def test_the_page_in_a_browser(browser: Any, page: Path) -> None:
    browser.get(page.as_uri())
    js = browser.execute_script
    wait(lambda: js("return window.players.length === 2 && window.players.every((p) => p.shown >= 0)"))

    # seeking: all views show that frame
    js("const p = window.players[0].place; p.value = 20; p.dispatchEvent(new Event('input'))")
    wait(lambda: js("return window.players[0].shown") == 20)
    assert js("return window.players[0].counter.textContent") == "frame 21 of 32"
    source = moving_video(32, 256, 256, seed=0)
    shown = [pixels(browser, track) for track in range(3)]
    for view in shown:  # each is that frame of the source rather than another
        errors = [np.abs(view - frame).mean() for frame in source]
        assert abs(int(np.argmin(errors)) - 20) <= 1
    assert np.abs(shown[0] - source[20]).mean() < 8

    # the wipe: left of it the source, right of it the codec
    js("const s = window.players[0].slider; s.value = 25; s.dispatchEvent(new Event('input'))")
    wiped = pixels(browser, "wipe")
    assert np.array_equal(wiped[:, :62], shown[0][:, :62]) and np.array_equal(wiped[:, 67:], shown[1][:, 67:])

    # the difference: four times what lies between them
    difference = pixels(browser, "difference")
    expected = (4 * np.abs(shown[1] - shown[0])).clip(0, 255)
    assert difference.mean() > 1 and np.abs(difference - expected).mean() < 4

    # playing: time goes on, and the views with it
    js("window.players[0].button.click()")
    wait(lambda: js("return window.players[0].shown") not in (19, 20, 21))
    state = "const p = window.players[0]; return [p.shown, Math.floor(p.video.currentTime * p.rate)]"
    drawn, playing = js(state)
    assert min((drawn - playing) % 32, (playing - drawn) % 32) <= 2
    js("window.players[0].button.click()")
    wait(lambda: js("return window.players[0].video.paused"))

    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []
    asked = [
        line["message"] for line in browser.get_log("performance") if "Network.requestWillBeSent" in line["message"]
    ]
    assert not [line for line in asked if '"url":"http' in line]
    assert "http" not in page.read_text().replace("http://www.w3.org", "")


def test_the_wipe_moves_by_keyboard(browser: Any, page: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.get(page.as_uri())
    wait(lambda: browser.execute_script("return window.players.every((p) => p.shown >= 0)"))
    before = pixels(browser, "wipe")
    slider = browser.find_element("css selector", "[data-do=wipe]")
    slider.send_keys(Keys.ARROW_RIGHT * 5)
    assert slider.get_attribute("value") == "55"
    wait(lambda: not np.array_equal(pixels(browser, "wipe"), before))
    browser.find_element("css selector", "[data-do=play]").send_keys(Keys.SPACE)
    wait(lambda: browser.execute_script("return window.players[0].shown") > 0)


def test_a_phone_needs_no_sideways_scrolling(browser: Any, page: Path) -> None:
    with phone(browser):
        browser.get(page.as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390


def test_without_videos_the_page_says_so(results: tuple[Path, Path], tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["report", str(results[1]), "-o", str(tmp_path / "r.html")])
    assert done.exit_code == 0, done.output
    text = (tmp_path / "r.html").read_text()
    assert "not made: --data wasn&#x27;t given" in text and "reducio-test-attention" in text


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["report", str(tmp_path), "-o", str(tmp_path / "r.html")])
    assert done.exit_code == 2 and "neither reconstruction nor rd results" in done.output
    assert not (tmp_path / "r.html").exists()


def test_markdown_becomes_a_table() -> None:
    text = from_markdown("### Title\n\nA < B\n\n| a | b\\|c |\n|---|---|\n| 1 | not run: needs FILE |")
    assert "<h3>Title</h3>" in text and "A &lt; B" in text and '<th scope="col">b|c</th>' in text
    assert '<td class="words">not run: needs FILE</td>' in text
    text = from_markdown("| a | b | c | d |\n|---|---|---|---|\n| x |  | not run: needs FILE | 1 |\n| y |  | 2 |  |")
    assert '<tr><td>x</td><td class="words" colspan="2">not run: needs FILE</td><td>1</td></tr>' in text
    assert "<tr><td>y</td><td></td><td>2</td><td></td></tr>" in text
