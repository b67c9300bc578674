"""``reducio-codec view``: what it serves and to whom, how it ends, what it refuses."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from click.testing import CliRunner, Result

from reducio_codec.cli import main
from reducio_codec.web.runtime import ARCHIVE, RUNTIME_FILES
from reducio_codec.weights.zoo import load_pretrained
from tests.web.conftest import MODEL

GOLDEN = Path(__file__).parents[1] / "rdc" / "golden" / "default.rdc"


def view(*arguments: Any) -> Result:
    return CliRunner().invoke(main, ["view", *map(str, arguments), "--no-browser"])


def refused(done: Result, *words: str, code: int) -> None:
    assert done.exit_code == code, done.output
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and all(word in line for word in words), line
    assert not done.stdout


@pytest.fixture(scope="module")
def graphs(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an export of a model looks like from outside: the command only hands it on."""
    folder = tmp_path_factory.mktemp("graphs")
    (folder / "linear.onnx").write_bytes(b"a graph")
    (folder / "model.json").write_text(json.dumps({"model": MODEL, "hash": load_pretrained(MODEL)[1].hash}))
    return folder


def test_it_serves_this_machine_until_ctrl_c(graphs: Path, files: dict[str, Path]) -> None:
    arguments = [str(files["small"]), "--graphs", str(graphs), "--no-browser"]
    command = [sys.executable, "-m", "reducio_codec", "view", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None and running.stderr is not None
        try:
            address, _, query = running.stdout.readline().strip().partition("?")
            assert address.startswith("http://127.0.0.1:") and query == "file=video.rdc&name=small%201.rdc"
            with urlopen(f"{address}?{query}") as answer:
                assert b"<title>reducio player</title>" in answer.read()
                assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
            with urlopen(f"{address}video.rdc") as answer:
                assert answer.read() == files["small"].read_bytes()
            with urlopen(f"{address}player.js") as answer:
                assert answer.headers["Content-Type"].startswith("text/javascript")
            for path, host, code in (("../setup.cfg", None, 404), ("", "evil.example", 403)):
                with pytest.raises(HTTPError) as caught:
                    urlopen(Request(f"{address}{path}", headers={"Host": host} if host else {}))
                assert caught.value.code == code
            running.send_signal(signal.SIGINT)
            assert running.wait(timeout=20) == 0
            assert (running.stdout.read(), running.stderr.read()) == ("", "")
        finally:
            running.kill()


def test_it_saves_a_page_for_any_server(graphs: Path, files: dict[str, Path], tmp_path: Path) -> None:
    done = view(files["small"], "--graphs", graphs, "--save", tmp_path / "site")
    assert done.exit_code == 0, done.output
    found = {str(path.relative_to(tmp_path / "site")) for path in (tmp_path / "site").rglob("*") if path.is_file()}
    assert {"index.html", "worker.js", "video.rdc", "model/player.json", "model/linear.onnx"} <= found
    assert {f"runtime/{name}" for name in RUNTIME_FILES} <= found


def test_files_that_it_cant_play(graphs: Path, files: dict[str, Path], tmp_path: Path) -> None:
    data, path = files["small"].read_bytes(), tmp_path / "bad.rdc"
    for bad, word in ((b"no video", "not an .rdc file"), (data[:20], "header"), (data[:100] + b"\0", "holds no clip")):
        path.write_bytes(bad)
        refused(view(path, "-m", MODEL, "--graphs", graphs), "bad.rdc", word, code=1)
    refused(view(GOLDEN, "-m", MODEL, "--graphs", graphs), "default.rdc needs model 'reducio-lite' version 1", code=1)
    refused(view(tmp_path / "none.rdc", "-m", MODEL), "doesn't exist", code=2)


def test_damage_behind_the_header_is_a_warning(graphs: Path, files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "cut.rdc").write_bytes(files["long"].read_bytes()[:-8])
    done = view(tmp_path / "cut.rdc", "-m", MODEL, "--graphs", graphs, "--save", tmp_path / "site")
    assert done.exit_code == 0 and "warning: the end of the file is missing" in done.stderr


def test_models_and_graphs_that_it_cant_play(cache: Path, tmp_path: Path) -> None:
    refused(view("-m", "nothing"), "no model 'nothing'", code=1)
    refused(view("-m", MODEL, "--graphs", tmp_path), "model.json", code=1)
    (tmp_path / "model.json").write_text('{"model": "other", "hash": "00"}')
    refused(view("-m", MODEL, "--graphs", tmp_path), "graphs of 'other'", code=2)


def test_without_onnxruntime_web_it_says_what_to_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    refused(view("-m", MODEL), "npm pack onnxruntime-web@", f"--runtime {ARCHIVE}", str(tmp_path), code=1)
    wrong = tmp_path / ARCHIVE
    wrong.write_bytes(b"another package")
    refused(view("-m", MODEL, "--runtime", wrong), "sha256", ARCHIVE, code=2)
    assert not (tmp_path / "reducio-codec").exists()
