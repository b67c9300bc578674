"""``python -m bench``: measurements of this package, tables and plots of them."""

from __future__ import annotations

import click

from bench.run import plot, report, run, table
from bench.speed import speed


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Measure reducio-codec. Run it from the repository's root."""


for command in (run, speed, table, plot, report):
    main.add_command(command)

if __name__ == "__main__":
    main(prog_name="python -m bench")
