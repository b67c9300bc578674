"""``python -m bench``: measurements of this package, tables and plots of them."""

from __future__ import annotations

from importlib import import_module

import click

COMMANDS = {
    "int8": ("bench.int8", "Time and quality of decoders in 8 bits, on the first clip of FILE."),
    "macs": ("bench.macs", "Multiplications a pixel of every decoder."),
    "plot": ("bench.run", "Rate-distortion curves and quality over time of RESULTS as SVG and PNG."),
    "readme": ("bench.run", "Make the tables of FILE (README.md; bench/README.md has most) again from RESULTS."),
    "report": ("bench.run", "RESULTS as one HTML file: tables, curves, and with --data videos to compare."),
    "run": ("bench.run", "Measure."),
    "speed": (
        "bench.speed",
        "Time this package's models, image VAEs and conventional encoders in turns, and measure memory.",
    ),
    "table": ("bench.run", "Tables of RESULTS in Markdown."),
}
"""Name -> where it is, and what --help says of it without loading that."""


class LazyGroup(click.Group):
    """Imports a command when it is used: they need torch, the help doesn't."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        import_module("bench.stand_ins").install()  # a GPU machine may lack PyAV, say, which speed does without
        command: click.Command = getattr(import_module(COMMANDS[cmd_name][0]), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Measure reducio-codec. Run it from the repository's root."""


if __name__ == "__main__":
    main(prog_name="python -m bench")
