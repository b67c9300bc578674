"""``reducio-codec extract``: videos to shards that a transformer is trained on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from reducio_codec.cli.group import traceback_option
from reducio_codec.cli.options import device_option, dtype_option
from reducio_codec.cli.paths import STORED
from reducio_codec.cli.progress import progress_bar


@click.command()
@click.argument("videos", metavar="VIDEOS", type=STORED)
@click.option("--codec", required=True, metavar="MODEL", help="Bundled name or folder of the codec.")
@click.option("--out", required=True, metavar="DIR", type=STORED, help="Where the shards go.")
@click.option(
    "--recipe", default="dit-lite", show_default=True, help="Its section [extract] says which samples are made."
)
@click.option(
    "--set", "changes", multiple=True, metavar="OPTION=VALUE", help="Change an option of [extract], such as flip=true."
)
@click.option("--cache", metavar="DIR", type=STORED, help="Decoded videos.  [default: OUT/cache]")
@click.option("--workers", type=click.IntRange(0), default=0, help="Processes; 0 works in this one.  [default: 0]")
@click.option("--batch", type=click.IntRange(1), help="Clips encoded at a time.  [default: 1 on a CPU, 16 elsewhere]")
@click.option(
    "--loaders",
    type=click.IntRange(0),
    help="Processes that prepare clips for each that encodes.  [default: 0 on a CPU and with ray, else the cores]",
)
@click.option(
    "--runner",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="This machine, or the machines of a Ray cluster (extra [ray]), which must share --out and the cache.",
)
@click.option("--text-encoder", metavar="FOLDER|NAME", help="T5 for captions: a file clip.txt beside clip.mp4.")
@click.option("--image-encoder", metavar="FOLDER|NAME", help="OpenCLIP model for semantic tokens of key pictures.")
@device_option
@dtype_option("float32")
@click.option("--threads", type=click.IntRange(1), help="CPU threads of each process.  [default: torch's own choice]")
@traceback_option
def command(
    videos: Path,
    out: Path,
    recipe: str,
    changes: tuple[str, ...],
    cache: Path | None,
    workers: int,
    runner: Any,
    dtype: Any,
    batch: int | None,
    loaders: int | None,
    **names: Any,
) -> int:
    """Write latents, key pictures and conditions of VIDEOS (a folder, or a .csv or .jsonl list) to tar shards.

    After an interruption the same command goes on: finished shards are kept.
    """
    from reducio_codec.generate.extract.extraction import extract
    from reducio_codec.generate.extract.maker import Encoders
    from reducio_codec.generate.train.recipe import read_dit_recipe
    from reducio_codec.models.precision import resolve_device, resolve_dtype

    device = resolve_device(names["device"])
    ahead = device.type != "cpu"  # there the CPU has nothing else to do
    plan = read_dit_recipe(recipe, changes=[f"extract.{change}" for change in changes])
    with progress_bar("shards") as (progress,):
        report = extract(
            videos,
            out=out,
            options=plan.extract,
            encoders=Encoders(
                dtype=resolve_dtype(dtype, device=device),
                batch=batch or (16 if ahead else 1),
                loaders=_cores(workers) if loaders is None and ahead and runner == "local" else loaders or 0,
                text_tokens=max(1, plan.model.text_tokens),
                **names,
            ),
            cache=cache,
            workers=workers,
            runner=runner,
            progress=progress,
        )
    for name, reason in report.skipped:
        click.echo(f"skipped {name}: {reason}", err=True)
    click.echo(
        f"{out}: {report.samples - len(report.failures)} samples in {report.shards} shards, {report.written} new"
    )
    return 0


def _cores(workers: int) -> int:
    """For each of the processes that encode."""
    return (os.cpu_count() or 1) // max(1, workers)
