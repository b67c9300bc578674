"""Whole commands beside bare calls, at toy size: what runs, what is weighed, how it is shown. Nothing is timed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.commands import HEAD, STARTS, CommandConfig, Spent, cells, commands, measure, spent_by
from bench.json_files import write_json
from bench.summaries import summary
from reducio_codec.cli import main
from reducio_codec.codec import ReducioCodec
from reducio_codec.errors import InputError
from tests.bench.fakes import quiet


def test_a_process_is_timed_and_weighed() -> None:
    small = spent_by(("-c", "pass"))
    large = spent_by(("-c", "import time; x = b'x' * 100_000_000; time.sleep(0.3)"))
    assert large.seconds > 0.3
    assert 90e6 < large.peak_bytes - small.peak_bytes < 140e6
    with pytest.raises(RuntimeError, match="no such thing"):
        spent_by(("-c", "raise SystemExit('no such thing')"))


def test_what_cannot_be_run_is_refused_before_anything_is() -> None:
    def spend(_: Sequence[str]) -> Spent:
        raise AssertionError

    for size in ("large", "0x48", "64", ""):
        with pytest.raises(InputError, match=f"resolution is '{size}'; allowed are values like"):
            CommandConfig(sizes=("64x48", size))
    with pytest.raises(InputError, match="decoder is 'fast'; allowed: "):
        measure(CommandConfig(model="reducio-test", decoders=("linear", "fast")), console=quiet(), spend=spend)
    said = CliRunner().invoke(commands, ["--sizes", "large"])
    assert said.exit_code == 2 and said.output.splitlines()[-1].startswith(
        "Error: Invalid value: resolution is 'large'"
    )


def test_every_row_is_there_and_both_ways_do_the_same(tmp_path: Path) -> None:
    ran: list[Sequence[str]] = []
    counted: list[int] = []  # clips of the decoded files that the network has a part in

    def spend(arguments: Sequence[str]) -> Spent:
        ran.append(arguments)
        if "-o" in arguments:
            with pytest.raises(SystemExit) as end:
                main(list(arguments[2:]))
            assert end.value.code in (0, None)
            assert Path(arguments[arguments.index("-o") + 1]).stat().st_size
        if "decode" in arguments and "-o" in arguments:
            with ReducioCodec.from_pretrained("reducio-test").open_file(arguments[3]) as video:
                inside = [len(video.record(clip).references) for clip in range(video.clips)]
            counted.append(sum(0 < count < 16 for count in inside))
        return Spent(seconds=2.0, peak_bytes=100_000_000 if "import torch" in arguments else 500_000_000)

    config = CommandConfig(sizes=("64x48",), seconds=1, rounds=1, model="reducio-test", decoders=("linear",))
    data = measure(config, console=quiet(), spend=spend)
    names = [row["name"] for row in data["rows"]]
    ours = [name.format(kind) for kind in ("", " by content") for name in ("64x48 encode{}", "64x48 decode{}, linear")]
    assert names == [*STARTS, *ours] and len(ran) == len(names)
    assert cells({**data["rows"][-1], "bare_seconds": 1.0})[1:] == ["2.00", "500 MB", "400 MB", "8.0", "16.0", "50%"]
    by_name = {row["name"]: cells(row)[1:] for row in data["rows"]}
    assert by_name["import torch"] == ["2.00", "100 MB", "0 MB", "", "", ""]
    assert counted == [1, 0]
    write_json(tmp_path / "commands.json", data)
    said, (rows,) = summary(tmp_path / "commands.json")
    assert "medians of 1" in said and rows[0] == list(HEAD) and len(rows) == 1 + len(names)
