"""``reducio-codec train``: train a model on a folder of videos, or go on with a run."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reducio_codec.cli.group import show_information, traceback_option
from reducio_codec.cli.options import Function
from reducio_codec.cli.paths import STORED
from reducio_codec.errors import InputError

if TYPE_CHECKING:
    from reducio_codec.train.task import TrainReport
    from reducio_codec.training.loop import RunReport


def show_options(recipes: Sequence[str], kind: type[Any]) -> None:
    """Names of the bundled recipes, and each option of a recipe of this kind."""
    from reducio_codec.training.recipe_file import list_options

    click.echo(f"bundled recipes: {', '.join(recipes)}\n\n--set changes an option, as in --set run.steps=1000\n")
    for name, default, meaning in list_options(kind):
        click.echo(f"{name} = {default}\n    {meaning}")


def run_options(show: Callable[[click.Context, click.Parameter, bool], None]) -> Callable[[Function], Function]:
    """What every command that trains takes: the run's folder, changes of the recipe, --export, --profile and --options."""

    def add(function: Function) -> Function:
        options = (
            click.option("--out", required=True, metavar="DIR", type=STORED, help="Where the run lives."),
            click.option(
                "--set",
                "changes",
                multiple=True,
                metavar="SECTION.OPTION=VALUE",
                help="Change an option of the recipe (repeatable).",
            ),
            click.option(
                "--export", is_flag=True, help="Train nothing: write OUT/model from the last checkpoint of this run."
            ),
            click.option(
                "--profile", is_flag=True, help="Run a few steps, save no run, and show where a step's time goes."
            ),
            click.option(
                "--options",
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=show,
                help="List recipes and their options, and end.",
            ),
            traceback_option,
        )
        for option in reversed(options):
            function = option(function)
        return function

    return add


def start_run(out: Path, *, profile: bool, export: bool) -> None:
    """What comes before every run: --profile needs a new folder, and the run talks."""
    from reducio_codec.training.checkpoint import is_unused

    if profile and export:
        raise InputError("--export and --profile are given, but --profile saves no run; give one of them")
    if profile and not is_unused(out):
        raise InputError(f"--profile saves no run and needs a new --out; {out} exists")
    if os.environ.get("RANK", "0") == "0":  # of several processes that a launcher started, the first is enough
        show_information()


def _show_options(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from reducio_codec.train.recipe import Recipe, codec_recipes

        show_options(codec_recipes(), Recipe)
        ctx.exit()


@click.command()
@click.argument("recipe", metavar="RECIPE")
@click.option(
    "--data",
    required=True,
    metavar="PATH",
    type=STORED,
    help="Videos to learn from: a folder, or a .csv or .jsonl list.",
)
@click.option("--val", metavar="PATH", type=STORED, help="Videos to validate on, none of them in --data.")
@click.option("--cache", metavar="DIR", type=STORED, help="Decoded videos.  [default: OUT/cache]")
@click.option("--decoder", "decoders", multiple=True, metavar="NAME", help="Train this decoder alone (repeatable).")
@click.option("--freeze", multiple=True, type=click.Choice(["encoder", "content"]), help="A part that doesn't learn.")
@click.option("--weights", metavar="MODEL", help="Start from a bundled model, a model folder, or another run's --out.")
@run_options(_show_options)
def command(
    recipe: str,
    data: Path,
    val: Path | None,
    out: Path,
    cache: Path | None,
    changes: tuple[str, ...],
    decoders: tuple[str, ...],
    freeze: tuple[str, ...],
    weights: str | None,
    profile: bool,
    export: bool,
) -> int:
    """Train with RECIPE (a bundled name such as 'lite', or a TOML file), or go on with the run in --out.

    Ctrl-C and SIGTERM save a checkpoint; the same command goes on from it, and with --export writes its model. The finished
    model is OUT/model, and OUT is a name for it.
    """
    from reducio_codec.train.recipe import read_recipe
    from reducio_codec.train.task import train

    extra = list(changes)
    extra += [f"train.decoders=[{_quoted(decoders)}]"] if decoders else []
    extra += [f"train.freeze=[{_quoted(freeze)}]"] if freeze else []
    plan = read_recipe(recipe, changes=extra, weights=weights)
    start_run(out, profile=profile, export=export)
    report = train(plan, data=data, val=val, out=out, cache=cache, profile=profile, export=export)
    return _tell(report, out=out)


def _quoted(names: Any) -> str:
    return ", ".join(f'"{name}"' for name in names)


def tell(report: RunReport, *, out: Path) -> int:
    """The end of a run in words; the exit code."""
    if report.profile:
        total = sum(report.profile.values())
        for name, seconds in sorted(report.profile.items(), key=lambda item: -item[1]):
            click.echo(f"{1000 * seconds:8.1f} ms  {100 * seconds / total:4.0f}%  {name}")
    if report.stopped_by is not None:
        click.echo(f"stopped at step {report.step}; the same command goes on from there", err=True)
        return 128 + report.stopped_by
    if report.model is not None:
        click.echo(f"{report.model}: written after {report.step} steps, {report.minutes:.1f} minutes ({out}/log.jsonl)")
    return 0


def _tell(report: TrainReport, *, out: Path) -> int:
    if report.skipped and not report.profile:
        click.echo(f"{len(report.skipped)} videos were skipped:", err=True)
        for name, reason in report.skipped:
            click.echo(f"  {name}: {reason}", err=True)
    if report.finished and report.validation is not None:
        for name, psnr in report.validation.decoders.items():
            click.echo(f"{name}: {psnr:.2f} dB, {psnr - report.validation.copied:+.2f} over repeating the key frame")
    return tell(report, out=out)
