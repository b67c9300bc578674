"""The command line: parses, calls, prints. One file a command; whatever needs torch is imported inside a command."""

from reducio_codec.cli.group import main

__all__ = ["main"]
