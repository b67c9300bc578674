"""``reducio-codec roundtrip``: compress a video, decompress it, and show what it cost and what is left."""

from __future__ import annotations

import click

from reducio_codec.cli.group import traceback_option


@click.command()
@traceback_option
def command() -> None:
    """Compress a video, decompress it, and measure both."""
