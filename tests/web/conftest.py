"""One browser for all tests of the player, and its modules as a page serves them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reducio_codec.codec import ReducioCodec
from reducio_codec.web.runtime import RUNTIME_FILES, VERSION, cache_folder
from reducio_codec.web.server import serving
from reducio_codec.web.site import PAGE, Site, build_site
from tests.browser import chromium, needed
from tests.helpers import moving_video
from tests.rdc.test_golden_real import REAL

Run = Callable[..., Any]

MODEL = "reducio-test"

_RUN = """
const [body, names, values, done] = arguments;
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const text = (array) => {
  const parts = [], data = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  for (let at = 0; at < data.length; at += 8192) parts.push(String.fromCharCode(...data.subarray(at, at + 8192)));
  return btoa(parts.join(""));
};
const program = new Function("bytes", "text", ...names, `return (async () => {${body}})()`);
program(bytes, text, ...values).then((found) => done({ found }), (error) => done({ failed: `${error}\\n${error.stack}` }));
"""


def as_text(data: bytes) -> str:
    """What ``bytes(...)`` of a program in the browser turns back."""
    return base64.b64encode(data).decode()


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="package")
def run(browser: Any) -> Iterator[Run]:
    """Runs a program beside the page's modules: ``run(body, name=value, ...)`` gives what it returns.

    In it ``bytes(text)`` and ``text(array)`` turn base64 into bytes and back.
    """
    site = Site(files={path.name: path for path in PAGE.iterdir()}, start="", damage=())
    with serving(site) as address:

        def call(body: str, **values: Any) -> Any:
            if not browser.current_url.startswith(address):
                browser.get(f"{address}bytes.js")
            answer = browser.execute_async_script(_RUN, body, list(values), list(values.values()))
            assert "failed" not in answer, answer["failed"]
            return answer["found"]

        yield call


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of the tests' own, with onnxruntime-web from that of whoever runs them."""
    folder = cache_folder() / f"onnxruntime-web-{VERSION}"
    needed(all((folder / name).is_file() for name in RUNTIME_FILES), f"onnxruntime-web {VERSION} in {folder}")
    own = tmp_path_factory.mktemp("cache")
    (own / "reducio-codec").mkdir()
    (own / "reducio-codec" / folder.name).symlink_to(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(own))
        yield own


@pytest.fixture(scope="session")
def codec() -> ReducioCodec:
    return ReducioCodec.from_pretrained(MODEL, decoders="linear")


@pytest.fixture(scope="session")
def files(codec: ReducioCodec, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Stored videos, and others of small and large pictures; the last is decoded in two tiles."""
    folder = tmp_path_factory.mktemp("files")
    found = {name: REAL / f"{name}.rdc" for name in ("group", "odd", "sound")}
    for name, frames, height, width in (("small", 5, 16, 16), ("long", 37, 48, 64), ("large", 16, 96, 512)):
        found[name] = folder / f"{name} 1.rdc"
        codec.compress(moving_video(frames, height, width), found[name], rate=25, keyframes=1)
    return found


@pytest.fixture(scope="session")
def page(cache: Path) -> Iterator[str]:
    """The address of the player, without a file."""
    with serving(build_site(MODEL, graphs=None, video=None)) as address:
        yield address
