"""``python -m bench run speed``: arguments in, result files and tables out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console
from rich.table import Table

from bench.json_files import RESULTS, read_json
from bench.speed.coders import SUBJECTS
from bench.speed.comparison import SpeedConfig, run, tables
from bench.speed.generation import GenerationConfig, GenerationRun, Wanted
from bench.speed.generation_table import tables as generation_tables
from bench.speed.generation_table import words as generation_words
from bench.speed.points import AXES, QUICK, VALUES, Point
from bench.speed.sweep_table import axis_table, words
from bench.speed.sweeps import Sweep, SweepConfig
from reducio_codec.errors import InputError
from reducio_codec.generate.config import PRESETS
from reducio_codec.models.precision import resolve_device


def _list(_context: click.Context, _option: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(part for part in value.split(",") if part)


_ONLY_GENERATE = ("presets", "encoders", "devices")
"""Options without a meaning elsewhere."""
_ALONE_DEVICE = ("devices", "minutes", "videos", "presets", "quick", "results")
"""Options of ``--device`` without ``--generate``; the others mean nothing with it."""
_ALSO_GENERATE = ("quick", "batch", "rounds", "most_seconds", "memory", "threads", "fresh", "results", "generate")
"""Options that ``--generate`` takes too; the others mean nothing with it."""


@click.command()
@click.option(
    "--generate", is_flag=True, help="Making clips instead of coding them: encoders, transformer, decoder apart."
)
@click.option(
    "--presets", callback=_list, help=f"With --generate, of {','.join(PRESETS)}.  [default: lite; all on cuda]"
)
@click.option("--encoders", is_flag=True, help="With --generate: Flan-T5-XXL and ViT-H at full size, random weights.")
@click.option(
    "--device",
    "devices",
    multiple=True,
    help="Alone: everything that a device is for, in --minutes. With --generate; repeatable.  "
    "[default there: cpu, and cuda if there]",
)
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Of --device alone.  [default: 6]")
@click.option("--videos", type=click.Path(path_type=Path, exists=True), help="Of --device alone: files to decode.")
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
@click.pass_context
def speed(
    context: click.Context,
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
    generate: bool,
    minutes: float | None,
    videos: Path | None,
    **generation: Any,
) -> None:
    """Time this package's models, image VAEs and conventional encoders in turns, and measure memory.

    Two parts: the paper's model (plain and in bfloat16) against lite at one size, and sweeps over size, length, threads,
    batch and number type for everything. What is measured is skipped, so an interrupted run is simply started again.
    With --generate: what making a clip costs, in speed-generate.json. With --device alone: the codecs, the generator,
    extraction and training there, a file a method below device/.
    """
    console = Console()
    suffix = "-quick" if quick else ""
    given_options = [
        name for name in context.params if context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE
    ]
    alone = bool(generation["devices"]) and not generate
    inert = [
        name
        for name in given_options
        if (
            name not in _ALONE_DEVICE
            if alone
            else name not in (*_ALSO_GENERATE, *_ONLY_GENERATE)
            if generate
            else name in (*_ONLY_GENERATE, "minutes", "videos")
        )
    ]
    if inert:
        option = next(parameter.opts[0] for parameter in context.command.params if parameter.name == inert[0])
        where = "with --device alone" if alone else f"{'with' if generate else 'without'} --generate"
        if inert[0] in ("minutes", "videos"):
            where = "without --device alone"
        raise click.UsageError(f"{option} means nothing {where}")
    if alone:
        _device(generation["devices"], minutes or 6.0, videos=videos, presets=generation["presets"], tiny=quick,
                folder=results / f"device{suffix}", console=console)  # fmt: skip
        return
    if generate:
        config = GenerationConfig(
            batches=_batches(batch or ("1",)),
            rounds=rounds or (1 if quick else 3),
            most_seconds=most_seconds,
            threads=threads,
            tiny=quick,
        )
        path = results / f"speed-generate{suffix}.json"
        _generate(config, path, console=console, memory=memory, fresh=fresh, **generation)
        return
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


def _batches(values: tuple[str, ...]) -> tuple[int, ...]:
    if not all(value.isdecimal() and int(value) for value in values):
        raise click.BadParameter(f"{','.join(values)!r}; allowed are values like 1,8", param_hint="--batch")
    return tuple(map(int, values))


def _device(
    devices: tuple[str, ...],
    minutes: float,
    *,
    videos: Path | None,
    presets: tuple[str, ...] | None,
    tiny: bool,
    folder: Path,
    console: Console,
) -> None:
    """Everything that a device is for; then the table."""
    from bench.device.codec_rows import codec_methods
    from bench.device.rows import Budget, DeviceRun, table
    from bench.device.work_rows import work_methods

    if len(devices) > 1:
        raise click.BadParameter("one device at a time without --generate", param_hint="--device")
    (device,) = devices
    _check_choices(presets, devices)
    said = Console(file=sys.stderr)
    run = DeviceRun(
        device=device,
        folder=folder,
        budget=Budget(seconds=60 * minutes),
        say=lambda line: said.print(line, markup=False, soft_wrap=True),
        tiny=tiny,
    )
    codecs, work = (
        codec_methods(device, tiny=tiny),
        work_methods(device, tiny=tiny, videos=videos, presets=presets or ()),
    )
    paths = run.run([*codecs[:-3], *work, *codecs[-3:]])  # compilers last
    console.print(_as_table(table(paths), title=f"{run.name}, {minutes:g} minutes"))
    console.print(f"written to {folder}")


def _check_choices(presets: tuple[str, ...] | None, devices: tuple[str, ...]) -> None:
    if unknown := [name for name in presets or () if name not in PRESETS]:
        raise click.BadParameter(f"{unknown[0]!r}; allowed: {', '.join(PRESETS)}", param_hint="--presets")
    for device in devices:
        try:
            resolve_device(device)
        except InputError as error:
            raise click.BadParameter(str(error), param_hint="--device") from error


def _generate(
    config: GenerationConfig,
    path: Path,
    *,
    console: Console,
    memory: bool,
    fresh: bool,
    presets: tuple[str, ...] | None,
    encoders: bool,
    devices: tuple[str, ...],
) -> None:
    """Making clips, on each device in turn; then the tables."""
    here = devices or (("cpu", "cuda") if torch.cuda.is_available() else ("cpu",))
    _check_choices(presets, here)
    run = GenerationRun.start(config, path=path, console=Console(file=sys.stderr), memory=memory, fresh=fresh)
    for device in here:
        default = ("lite",) if device == "cpu" else tuple(sorted(PRESETS, key=lambda name: name != "lite"))
        run.run(Wanted(device=device, presets=presets or default, encoders=encoders))
    data = read_json(path)
    assert data is not None
    for rows in generation_tables(data):
        console.print(_as_table(rows))
    console.print(generation_words(data), markup=False)
    console.print(f"written to {path}")


def _sweep(config: SweepConfig, path: Path, *, console: Console, fresh: bool) -> None:
    Sweep.start(config, path=path, console=Console(file=sys.stderr), fresh=fresh).run()
    data = read_json(path)
    assert data is not None
    for axis in config.values:
        title = f"{axis}: frames/s (peak memory of a process of its own above what it held before)"
        console.print(_as_table(axis_table(data, axis), title=title))
    console.print(words(data), markup=False)
    console.print(f"written to {path}")


def _as_table(rows: list[list[str]], *, title: str | None = None) -> Table:
    """The first row is the head."""
    head, *body = rows
    table = Table(title=title)
    for name in head:
        table.add_column(name, overflow="fold")
    for row in body:
        table.add_row(*row)
    return table
