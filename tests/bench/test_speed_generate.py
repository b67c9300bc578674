"""The cost of making clips at toy width: every part really runs, what is cut off goes on, tables add up. Nothing is timed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import bench.speed.generation_parts as generation_parts
from bench.__main__ import main
from bench.json_files import read_json
from bench.readme import renew
from bench.speed.generation import PROTOCOL, GenerationConfig, GenerationRun, Wanted
from bench.speed.generation_parts import ENCODERS, IMAGE_ENCODER, PICTURE, TEXT_ENCODER, Opened, parts_of
from bench.speed.generation_peaks import peak_bytes
from bench.summaries import summary
from reducio_codec.generate.config import PRESETS
from tests.bench.fakes import quiet

pytest.importorskip("diffusers", reason="sampling needs diffusers (extra [generate])")

SAMPLINGS = ((3, 2.5), (2, 1.0))
TINY = GenerationConfig(samplings=SAMPLINGS, rounds=1, tiny=True)
WANTED = Wanted(device="cpu", presets=("lite", "256", "1024"), encoders=True)


def measure(path: Path, wanted: Wanted = WANTED, config: GenerationConfig = TINY) -> dict[str, Any]:
    GenerationRun.start(config, path=path, console=quiet(), memory=False).run(wanted)
    data = read_json(path)
    assert data is not None
    return data


@pytest.fixture(scope="module")
def result_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "results" / "speed-generate.json"
    measure(path)
    return path


def test_every_part_of_every_preset_runs(result_file: Path) -> None:
    data = json.loads(result_file.read_text())
    assert data["protocol"] == PROTOCOL
    names = {(row["subject"], row["part"]["name"]) for row in data["rows"].values()}
    expected = {
        (subject, part.name)
        for subject in (*WANTED.presets, *ENCODERS)
        for part in parts_of(subject, samplings=SAMPLINGS, tiny=True)
    }
    assert names == expected
    assert ("lite", "whole, 3 steps, guidance 2.5") in names and ("256", "decoder paper") in names
    for key, row in data["rows"].items():
        assert len(row["seconds"]) == 1 and row["weights_bytes"] > 0, key
    assert data["weights"]["cpu/256"] == dict.fromkeys(
        ("picture", "transformer", "decoder lite", "decoder paper"), "random"
    )
    machine = data["machines"]["cpu"]
    assert machine["accelerator"] is None and machine["versions"]["torch"] == torch.__version__.split("+")[0]
    assert len(data["loads"]["cpu"]) == 5


def test_a_cut_off_run_goes_on_and_another_preset_is_added(result_file: Path, tmp_path: Path) -> None:
    data = json.loads(result_file.read_text())
    path = tmp_path / "speed-generate.json"
    missing = "cpu/256/decoder lite/batch 1"
    del data["rows"][missing]
    path.write_text(json.dumps(data))
    again = measure(path, replace(WANTED, presets=("lite", "256", "512"), encoders=False))
    assert again["rows"][missing]["seconds"]
    kept = {key: row["seconds"] for key, row in again["rows"].items() if key in data["rows"]}
    assert kept == {key: row["seconds"] for key, row in data["rows"].items()}
    assert again["rows"]["cpu/512/conditions/batch 1"]["seconds"]
    assert again["rows"]["cpu/text encoder/text encoder/batch 1"]["seconds"], "measured before, not asked for now"


def test_rows_of_another_machine_are_not_gone_on_with(result_file: Path, tmp_path: Path) -> None:
    data = json.loads(result_file.read_text())
    data["machines"]["cpu"]["cpu"] = "another processor"
    path = tmp_path / "speed-generate.json"
    path.write_text(json.dumps(data))
    again = measure(path, Wanted(device="cpu", presets=("lite",), encoders=False))
    assert {row["subject"] for row in again["rows"].values()} == {"lite"}
    assert again["machines"]["cpu"]["cpu"] != "another processor"
    path.write_text(json.dumps({**data, "protocol": "speed-generate/0"}))
    assert read_json(path, protocol=PROTOCOL) is None


def test_what_takes_too_long_was_not_asked_for_or_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(TINY, most_seconds=1e-9)
    wanted = Wanted(device="cpu", presets=("256",), encoders=False)
    rows = measure(tmp_path / "a.json", wanted, config)["rows"]
    assert "more than 1e-09" in rows["cpu/256/decoder paper/batch 1"]["why"]
    assert "more than 1e-09" in rows["cpu/256/transformer, 3 steps, guidance 2.5/batch 1"]["why"]
    assert rows["cpu/image encoder/image encoder/batch 1"]["why"] == "--encoders wasn't given"
    monkeypatch.setattr(generation_parts, "available_memory", lambda device: 1000)
    rows = measure(tmp_path / "b.json", wanted)["rows"]
    assert "GB are free on cpu" in rows["cpu/256/conditions/batch 1"]["why"]
    assert rows["cpu/256/decoder lite/batch 1"]["seconds"]


def test_memory_is_measured_in_a_child_and_counts_what_a_part_adds() -> None:
    part = next(part for part in parts_of("256", samplings=SAMPLINGS, tiny=True) if part.name == "decoder lite")
    found = peak_bytes("256", part, device="cpu", batch=2, threads=1, tiny=True)
    assert found > 2 * 3 * 16 * 64 * 64  # the clips as bytes
    with pytest.raises(RuntimeError):
        peak_bytes("256", replace(part, decoder="none such"), device="no device", batch=1, threads=1, tiny=True)


def test_encoders_have_their_real_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the meta device: they are far too large for a test."""
    sizes = {}

    def count(self: Opened, model: Any) -> Any:
        sizes[self.subject] = sum(parameter.numel() for parameter in model.parameters())
        return model

    monkeypatch.setattr(Opened, "_random", count)
    for subject in ENCODERS:
        assert Opened(subject=subject, device="cpu", tiny=False).encoder is not None
    assert 4.7e9 < sizes[TEXT_ENCODER] < 4.8e9
    assert 6.2e8 < sizes[IMAGE_ENCODER] < 6.4e8


