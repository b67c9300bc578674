"""One command for a machine with an accelerator, which may be lent for minutes: everything that only it can tell.

    python -m bench.on_device OUT --pack PACK --shards SHARDS

Stages, each in a process of its own and within its minutes: ``speed`` (``bench speed --device``), ``tests`` (those that
a device has a part in), ``codec`` (training from packed scenes) and ``generator`` (training from shards). The two trainings
go on where they were when the same command comes again. What a stage prints is OUT/STAGE.log, how all ended is
OUT/summary.json. torch, NumPy, Pillow, einops, safetensors, click and rich have to be there; what else is missing is said
where it was needed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from bench.json_files import write_json

SUMMARY = "summary.json"

DEVICE_TESTS = ("tests/models/test_contract.py::test_a_device_gives_what_a_cpu_gives",)
"""Tests with the fixture ``device`` that need torch alone; the others need constriction."""

_GRACE = 60.0
"""Seconds that a stage has beside its minutes, for its start and for saving."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A command, or why there is none."""

    name: str
    minutes: float
    words: Sequence[str] = ()
    """Module and arguments."""
    why: str = ""


def stages(
    out: Path,
    *,
    device: str,
    minutes: tuple[float, float, float, float],
    pack: Path | None,
    start: Path,
    shards: Path | None,
    recipe: str,
    tiny: bool,
) -> list[Stage]:
    """``minutes``: of the four stages; 0 leaves one out."""
    speed, tests, codec, generator = minutes
    quick = ("--quick",) if tiny else ()
    few = ("--steps", "2", "--side", "64", "--batch", "1", "--decoder", "linear") if tiny else ("--batch", "16")
    return [
        Stage(
            name="speed", minutes=speed,
            words=("bench", "speed", "--device", device, "--minutes", f"{speed:g}", *quick, "-o", str(out)),
        ),
        Stage(name="tests", minutes=tests, words=("pytest", "-q", "-p", "no:cacheprovider", *DEVICE_TESTS)),
        Stage(
            name="codec", minutes=codec, why="" if pack else "--pack wasn't given",
            words=("reducio_codec.train.packed", str(pack), "--start", str(start), "--out", str(out / "codec"),
                   "--minutes", f"{codec:g}", "--save-minutes", "1", "--workers", "8", *few),
        ),
        Stage(
            name="generator", minutes=generator, why="" if shards else "--shards wasn't given",
            words=("reducio_codec", "train-dit", recipe, "--latents", str(shards), "--out", str(out / "generator"),
                   "--set", f"run.minutes={0 if tiny else generator:g}", "--set", f"run.steps={2 * tiny}",
                   "--set", "run.checkpoint_minutes=1.0"),
        ),
    ]  # fmt: skip


def run_stage(stage: Stage, out: Path) -> dict[str, Any]:
    """How it ended: ``code``, ``seconds``, or ``why`` it didn't run or was stopped."""
    if stage.why or not stage.minutes:
        return {"why": stage.why or "0 minutes"}
    began = time.monotonic()
    result: dict[str, Any] = {}
    with (out / f"{stage.name}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.stand_ins", *stage.words], stdout=log, stderr=subprocess.STDOUT
        )
        try:
            result["code"] = process.wait(60 * stage.minutes + _GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            result["why"] = f"stopped: not done {_GRACE:g} s after its {stage.minutes:g} minutes"
    return {**result, "seconds": round(time.monotonic() - began, 1)}


@click.command()
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option("--device", default="cuda", show_default=True)
@click.option("--speed", default=1.0, show_default=True, help="Minutes of the measurement; 0 leaves it out.")
@click.option("--tests", default=1.0, show_default=True, help="Minutes of the tests.")
@click.option("--codec", default=3.0, show_default=True, help="Minutes of the codec's training, all times together.")
@click.option("--generator", default=3.0, show_default=True, help="Minutes of the generator's training, likewise.")
@click.option("--pack", type=click.Path(path_type=Path, exists=True), help="Scenes: reducio_codec.train.packed.pack.")
@click.option("--start", type=click.Path(path_type=Path), default=Path("reducio_codec/weights/bundled/reducio-lite"),
              show_default=True, help="What the codec's training starts from.")  # fmt: skip
@click.option("--shards", type=click.Path(path_type=Path, exists=True), help="Latents: reducio-codec extract.")
@click.option("--recipe", default="dit-lite", show_default=True, help="Of the generator.")
@click.option("--tiny", is_flag=True, help="Toy networks and two steps: does it work?")
def main(
    out: Path,
    device: str,
    speed: float,
    tests: float,
    codec: float,
    generator: float,
    pack: Path | None,
    start: Path,
    shards: Path | None,
    recipe: str,
    tiny: bool,
) -> None:
    """Measure, test and train on a device, everything below OUT. Run it from the repository's root."""
    out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    for stage in stages(
        out, device=device, minutes=(speed, tests, codec, generator), pack=pack, start=start, shards=shards,
        recipe=recipe, tiny=tiny,
    ):  # fmt: skip
        found[stage.name] = run_stage(stage, out)
        write_json(out / SUMMARY, found)
        click.echo(f"{stage.name}: {json.dumps(found[stage.name])}")
    if any(result.get("code", 0) or result.get("why", "").startswith("stopped") for result in found.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
