"""Sweeps at toy size: every subject really runs, what is cut off goes on, what can't be afforded is named. Nothing is timed."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import bench.speed.sweeps as sweeps
from bench.__main__ import main
from bench.json_files import read_json
from bench.speed.coders import SUBJECTS, Repeated, Subject
from bench.speed.peaks import peak_bytes
from bench.speed.points import AXES, QUICK, VALUES, Point
from bench.speed.sweep_table import axis_table, words
from bench.speed.sweeps import PROTOCOL, Sweep, SweepConfig, cells
from bench.summaries import summary
from reducio_codec.errors import InputError
from tests.bench.fakes import quiet

BASE = Point(width=64, height=64, threads=1)
BY_NAME = {subject.name: subject for subject in SUBJECTS}


def config(**changes: Any) -> SweepConfig:
    values = {"resolution": ("64x64", "128x96")}
    return SweepConfig(**{"values": values, "base": BASE, "rounds": 1, "memory": False, "tiny": True, **changes})


@pytest.mark.parametrize("name", BY_NAME)
def test_every_subject_runs_both_ways_at_a_size_that_is_no_multiple(name: str) -> None:
    if "vae" in name:
        pytest.importorskip("diffusers", reason="image VAEs need diffusers (extra [bench])")
    subject, point = BY_NAME[name], replace(BASE, width=72, height=56, seconds=2)
    if "batch" in subject.axes:
        point = replace(point, batch=2)
    coder = subject.open(dtype=point.torch_dtype, tiny=True)
    for operation in subject.operations:
        coder.prepare(operation, point)()
    assert subject.frames(point) == (2 if subject.pictures else point.batch * 32)


def test_a_decoder_gets_every_frame() -> None:
    point = replace(BASE, seconds=3)
    assert BY_NAME["x264"].open(dtype=point.torch_dtype, tiny=True).prepare("decode", point)() == 48


def test_a_repeated_clip_has_no_cut() -> None:
    clip = np.arange(4)[:, None, None, None]
    frames = Repeated(clip, count=9)
    assert [int(frame.item()) for frame in frames] == [0, 1, 2, 3, 2, 1, 0, 1, 2] and frames.shape == (9, 1, 1, 1)


def test_without_diffusers_image_vaes_do_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    sweep = Sweep.start(config(subjects=("sd-vae, sdxl-vae",)), path=tmp_path / "s.json", console=quiet())
    sweep.run()
    found = read_json(tmp_path / "s.json")
    assert found is not None
    table = axis_table(found, "resolution")
    assert table[1][1] == "not run: needs diffusers: pip install 'reducio-codec[bench]'"


def test_a_cut_off_sweep_goes_on(tmp_path: Path) -> None:
    path, plan = tmp_path / "s.json", config(subjects=("lite, linear", "x264"))
    Sweep.start(plan, path=path, console=quiet()).run()
    whole = json.loads(path.read_text())
    assert whole["protocol"] == PROTOCOL and len(whole["rows"]) == 2 * 2 * 2
    assert {"cpu", "versions", "ffmpeg", "load_average"} <= set(whole["machine"]) and whole["loads"]
    assert whole["weights"] == {"lite, linear": "random", "x264": "libx264 preset=veryslow tune=psnr"}
    assert "cores, 1 threads, load" in words(whole) and "libavcodec" in words(whole)
    text, tables = summary(path)
    assert text == words(whole) and tables[0][0][0] == "resolution" and len(tables[0]) == 5
    data = json.loads(path.read_text())
    lost = "resolution=128x96/x264/encode"
    del data["rows"][lost]
    path.write_text(json.dumps(data))
    Sweep.start(plan, path=path, console=quiet()).run()
    again = json.loads(path.read_text())["rows"]
    assert set(again) == set(whole["rows"]) and len(again[lost]["seconds"]) == 1
    assert all(again[key]["seconds"] == row["seconds"] for key, row in whole["rows"].items() if key != lost)
    other = Sweep.start(replace(plan, rounds=2), path=path, console=quiet())
    assert other.rows == {}, "another protocol starts anew"


class Slow:
    weights = "none"

    def prepare(self, operation: str, point: Point) -> Any:
        return lambda: None


def test_what_takes_too_long_is_named_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By this test's clock every call takes ten seconds: the rule is tested, not the machine."""
    now = [0.0]
    monkeypatch.setattr(sweeps.time, "perf_counter", lambda: now.__setitem__(0, now[0] + 10.0) or now[0])
    subject = Subject(name="slow", open=lambda **_: Slow(), operations=("encode",), axes=AXES)
    monkeypatch.setattr(sweeps, "SUBJECTS", (subject,))
    plan = config(
        values={"resolution": ("64x64", "128x128", "256x256")}, subjects=("slow",), most_seconds=50.0, rounds=9
    )
    sweep = Sweep.start(plan, path=tmp_path / "s.json", console=quiet())
    sweep.run()
    for row in sweep.rows.values():  # four times the work of the one before: 40 s may be
        assert row["seconds"] == [10.0] * 5, "no more rounds once it has taken so long"
    plan = replace(plan, values={"resolution": ("64x64", "256x256")})
    sweep = Sweep.start(plan, path=tmp_path / "t.json", console=quiet())
    sweep.run()
    assert list(sweep.rows.values())[1]["why"] == "about 160 s, more than 50"


