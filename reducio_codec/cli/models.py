"""``reducio-codec models``: what ships inside the package."""

from __future__ import annotations

import json

import click

from reducio_codec.cli.group import traceback_option
from reducio_codec.weights.zoo import list_models


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@traceback_option
def command(as_json: bool) -> None:
    """List the bundled models."""
    entries = list_models()
    if as_json:
        rows = [
            {
                "name": entry.name,
                "kind": entry.kind,
                "summary": entry.summary,
                "licence": entry.licence,
                "paper": entry.paper,
                "sha256": entry.sha256,
                "folder": str(entry.folder),
            }
            for entry in entries
        ]
        click.echo(json.dumps(rows, indent=1))
        return
    for entry in entries:
        click.echo(f"{entry.name}  ({entry.kind}, {entry.licence}, {entry.paper})")
        click.echo(click.wrap_text(entry.summary, width=88, initial_indent="    ", subsequent_indent="    "))