def row(device: str, subject: str, part: str, seconds: float, **more: Any) -> dict[str, Any]:
    role = {"picture,": "picture", "conditions": "conditions", "decoder": "decoder", "whole,": "whole"}.get(
        part.split()[0], "sampling"
    )
    role = "encoder" if subject in ENCODERS else role
    return {"device": device, "subject": subject, "part": {"name": part, "role": role}, "batch": 1,
            "seconds": [seconds, 9 * seconds, seconds], **more}  # fmt: skip


@pytest.fixture
def made_up() -> dict[str, Any]:
    """Round numbers on a CPU and an accelerator."""
    machine = {"cpu": "X", "threads": 2, "accelerator": None, "versions": {"torch": "2", "diffusers": "0.1"}}
    found = [
        row("cpu", "lite", "whole, 20 steps, guidance 2.5", 2.0, peak_bytes=7_000_000),
        row("cuda", "256", PICTURE, 0.3),
        row("cuda", "256", "conditions", 0.01),
        row("cuda", "256", "transformer, 20 steps, guidance 2.5", 0.04),
        row("cuda", "256", "decoder lite", 0.05),
        {**row("cuda", "256", "decoder paper", 1), "seconds": [], "why": "out of memory"},
        row("cuda", TEXT_ENCODER, TEXT_ENCODER, 0.08),
        row("cuda", IMAGE_ENCODER, IMAGE_ENCODER, 0.02),
    ]
    rows = {f"{r['device']}/{r['subject']}/{r['part']['name']}/batch 1": r for r in found}
    return {
        "protocol": PROTOCOL,
        "config": {"samplings": [[20, 2.5]], "batches": [1], "rounds": 3, "tiny": False},
        "machines": {"cpu": machine, "cuda": {**machine, "accelerator": "H100"}},
        "weights": {"cpu/lite": {"transformer": "reducio-dit-lite abc", "decoder lite": "random"}},
        "loads": {"cpu": [[0.5], [2.0]]},
        "rows": rows,
    }


