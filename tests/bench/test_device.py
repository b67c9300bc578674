"""What a device is measured with, at toy width on a CPU: rows really run, nothing that fails ends the run, time is kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from bench import on_device
from bench.__main__ import main
from bench.device.codec_rows import Paper, codec_methods, lite_rows, parity_rows
from bench.device.rows import Budget, Call, DeviceRun, Method, Row, table, words
from bench.device.work_rows import extraction_rows, preset_rows, training_rows, work_methods
from reducio_codec.generate.config import PRESETS
from tests.generate.conftest import codec_folder
from tests.generate.test_train_dit import TINY, shards
from tests.train.conftest import to_toml

__all__ = ["codec_folder", "shards"]

ROOT = Path(__file__).resolve().parents[2]


def measured(folder: Path, *methods: Method, seconds: float = 60.0, repeats: int = 5) -> dict[str, dict[str, Any]]:
    """Rows by name."""
    run = DeviceRun(
        device="cpu", folder=folder, budget=Budget(seconds=seconds, repeats=repeats), say=lambda _: None, tiny=True
    )
    found: dict[str, dict[str, Any]] = {}
    for path in run.run(methods):
        data = json.loads(path.read_text())
        assert data["protocol"] == "device/1" and data["machine"]["cpu"]
        found.update(data["rows"])
    return found


def made_up(name: str, call: Callable[[], Any], **changes: Any) -> Row:
    def prepare() -> Call:
        return call

    return Row(**{"name": name, "unit": "clips", "count": 2, "prepare": prepare, **changes})


def test_what_fails_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    def fails(error: Exception) -> Callable[[], Any]:
        def call() -> None:
            raise error

        return call

    def no_model() -> list[Row]:
        raise RuntimeError("no weights here\nat all")

    rows = [
        made_up("memory", fails(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"))),
        made_up("compiler", fails(ValueError(""))),
        made_up("fine", lambda: None),
        made_up("facts", lambda: {"symbols": 3}, once=True, unit="", count=0),
    ]
    found = measured(tmp_path, Method(name="none", open=no_model), Method(name="a, b", open=lambda: rows))
    assert found["all"]["why"] == "no weights here"
    assert found["memory"]["why"].startswith("CUDA out of memory") and found["compiler"]["why"] == "ValueError"
    assert len(found["fine"]["seconds"]) == 5 and found["fine"]["per_second"] > 0
    assert found["facts"]["facts"] == {"symbols": 3} and words(found["facts"]) == "symbols 3"
    head, *body = table([tmp_path / "a-b.json"])
    assert head[2:4] == ["a second", "peak GB"] and body[0][4].startswith("not run: CUDA out of memory")


def test_repeats_are_dropped_before_rows(tmp_path: Path) -> None:
    rows = [made_up(str(number), lambda: time.sleep(0.1)) for number in range(4)]
    found = measured(tmp_path, Method(name="all", open=lambda: rows), seconds=1.2)
    assert all(1 <= len(row["seconds"]) < 5 for row in found.values()), "each has a share"
    found = measured(tmp_path, Method(name="all", open=lambda: rows), seconds=0.25)
    whys = [row.get("why") for row in found.values()]
    assert whys[0] is None and whys[-1] == f"the {0.25 / 60:g} minutes were over"


def test_what_hangs_is_stopped_and_what_starts_slowly_not_begun(tmp_path: Path) -> None:
    began = time.monotonic()
    rows = [made_up("slow", lambda: None, slow_start=99.0), made_up("hangs", lambda: time.sleep(60))]
    found = measured(tmp_path, Method(name="all", open=lambda: rows), seconds=0.5)
    assert time.monotonic() - began < 30
    assert found["slow"]["why"] == found["hangs"]["why"] == f"the {0.5 / 60:g} minutes were over"


def test_real_rows_run(tmp_path: Path) -> None:
    seen: dict[str, torch.Tensor] = {}
    methods = [
        Method(name="parity", open=lambda: parity_rows("cpu", tiny=True)[:1]),
        Method(name="plain", open=lambda: Paper(way="eager float32", device="cpu", tiny=True, seen=seen).rows()[:1]),
        Method(
            name="changed", open=lambda: Paper(way="optimised bfloat16", device="cpu", tiny=True, seen=seen).rows()[:2]
        ),
        Method(name="lite", open=lambda: list(lite_rows("cpu", tiny=True))[:2]),
        Method(name="generator", open=lambda: preset_rows("lite", "cpu", tiny=True)[:1]),
        Method(
            name="extraction",
            open=lambda: [
                row for row in extraction_rows("cpu", tiny=True, videos=None, folder=tmp_path) if " 0 " in row.name
            ],
        ),
        Method(name="training", open=lambda: list(training_rows("cpu", tiny=True))[:2]),
    ]
    found = measured(tmp_path / "results", *methods, repeats=1, seconds=600.0)
    assert not {name: row["why"] for name, row in found.items() if "why" in row}
    assert found["lite"]["facts"]["different symbols"] == found["lite"]["facts"]["largest pixel error"] == 0
    assert found["agreement"]["facts"]["dB to eager float32"] > 40
    assert 0 < found["paper, batches of 2, 0 loaders"]["facts"]["busy share"] <= 1
    assert {"encode 64 px", "linear 64 px", "codec, 1 clips of 64 px"} <= set(found)


def test_the_plan_has_everything() -> None:
    names = [
        method.name for method in (*codec_methods("cpu", tiny=False), *work_methods("cpu", tiny=False, videos=None))
    ]
    assert len(set(names)) == len(names)
    assert {"parity", "lite", "extraction", "training", "paper, cuda graphs", "paper, compiled"} <= set(names)
    assert {f"generator {preset}" for preset in PRESETS} <= set(names)
    rows = [row.name for row in preset_rows("1024", "cpu", tiny=False)]
    assert "16x1024x1024 end to end, 20 steps, guidance 2.5, decoder paper" in rows


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--device", "cpu", "--minutes", "1", "--rounds", "2"), "--rounds means nothing with --device alone"),
        (("--minutes", "1"), "--minutes means nothing without --device alone"),
        (("--device", "cuda:9"), "can't be used here"),
        (("--device", "cpu", "--device", "cpu"), "one device at a time"),
        (("--device", "cpu", "--presets", "2048"), "allowed: 256"),
    ],
)
def test_what_means_nothing_is_refused(options: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["speed", *options, "-o", str(tmp_path)])
    assert done.exit_code == 2 and said in done.output


LOADERS = """
from bench.stand_ins import install
if __name__ == "__main__":
    install()
    from pathlib import Path
    import sys
    from bench.device.work_rows import extraction_rows
    rows = {row.name: row for row in extraction_rows("cpu", tiny=True, videos=None, folder=Path(sys.argv[1]))}
    print(rows["loaders alone, frames on disk, 1 processes"].prepare()())
