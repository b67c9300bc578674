"""``python -m bench run``, ``table`` and ``plot``: arguments in, files and tables out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
import torch
from rich.console import Console

from bench import ablation as ablation_bench
from bench import rd as rd_bench
from bench import reconstruction as reconstruction_bench
from bench.ablation_table import ablation as ablation_table
from bench.codecs import ours
from bench.commands import commands
from bench.json_files import RESULTS
from bench.methods import Candidate, NotRunError
from bench.over_time_plot import plot_over_time, read_over_time
from bench.plots import plot as draw
from bench.quality import Quality
from bench.rd_curves import read_rd
from bench.readme import renew
from bench.speed import speed
from bench.splits import is_test_split, record_report, results_folder
from bench.tables import everything
from reducio_codec.errors import ReducioError
from reducio_codec.io.files import atomic_write

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def numbers(kind: type[int] | type[float]) -> Callable[..., tuple[float, ...]]:
    """Callback of an option that takes ``1,2,3``."""

    def parse(context: click.Context, option: click.Parameter, value: str) -> tuple[float, ...]:
        try:
            return tuple(kind(part) for part in value.split(","))
        except ValueError as error:
            raise click.BadParameter(f"{value!r} isn't a list of numbers like 1,2,3") from error

    return parse


def joined(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)


def names(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def common(function: F) -> F:
    """Options of both benchmarks."""
    folder = click.Path(path_type=Path, file_okay=False)
    file = click.Path(path_type=Path, dir_okay=False)
    options = [
        click.option("--data", type=folder, required=True, help="Folder of videos; val2 is reported once a model."),
        click.option("-o", "--results", type=folder, default=RESULTS, show_default=True, help="Where results go."),
        click.option("--methods", metavar="A,B", help="Only these, by name.  [default: all]"),
        click.option("--model", "models", multiple=True, default=[ours.MODEL], show_default=True,
                     help="A model of this package: a name or a folder. May be repeated."),
        click.option("--limit", type=click.IntRange(1), help="Only the first so many videos."),
        click.option("--lpips-net", type=click.Choice(["alex", "vgg"]), default="alex", show_default=True),
        click.option("--lpips-weights", type=file,
                     help="torchvision's AlexNet or VGG-16, or a converted one.  [default: torch's cache, or shipped]"),
        click.option("--traceback", is_flag=True, help="Show where an error comes from."),
    ]  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


@click.group()
def run() -> None:
    """Measure. What is finished is skipped, so an interrupted run is simply started again."""


@run.command()
@common
@click.option("--decoders", default=",".join(ours.DECODERS), show_default=True, help="Of this package's models.")
@click.option("--image-vae", type=click.Path(path_type=Path, file_okay=False),
              help="Model folder of the 2-D baseline, as the recipe image-vae trains it.")  # fmt: skip
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True,
              help="What this package's models and the 2-D baseline compute in.")  # fmt: skip
@click.option("--peers", type=click.Path(path_type=Path, file_okay=False), help="Folder with a folder for each peer.")
@click.option("--i3d", type=click.Path(path_type=Path, dir_okay=False), help="i3d_torchscript.pt, for rFVD.")
@click.option("--download", is_flag=True, help="Fetch peers' weights and the I3D file from the hub if missing.")
def reconstruction(
    data: Path,
    results: Path,
    methods: str | None,
    models: Sequence[str],
    limit: int | None,
    lpips_net: Any,
    lpips_weights: Path | None,
    traceback: bool,
    decoders: str,
    image_vae: Path | None,
    dtype: str,
    peers: Path | None,
    i3d: Path | None,
    download: bool,
) -> None:
    """Autoencoders on 16-frame clips: PSNR, SSIM, MS-SSIM, LPIPS, rFVD."""
    with _errors(traceback):
        chosen = _choose(
            reconstruction_bench.candidates(
                models=models,
                decoders=names(decoders),
                image_vae=image_vae,
                dtype=getattr(torch, dtype),
                peer_folder=peers,
                download=download,
            ),
            methods,
        )
        results = _report_once(results, data=data, models=models, chosen=chosen)
        quality = Quality.open(lpips_net=lpips_net, lpips_trunk=lpips_weights, i3d=i3d, download=download)
        failures = reconstruction_bench.run(
            chosen, data=data, results=results, quality=quality, console=Console(), limit=limit
        )
    _end(failures, results)


@run.command()
@common
@click.option("--decoder", help="Of this package's models.  [default: what files of each use]")
@click.option("--qualities", default=joined(ours.QUALITIES), callback=numbers(int), show_default=True)
@click.option("--steps", default=joined(ours.STEPS), callback=numbers(float), show_default=True)
@click.option(
    "--groups",
    default="1",
    callback=numbers(int),
    show_default=True,
    help="Clips whose key frames are coded together.",
)
@click.option(
    "--efforts", default="0", callback=numbers(int), show_default=True, help="Gradient steps for each latent."
)
@click.option("--perceptual", metavar="A,B", default="vmaf,xpsnr", show_default=True,
              help="Of vmaf (with NEG), xpsnr and ssimulacra2 (slow); '' is none.")  # fmt: skip
@click.option("--unit", type=click.Choice(["video", "clip"]), default="video", show_default=True,
              help="One file for all clips of a video, or for each clip.")  # fmt: skip
def rd(
    data: Path,
    results: Path,
    methods: str | None,
    models: Sequence[str],
    limit: int | None,
    lpips_net: Any,
    lpips_weights: Path | None,
    traceback: bool,
    decoder: str | None,
    qualities: tuple[int, ...],
    steps: Sequence[float],
    groups: tuple[int, ...],
    efforts: tuple[int, ...],
    perceptual: str,
    unit: Any,
) -> None:
    """Codecs: all bytes against quality."""
    with _errors(traceback):
        everyone = rd_bench.candidates(
            models=models, decoder=decoder, qualities=qualities, steps=steps, groups=groups, efforts=efforts
        )
        chosen = _choose(everyone, methods)
        results = _report_once(results, data=data, models=models, chosen=chosen)
        quality = Quality.open(
            lpips_net=lpips_net, lpips_trunk=lpips_weights, with_fvd=False, perceptual=names(perceptual)
        )
        failures = rd_bench.run(
            chosen, data=data, results=results, quality=quality, console=Console(), unit=unit, limit=limit
        )
    _end(failures, results)


@run.command()
@click.option("--table", "number", type=click.Choice([*ablation_bench.tables(), "all"]), required=True,
              help="Table of the paper. A model that several tables have is trained once.")  # fmt: skip
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Videos to learn from.")
@click.option("--val", type=click.Path(path_type=Path, file_okay=False), required=True, help="Videos to measure on.")
@click.option(
    "--minutes-each",
    type=click.FloatRange(0, min_open=True),
    help="Training of a row, over all resumes.  [default: 5]",
)
@click.option("--steps-each", type=click.IntRange(1), help="The same in steps, whatever else the machine does.")
@click.option(
    "-o",
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    default=RESULTS,
    show_default=True,
    help="Where results go.",
)
@click.option(
    "--runs",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs/ablation"),
    show_default=True,
    help="Where the training runs live.",
)
@click.option("--limit", type=click.IntRange(1), help="Only the first so many videos of --val.")
@click.option("--traceback", is_flag=True, help="Show where an error comes from.")  # fmt: skip
def ablation(
    number: str,
    data: Path,
    val: Path,
    minutes_each: float | None,
    steps_each: int | None,
    results: Path,
    runs: Path,
    limit: int | None,
    traceback: bool,
) -> None:
    """The rows of the paper's ablation tables as small training runs of equal length."""
    if minutes_each and steps_each:
        raise click.UsageError("give --minutes-each or --steps-each, not both")
    minutes = 0.0 if steps_each else minutes_each or 5.0
    tables = ablation_bench.tables() if number == "all" else [number]
    with _errors(traceback):
        failures, stopped = ablation_bench.Ablation(
            presets=ablation_bench.presets(tables), data=data, val=val, results=results, runs=runs, minutes=minutes,
            steps=steps_each or 0, quality=Quality.open(with_fvd=False), console=Console(), limit=limit,
        ).run()  # fmt: skip
    if stopped is not None:
        click.echo("stopped; the same command goes on from there", err=True)
        sys.exit(128 + stopped)
    click.echo("\n\n".join(ablation_table(results, table) for table in tables))
    _end(failures, results, shown=True)


