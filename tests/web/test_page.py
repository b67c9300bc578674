"""The page in a browser: it shows the pixels that the package decodes, and of what is damaged one line."""

from __future__ import annotations

import base64
import io
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reducio_codec.codec import ReducioCodec
from reducio_codec.rdc.layers.latent import Latents
from reducio_codec.rdc.reader import RdcReader
from reducio_codec.rdc.records import pack_record
from reducio_codec.rdc.varint import write_varint
from tests.browser import phone, wait
from tests.web.conftest import as_text

OPEN = """
const data = Uint8Array.from(atob(arguments[1]), (letter) => letter.charCodeAt(0));
window.player.open(arguments[0], async () => data.buffer);
"""
CLIP = """
const clip = window.player.clips.get(arguments[0]);
if (!clip) return null;
const text = (array) => {
  const parts = [];
  for (let at = 0; at < array.length; at += 8192) parts.push(String.fromCharCode(...array.subarray(at, at + 8192)));
  return btoa(parts.join(""));
};
return { problem: clip.problem, decoded: clip.decoded.map(text), keyframe: clip.keyframe.map(text), flow: clip.flow.map(text) };
"""
CANVAS = """
const canvas = document.getElementById("picture");
return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data];
"""


@pytest.fixture
def js(browser: Any, page: str) -> Any:
    for kind in ("browser", "performance"):
        browser.get_log(kind)  # what other tests left there
    browser.get(page)
    return browser.execute_script


def open_file(js: Any, name: str, data: bytes) -> None:
    """As if it had been dropped on the page; returns when it is shown, or refused."""
    js(OPEN, name, as_text(data))
    wait(lambda: js("return window.player.file !== null") or js("return document.getElementById('line').textContent"))


def line(js: Any) -> str:
    text = js("const line = document.getElementById('line'); return line.hidden ? '' : line.textContent")
    assert "\n" not in text
    return str(text)


def decoded(js: Any, index: int, *, size: tuple[int, int]) -> tuple[Any, np.ndarray, np.ndarray]:
    """A clip's problem, its frames and their key frames (n, H, W, 3)."""
    clip = wait(lambda: js(CLIP, index), seconds=60)
    frames, keyframes = (
        np.stack([np.frombuffer(base64.b64decode(item), np.uint8).reshape(*size, 4)[..., :3] for item in clip[kind]])
        for kind in ("decoded", "keyframe")
    )
    return clip["problem"], frames, keyframes


@pytest.mark.parametrize("name", ["small", "odd", "group", "sound", "large"])
def test_it_shows_the_packages_pixels(js: Any, files: dict[str, Path], codec: ReducioCodec, name: str) -> None:
    open_file(js, name, files[name].read_bytes())
    assert line(js) == ""
    with codec.open_file(files[name]) as video:
        size = video.header.height, video.header.width
        for index in range(video.clips):
            js("window.player.show(window.player.file.clips[arguments[0]].start)", index)
            problem, frames, keyframes = decoded(js, index, size=size)
            expected, record = video.decode_clip(index, decoder="linear"), video.record(index)
            error = frames.astype(np.int16) - expected
            assert problem is None and error.shape == expected.shape
            assert np.abs(error).max() <= 1 and np.sqrt(np.square(error, dtype=float).mean()) < 0.1
            for reference in video.clip(record).references:
                assert np.array_equal(keyframes[reference.frame - record.start], reference.picture)
            assert not np.array_equal(expected, keyframes)  # the decoder had something to do
            canvas = np.array(js(CANVAS), np.uint8).reshape(*size, 4)[..., :3]
            assert np.array_equal(canvas, frames[0])