def test_subjects_are_in_turns_and_only_where_an_axis_matters() -> None:
    plan = config(values={"length": ("1", "2"), "dtype": ("float32",)})
    names = [[(cell.subject.name, cell.operation) for cell in group] for group in cells(plan)]
    assert len(names) == 3 and ("x264", "encode") in names[0] and ("x264", "encode") not in names[2]
    assert ("sd-vae, sdxl-vae", "encode") not in names[0] and ("paper", "decode") in names[2]
    assert ("lite, add", "encode") not in names[0], "all decoders of lite share one encoder"


def test_memory_is_measured_in_a_child() -> None:
    point = replace(BASE, width=256, height=256)
    assert peak_bytes("lite, linear", "decode", point, tiny=True) > 3 * 16 * 256 * 256
    with pytest.raises(RuntimeError):
        peak_bytes("nothing", "decode", point, tiny=True)


def test_table_has_rate_and_memory() -> None:
    row = {
        "axis": "length",
        "value": "1",
        "subject": "x264",
        "operation": "encode",
        "frames": 16,
        "seconds": [2.0, 4.0, 3.0],
    }
    more = {**row, "value": "10", "seconds": [], "why": "about 200 s, more than 120"}
    data = {"config": {"values": {"length": ["1", "10"]}}, "rows": {"a": {**row, "peak_bytes": 5_000_000}, "b": more}}
    assert axis_table(data, "length") == [
        ["length", "1", "10"],
        ["x264, encode", "5.33 (5 MB)", "not run: about 200 s, more than 120"],
    ]
    fast = {**row, "seconds": [16 / 999.7]}
    assert axis_table({**data, "rows": {"a": fast}}, "length")[1][1] == "1000"


@pytest.mark.parametrize(
    ("axis", "value"),
    [("resolution", "big"), ("resolution", "0x4"), ("length", "1.5"), ("dtype", "float8"), ("batch", "0")],
)
def test_values_that_cannot_be(axis: str, value: str) -> None:
    with pytest.raises(InputError, match=f"{axis} is '{value}'; allowed are values like"):
        Point().at(axis, value)


def test_defaults_cover_the_axes() -> None:
    assert set(VALUES) == set(QUICK) == set(AXES)
    assert VALUES["resolution"][0] == "256x256" and VALUES["resolution"][-1] == "1920x1080"
    assert (VALUES["length"][0], VALUES["length"][-1]) == ("1", "300")
    for values in (VALUES, QUICK):
        for axis in AXES:
            pixels = [Point().at(axis, value).pixels for value in values[axis]]
            assert pixels == sorted(pixels), "the cheapest first"


def test_command(tmp_path: Path) -> None:
    command = ["run", "speed", "--quick", "--no-compare", "--no-memory", "-o", str(tmp_path)]
    done = CliRunner().invoke(main, [*command, "--sweep", "length", "--subjects", "x264"])
    assert done.exit_code == 0, done.output
    assert "x264, encode" in done.output and (tmp_path / "speed-sweeps-quick.json").is_file()
    for wrong, told in (
        (["--sweep", "colour"], "resolution, length"),
        (["--sweep", "length", "--length", "x"], "length is 'x'"),
        (["--subjects", "mpeg1"], "lite, linear; lite, add"),
    ):
        done = CliRunner().invoke(main, [*command, *wrong])
        assert done.exit_code == 2 and told in done.output, done.output


def test_memory_can_be_measured_later(tmp_path: Path) -> None:
    """It doesn't depend on load, times do: what is timed stays."""
    path, plan = tmp_path / "s.json", config(values={"resolution": ("64x64",)}, subjects=("x264",))
    Sweep.start(plan, path=path, console=quiet()).run()
    timed = json.loads(path.read_text())
    late = {**timed["rows"]["resolution=64x64/x264/decode"], "seconds": [], "why": "about 11 s, more than 10"}
    timed["rows"]["resolution=64x64/x264/decode"] = late
    path.write_text(json.dumps(timed))
    Sweep.start(replace(plan, memory=True), path=path, console=quiet()).run()
    weighed = json.loads(path.read_text())
    assert weighed["config"]["memory"] and weighed["loads"] == timed["loads"]
    for key, row in weighed["rows"].items():
        assert row["seconds"] == timed["rows"][key]["seconds"]
        assert row == late if "why" in row else row["peak_bytes"] > 0