"""


@pytest.fixture
def where_much_is_missing(tmp_path: Path) -> dict[str, str]:
    """Environment of a process without PyAV, constriction, scikit-image and lpips."""
    hidden = tmp_path / "hidden"
    for name in ("av", "constriction", "skimage", "lpips"):
        (hidden / name).mkdir(parents=True)
        (hidden / name / "__init__.py").write_text(f"raise ModuleNotFoundError('no {name}', name='{name}')")
    return {**os.environ, "PYTHONPATH": f"{hidden}:{ROOT}"}


def test_loaders_start_where_much_is_missing(where_much_is_missing: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(LOADERS)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), str(tmp_path)],
        cwd=ROOT, env=where_much_is_missing, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "clips/s" in done.stdout, done.stderr


def test_one_command_where_much_is_missing(where_much_is_missing: dict[str, str], shards: Path, tmp_path: Path) -> None:
    """The device's speed is measured, both trainings run."""
    pack = tmp_path / "pack"
    pack.mkdir()
    frames = [Image.fromarray(np.full((64, 96, 3), 9 * number, np.uint8)) for number in range(20)]
    frames[0].save(pack / "a.avif", save_all=True, append_images=frames[1:])
    (tmp_path / "recipe.toml").write_text(to_toml(TINY))
    out = tmp_path / "out"
    command = [
        sys.executable, "-m", "bench.on_device", str(out), "--device", "cpu", "--tiny", "--pack", str(pack),
        "--shards", str(shards), "--recipe", str(tmp_path / "recipe.toml"), "--speed", "0.1", "--tests", "0",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, env=where_much_is_missing, capture_output=True, text=True, check=False)
    logs = {path.name: path.read_text() for path in out.glob("*.log")}
    assert done.returncode == 0, (done.stdout, done.stderr, logs)
    summary = json.loads((out / "summary.json").read_text())
    assert {name: result.get("code") for name, result in summary.items()} == {
        "speed": 0, "tests": None, "codec": 0, "generator": 0,
    }  # fmt: skip
    assert "written to" in logs["speed.log"] and "minutes were over" in logs["speed.log"]
    assert (out / "codec" / "state.pt").is_file() and (out / "generator" / "model").is_dir()
    assert len(list((out / "device-quick").glob("*.json"))) > 5
    for words_ in (on_device.stages(out, device="cpu", minutes=(0, 0, 0, 0), pack=None, start=out, shards=None,
                                    recipe="x", tiny=True)[2:]):  # fmt: skip
        assert on_device.run_stage(words_, out)["why"].endswith("wasn't given")


def test_the_devices_tests_are_there() -> None:
    for name in on_device.DEVICE_TESTS:
        path, _, function = name.partition("::")
        assert f"def {function}(" in (ROOT / path).read_text()