run.add_command(speed)
run.add_command(commands)


@click.command()
@click.argument("results", type=click.Path(path_type=Path, file_okay=False), default=RESULTS)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File.  [default: print]")
@click.option("--traceback", is_flag=True, help="Show where an error comes from.")
def table(results: Path, output: Path | None, traceback: bool) -> None:
    """Tables of RESULTS in Markdown."""
    with _errors(traceback):
        text = everything(results)
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")


@click.command()
@click.argument("results", type=click.Path(path_type=Path, file_okay=False), default=RESULTS)
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), help="Folder.  [default: RESULTS]")
@click.option("--traceback", is_flag=True, help="Show where an error comes from.")
def plot(results: Path, output: Path | None, traceback: bool) -> None:
    """Rate-distortion curves and quality over time of RESULTS as SVG and PNG."""
    with _errors(traceback):
        folder, over_time = output or results, read_over_time(results)
        curves = draw(read_rd(results), folder) if (results / "rd").is_dir() or not over_time else []
        for path in [*curves, *plot_over_time(over_time, folder)]:
            click.echo(path)


@click.command()
@click.argument("results", type=click.Path(path_type=Path, file_okay=False), default=RESULTS)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), default=Path("report.html"),
              show_default=True, help="File to write.")  # fmt: skip
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Folder of videos for the players.")
@click.option("--players", type=click.IntRange(0), default=4, show_default=True, help="So many of its videos.")
@click.option("--model", default=ours.MODEL, show_default=True, help="The model that plays: a name or a folder.")
@click.option("--decoder", help="One of the model's.  [default: what files of it use]")
@click.option("--traceback", is_flag=True, help="Show where an error comes from.")
def report(
    results: Path, output: Path, data: Path | None, players: int, model: str, decoder: str | None, traceback: bool
) -> None:
    """RESULTS as one HTML file: tables, curves, and with --data videos to compare."""
    from bench.report.page import build
    from bench.report.players import Player, make_players

    with _errors(traceback):
        made: list[Player] = []
        skipped: dict[str, str] = {}
        why = "--data wasn't given" if players else "--players 0"
        if data is not None and players:
            try:
                made, skipped = make_players(data, model=model, decoder=decoder, count=players)
            except NotRunError as error:
                why = str(error)
        page = build(results, players=made, skipped=skipped, no_players=why)
        with atomic_write(output) as file:
            file.write(page.encode())
    click.echo(f"{output}: {output.stat().st_size / 1e6:.1f} MB")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True), default=Path("README.md"))
