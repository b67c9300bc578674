"""One browser for all tests of the player, and its modules as a page serves them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from reducio_codec.codec import ReducioCodec
from reducio_codec.config import LiteConfig
from reducio_codec.models.factory import build_model
from reducio_codec.web.runtime import RUNTIME_FILES, VERSION, cache_folder
from reducio_codec.web.server import serving
from reducio_codec.web.site import PAGE, Site, build_site
from reducio_codec.weights.io import save_model
from tests.browser import chromium, needed
from tests.helpers import moving_video
from tests.integrations.test_onnx import rounded
from tests.models.test_aligned import shaken

Run = Callable[..., Any]

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


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="session")
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
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a toy model, whose weights graphs store as they are."""
    torch.manual_seed(0)
    config = LiteConfig(channels_4=8, channels_8=8, channels_16=4, channels_32=8, decoders=("linear", "none"))
    toy = rounded(shaken(build_model(config)))
    return save_model(toy, tmp_path_factory.mktemp("models") / "toy", card="")


@pytest.fixture(scope="session")
def codec(model: Path) -> ReducioCodec:
    return ReducioCodec.from_pretrained(model, decoders="linear")


@pytest.fixture(scope="session")
def files(codec: ReducioCodec, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Videos of small, odd and large pictures; the last is decoded in four tiles."""
    folder, found = tmp_path_factory.mktemp("files"), {}
    for name, frames, height, width in (("small", 5, 16, 16), ("odd", 37, 51, 75), ("large", 16, 400, 448)):
        found[name] = folder / f"{name} 1.rdc"
        codec.compress(moving_video(frames, height, width), found[name], rate=25)
    return found


@pytest.fixture(scope="session")
def page(cache: Path, model: Path) -> Iterator[str]:
    """The address of a page of the toy model, without a file."""
    with serving(build_site(model, graphs=None, video=None)) as address:
        yield address
