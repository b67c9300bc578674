"""``python -m bench run speed``: arguments in, result files and tables out."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bench.speed.coders import SUBJECTS
from bench.speed.comparison import SpeedConfig, run, tables
from bench.speed.points import AXES, QUICK, VALUES, Point
from bench.speed.sweep_table import axis_table, words
from bench.speed.sweeps import Sweep, SweepConfig, read
from reducio_codec.errors import InputError

RESULTS = Path("bench/results")


def _list(_context: click.Context, _option: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(part for part in value.split(",") if part)


@click.command()
@click.option("--quick", is_flag=True, help="Small clips, one round, no compiling: does it work? Minutes.")
@click.option("--compare/--no-compare", default=True, show_default=True, help="The paper's model against lite.")
@click.option(
    "--sweep",
    "axes",
    metavar="A,B",
    default=",".join(AXES),
    show_default=True,
    callback=_list,
    help="What is varied; an empty text for nothing.",
)
@click.option("--subjects", metavar="'A;B'", help="Only these in the sweeps, by name, semicolons between them.")
@click.option("--resolution", callback=_list, help=f"Of the sweep.  [default: {','.join(VALUES['resolution'])}]")
@click.option("--length", callback=_list, help=f"Seconds at 16 frames each.  [default: {','.join(VALUES['length'])}]")
@click.option("--batch", callback=_list, help=f"Of the sweep.  [default: {','.join(VALUES['batch'])}]")
@click.option("--rounds", type=click.IntRange(1), help="Runs of each subject at each point.  [default: 3]")
@click.option(
    "--most-seconds",
    type=click.FloatRange(0, min_open=True),
    default=120.0,
    show_default=True,
    help="Sweeps leave out what would take longer.",
)
@click.option("--size", type=click.IntRange(32), help="Comparison: side of the clip, a multiple of 32.  [default: 256]")
@click.option("--paper-decodes", type=click.IntRange(1), help="Timed decodes of the paper's model.  [default: 2]")
@click.option("--paper-encodes", type=click.IntRange(1), help="Timed encodes of the paper's model.  [default: 2]")
@click.option("--lite-repeats", type=click.IntRange(1), default=5, show_default=True, help="Runs of lite beside each.")
@click.option("--compile/--no-compile", "compiled", default=None, help="Time lite under torch.compile too.")
@click.option("--memory/--no-memory", default=True, show_default=True, help="Measure memory, in child processes.")
@click.option("--paper-memory", is_flag=True, help="Memory of the paper's model at 512 px too (many minutes).")
@click.option(
    "--threads",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Threads of torch; 0: its choice. The sweep over threads has its own.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random weights.")
@click.option("--fresh", is_flag=True, help="Measure again instead of going on with the result files.")
@click.option("-o", "--results", type=click.Path(path_type=Path, file_okay=False), default=RESULTS, show_default=True,
              help="Folder of speed.json and speed-sweeps.json (speed-quick.json, ... with --quick).")  # fmt: skip
def speed(
    quick: bool,
    compare: bool,
    axes: tuple[str, ...],
    subjects: str | None,
    resolution: tuple[str, ...] | None,
    length: tuple[str, ...] | None,
    batch: tuple[str, ...] | None,
    rounds: int | None,
    most_seconds: float,
    size: int | None,
    paper_decodes: int | None,
    paper_encodes: int | None,
    lite_repeats: int,
    compiled: bool | None,
    memory: bool,
    paper_memory: bool,
    threads: int,
    seed: int,
    fresh: bool,
    results: Path,
) -> None:
    """Time this package's models, image VAEs and conventional encoders in turns, and measure memory.

    Two parts: the paper's model (plain and in bfloat16) against lite at one size, and sweeps over size, length, threads,
    batch and number type for everything. What is measured is skipped, so an interrupted run is simply started again.
    """
    console = Console()
    suffix = "-quick" if quick else ""
    config = SpeedConfig(
        size=size or (128 if quick else 256),
        paper_decodes=paper_decodes or (1 if quick else 2),
        paper_encodes=paper_encodes or (1 if quick else 2),
        lite_repeats=lite_repeats,
        compile=(not quick) if compiled is None else compiled,
        seed=seed,
        threads=threads,
    )
    if config.size % 32:
        raise click.BadParameter(f"{config.size} isn't a multiple of 32", param_hint="--size")
    given = {"resolution": resolution, "length": length, "batch": batch}
    defaults = QUICK if quick else VALUES
    if unknown := [axis for axis in axes if axis not in AXES]:
        raise click.BadParameter(f"{unknown[0]!r}; allowed: {', '.join(AXES)}", param_hint="--sweep")
    sweep = SweepConfig(
        values={axis: given.get(axis) or defaults[axis] for axis in axes},
        base=Point(width=64, height=64, threads=threads) if quick else Point(threads=threads),
        subjects=_subjects(subjects),
        rounds=rounds or (1 if quick else 3),
        most_seconds=most_seconds,
        memory=memory,
    )
    for axis, values in sweep.values.items():
        for value in values:
            try:
                sweep.base.at(axis, value)
            except InputError as error:
                raise click.BadParameter(str(error)) from error
    if compare:
        path = results / f"speed{suffix}.json"
        found = run(config, path=path, memory=memory, paper_memory=paper_memory, fresh=fresh)
        for table in tables(found):
            console.print(table)
        console.print(f"written to {path}")
    if sweep.values:
        _sweep(sweep, results / f"speed-sweeps{suffix}.json", console=console, fresh=fresh)


def _subjects(names: str | None) -> tuple[str, ...]:
    known = tuple(subject.name for subject in SUBJECTS)
    if names is None:
        return known
    wanted = tuple(name.strip() for name in names.split(";") if name.strip())
    if unknown := [name for name in wanted if name not in known]:
        raise click.BadParameter(f"{unknown[0]!r}; allowed: {'; '.join(known)}", param_hint="--subjects")
    return wanted


def _sweep(config: SweepConfig, path: Path, *, console: Console, fresh: bool) -> None:
    Sweep.start(config, path=path, console=Console(file=sys.stderr), fresh=fresh).run()
    data = read(path)
    assert data is not None
    for axis in config.values:
        head, *body = axis_table(data, axis)
        table = Table(title=f"{axis}: frames/s (peak memory of a process of its own above what it held before)")
        for name in head:
            table.add_column(name, overflow="fold")
        for row in body:
            table.add_row(*row)
        console.print(table)
    console.print(words(data), markup=False)
    console.print(f"written to {path}")