@click.option("--results", type=click.Path(path_type=Path, file_okay=False), default=RESULTS, show_default=True)
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 if a table is not what the results say.")
@click.option("--traceback", is_flag=True, help="Show where an error comes from.")
def readme(file: Path, results: Path, check: bool, traceback: bool) -> None:
    """Make the tables of FILE (README.md; bench/README.md has most) again from RESULTS.

    They lie between <!-- bench:NAME --> and <!-- /bench -->.
    """
    with _errors(traceback):
        text = file.read_text(encoding="utf-8")
        new = renew(text, results=results)
    if new == text:
        click.echo(f"{file}: its tables are those of {results}")
    elif check:
        click.echo(
            f"{file}: a table isn't that of {results}; python -m bench readme {file} --results {results} mends it",
            err=True,
        )
        sys.exit(1)
    else:
        with atomic_write(file) as target:
            target.write(new.encode())
        click.echo(f"{file}: tables renewed")


class _errors:  # reads as a block
    """One line on stderr for an error that is raised on purpose."""

    def __init__(self, traceback: bool) -> None:
        self.traceback = traceback

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, ReducioError) and not self.traceback:
            click.echo(f"error: {error}", err=True)
            sys.exit(error.exit_code)


def _choose(candidates: Sequence[Candidate[T]], wanted: str | None) -> list[Candidate[T]]:
    if wanted is None:
        return list(candidates)
    known = {candidate.name: candidate for candidate in candidates}
    unknown = [name for name in names(wanted) if name not in known]
    if unknown:
        raise click.BadParameter(f"{unknown[0]!r}; allowed: {', '.join(known)}", param_hint="--methods")
    return [known[name] for name in names(wanted)]


def _report_once(results: Path, *, data: Path, models: Sequence[str], chosen: Sequence[Candidate[Any]]) -> Path:
    """The folder for results on this data. On a test split each model is reported once."""
    folder = results_folder(results, data=data)
    if is_test_split(data):
        started = [model for model in models if any(it.name.startswith(ours.method_name(model)) for it in chosen)]
        record_report(folder, data=data, models=ours.identities(started))
    return folder


def _end(failures: list[str], results: Path, *, shown: bool = False) -> None:
    click.echo(f"results are in {results}" + ("" if shown else f"; python -m bench table {results} shows them"))
    if failures:
        click.echo(f"{len(failures)} failed, the first: {failures[0]}", err=True)
        sys.exit(1)
