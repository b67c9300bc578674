"""What the measuring commands of this package share."""

from __future__ import annotations

from typing import Any

import click

from reducio_codec.errors import ReducioError


class OneLineErrors(click.Command):
    """Our errors become one line on stderr, and an exit code."""

    interrupted = "interrupted"
    """What Ctrl-C is answered with."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ReducioError as error:
            click.echo(f"error: {' '.join(str(error).split())}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo(self.interrupted, err=True)
            ctx.exit(130)