def test_tables_add_parts_up_and_stand_beside_goals_and_published_ones(made_up: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "speed-generate.json"
    path.write_text(json.dumps(made_up))
    words, (cpu, cuda, clips) = summary(path)
    assert cpu == [["on cpu", "lite (256 px)"], ["whole, 20 steps, guidance 2.5", "2 s (7 MB)"]]
    assert [line[0] for line in cuda] == [
        "on cuda",
        TEXT_ENCODER,
        IMAGE_ENCODER,
        PICTURE,
        "conditions",
        "transformer, 20 steps, guidance 2.5",
        "decoder lite",
        "decoder paper",
    ]
    assert cuda[-1][1] == "not run: out of memory"
    assert clips[1:] == [
        ["lite, 256 px, 20 steps, guidance 2.5, decoder lite", "cpu", "2", "0.5", "under 5 s", ""],
        ["256, 256 px, 20 steps, guidance 2.5, decoder lite", "cuda", "0.2", "5", "10 clips/s", ""],
        ["text to video: 256, 256 px, 20 steps, guidance 2.5, decoder lite", "cuda", "0.5", "2", "", ""],
        ["256, 256 px, 20 steps, guidance 2.5, decoder paper", "cuda", "not run: out of memory", "", "", ""],
        [
            "text to video: 256, 256 px, 20 steps, guidance 2.5, decoder paper",
            "cuda",
            "not run: out of memory",
            "",
            "",
            "0.9824 clips/s",
        ],
    ]
    assert "cuda: H100" in words and "load 0.5 to 2" in words and "reducio-dit-lite abc" in words and "A100" in words
    del made_up["rows"][f"cuda/{TEXT_ENCODER}/{TEXT_ENCODER}/batch 1"]
    path.write_text(json.dumps(made_up))
    assert summary(path)[1][-1][3][2] == f"not run: no {TEXT_ENCODER}", "a text is never free"
    text = renew("<!-- bench:speed-generate -->\n<!-- /bench -->\n", results=tmp_path)
    assert "| conditions | 0.01 s |" in text and "| 0.9824 clips/s |" in text
    made_up["rows"] = {"x": {}}
    path.write_text(json.dumps(made_up))
    done = CliRunner().invoke(main, ["table", str(tmp_path)])
    assert "speed-generate.json is damaged" in done.output


def test_the_command(tmp_path: Path) -> None:
    words = ["speed", "--generate", "--quick", "--presets", "lite", "--no-memory", "--device", "cpu"]
    done = CliRunner().invoke(main, ["run", *words, "-o", str(tmp_path)])
    assert done.exit_code == 0, done.output
    data = read_json(tmp_path / "speed-generate-quick.json")
    assert data is not None and data["config"]["tiny"] and "Toy networks" in " ".join(done.output.split())
    assert not (tmp_path / "speed-quick.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--generate", "--size", "64"), "--size means nothing with --generate"),
        (("--generate", "--no-compare"), "--compare means nothing with --generate"),
        (("--encoders",), "--encoders means nothing without --generate"),
        (("--generate", "--presets", "huge"), f"'huge'; allowed: {', '.join(PRESETS)}"),
        (("--generate", "--device", "cuda:9"), "can't be used here"),
        (("--generate", "--batch", "1,x"), "allowed are values like 1,8"),
    ],
    ids=str,
)
def test_arguments_that_mean_nothing(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["speed", *arguments, "-o", str(tmp_path)])
    assert done.exit_code == 2 and message in " ".join(done.output.split())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("preset", ["lite", "small"])
def test_what_takes_no_text_makes_no_pictures_of_it(preset: str) -> None:
    roles = [part.role for part in parts_of(preset, samplings=SAMPLINGS, tiny=True)]
    assert "picture" not in roles and roles.count("decoder") == 1 and "whole" in roles
