"""``python -m bench``: one subcommand a measurement."""

from __future__ import annotations

import click

from bench.speed import speed


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Measure reducio-codec. Run it from the repository's root."""


main.add_command(speed)

if __name__ == "__main__":
    main(prog_name="python -m bench")