def test_damage_is_one_line_and_costs_one_clip(js: Any, files: dict[str, Path], codec: ReducioCodec) -> None:
    data = files["long"].read_bytes()
    place, length = RdcReader(io.BytesIO(data)).layer(Latents).found[1].place
    flipped = bytearray(data)
    flipped[place + length // 2] ^= 16
    open_file(js, "flipped.rdc", bytes(flipped))
    with codec.open_file(files["long"]) as video:
        size = video.header.height, video.header.width
        good, keyframe = video.decode_clip(0, decoder="linear"), video.keyframe(video.record(1))
    assert np.abs(decoded(js, 0, size=size)[1].astype(int) - good).max() <= 1
    problem, frames, _ = decoded(js, 1, size=size)
    assert problem == "clip 2: its latent record is damaged or missing"
    assert all(np.array_equal(frame, keyframe) for frame in frames)
    assert line(js).startswith("The file is damaged: clip 2: its latent") and "nearest key frame is shown" in line(js)

    open_file(js, "cut.rdc", data[:place])
    problem, frames, _ = decoded(js, 1, size=size)
    assert problem and all(np.array_equal(frame, keyframe) for frame in frames)
    assert "The file is damaged" in line(js)


def test_what_cant_be_played_is_one_line(js: Any, files: dict[str, Path]) -> None:
    data = files["small"].read_bytes()
    other = (Path(__file__).parents[1] / "rdc" / "golden" / "default.rdc").read_bytes()
    body = RdcReader(io.BytesIO(data))._body
    flipped = bytes([*data[: body - 1], data[body - 1] ^ 1, *data[body:]])
    header = replace(RdcReader(io.BytesIO(data)).header, width=16384, height=16384).pack()
    huge = bytearray(data[:9])
    write_varint(huge, len(header))
    huge += zlib.crc32(header).to_bytes(4, "little") + header + data[body:]
    index = bytearray()
    for number in (200_000, 3_000_000):
        write_varint(index, number)
    endless = data[:body] + pack_record(5, bytes(index)) + bytes(2_000_000)
    for name, bad, words in (
        ("empty.rdc", b"", "empty.rdc: the file is empty"),
        ("video.mp4", b"\0\0\0\x20ftypisom", "video.mp4: not an .rdc file"),
        ("cut.rdc", data[: body - 2], "inside its header"),
        ("flipped.rdc", flipped, "checksum"),
        ("huge.rdc", bytes(huge), "16384x16384"),
        ("endless.rdc", endless, "3000000 frames"),
        ("other.rdc", other, "needs model reducio-lite version 1 (latent space 00ff00ff00ff00ff)"),
    ):
        open_file(js, name, bad)
        assert words in wait(lambda: line(js))
        assert js("return document.getElementById('player').hidden")
    open_file(js, "small.rdc", data)  # and then one that can
    assert decoded(js, 0, size=(16, 16))[0] is None and line(js) == ""


def test_the_controls(browser: Any, js: Any, page: str, files: dict[str, Path]) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    def click(name: str) -> None:
        browser.find_element(By.CSS_SELECTOR, name).click()

    def frame() -> int:
        return int(js("return window.player.frame"))

    open_file(js, "long.rdc", files["long"].read_bytes())
    wait(lambda: js("return window.player.clips.size") == 3, seconds=60)
    text = browser.find_element(By.ID, "player").text
    assert "37 frames in 3 clips" in text and "64x48" in text and "25 frames/s" in text
    assert "Clip 1 of 3, frames 1 to 16" in text and "kbit/s" in text

    click("#on")
    click("#on")
    click("#back")
    assert frame() == 1 and "frame 2 of 37" in browser.find_element(By.ID, "at").text
    js("const place = document.getElementById('place'); place.value = 20; place.dispatchEvent(new Event('input'))")
    assert frame() == 20 and "Clip 2 of 3" in browser.find_element(By.ID, "clip").text
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.ARROW_RIGHT)
    assert frame() == 21
    click("#timeline")  # its middle
    assert abs(frame() - 18) <= 1

    shown = {}
    for view in ("decoded", "keyframe", "flow"):
        click(f"[value={view}]")
        shown[view] = np.array(js(CANVAS))
    assert not np.array_equal(shown["decoded"], shown["keyframe"])
    assert shown["flow"].reshape(-1, 4)[:, :3].std() > 1
    click("[value=decoded]")

    click("#loop")
    js("window.player.show(30)")
    click("#play")
    wait(lambda: frame() == 36 and not js("return window.player.playing"))  # the end, without the loop
    click("#loop")
    click("#play")
    wait(lambda: 0 < frame() < 30)  # from the beginning
    wait(lambda: frame() > 30)
    wait(lambda: frame() < 30)  # around
    click("#play")
    assert not js("return window.player.playing")

    with phone(browser):
        assert js("return document.documentElement.scrollWidth") <= 390
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    asked = [
        entry["message"] for entry in browser.get_log("performance") if "Network.requestWillBeSent" in entry["message"]
    ]
    assert asked and not [one for one in asked if '"url":"http' in one and '"url":"http://127.0.0.1:' not in one]
