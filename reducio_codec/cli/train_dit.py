"""``reducio-codec train-dit``: train a transformer on shards, or go on with a run."""

from __future__ import annotations

from pathlib import Path

import click

from reducio_codec.cli.paths import STORED
from reducio_codec.cli.train import run_options, show_options, start_run, tell


def _show_options(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from reducio_codec.generate.train.recipe import DitRecipe, dit_recipes

        show_options(dit_recipes(), DitRecipe)
        ctx.exit()


@click.command("train-dit")
@click.argument("recipe", metavar="RECIPE")
@click.option(
    "--latents",
    required=True,
    multiple=True,
    metavar="DIR",
    type=STORED,
    help="Shards to learn from (of 'extract'; repeatable).",
)
@click.option(
    "--val", multiple=True, metavar="DIR", type=STORED, help="Shards to validate on, of other videos (repeatable)."
)
@click.option("--weights", metavar="DIR", help="Start from a transformer's name or folder, or another run's --out.")
@run_options(_show_options)
def command(
    recipe: str,
    latents: tuple[Path, ...],
    val: tuple[Path, ...],
    out: Path,
    changes: tuple[str, ...],
    weights: str | None,
    profile: bool,
    export: bool,
) -> int:
    """Train with RECIPE (a bundled name such as 'dit-lite', or a TOML file), or go on with the run in --out.

    Ctrl-C and SIGTERM save a checkpoint; the same command goes on from it, and with --export writes its model. The finished
    model is OUT/model, and OUT is a name for it.
    """
    from reducio_codec.generate.train.recipe import read_dit_recipe
    from reducio_codec.generate.train.task import train_dit

    extra = [*changes, *([f'start.weights="{weights}"'] if weights else [])]
    plan = read_dit_recipe(recipe, changes=extra)
    start_run(out, profile=profile, export=export)
    report = train_dit(plan, latents=latents, val=val, out=out, profile=profile, export=export)
    if report.finished and report.values:
        click.echo(
            "validation: " + ", ".join(f"{name.removeprefix('val/')} {v:g}" for name, v in report.values.items())
        )
    return tell(report, out=out)
