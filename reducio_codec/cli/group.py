"""The command group: what every command shares. Errors become one line and an exit code; ``--traceback`` shows more."""

from __future__ import annotations

import errno
import io
import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NoReturn

import click

from reducio_codec.cli.paths import fill_closed_streams
from reducio_codec.cli.wording import spell
from reducio_codec.errors import ReducioError, one_line
from reducio_codec.io.own_process import settle_in
from reducio_codec.io.termination import exit_on_sigterm

EXIT_INTERRUPTED = 130
"""What a shell gives a program that Ctrl-C ended: 128 + SIGINT."""
EXIT_PIPE = 141
"""The same for SIGPIPE: the reader of our output has seen enough."""

_COMMANDS = (
    "encode", "decode", "view", "play", "roundtrip", "generate", "info", "models", "convert", "convert-lpips", "export-onnx",
    "train", "extract", "train-dit",
)  # fmt: skip


class ReducioGroup(click.Group):
    """A group that imports a command when it is used, and turns every error into one line on stderr."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"reducio_codec.cli.{cmd_name.replace('-', '_')}").command
        return command

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        extra["standalone_mode"] = False
        fill_closed_streams()
        settle_in()
        with _quiet_pipe():
            try:
                code = super().main(args, prog_name, **extra)
                if not code and sys.stdout is not None:
                    sys.stdout.flush()
            except click.ClickException as error:
                say(f"error: {one_line(error.format_message())}{_hint(error)}")
                code = error.exit_code
            except click.Abort:
                say("interrupted")
                code = EXIT_INTERRUPTED
            except OSError as error:  # standard output takes no more: of help and version, which no command prints
                if error.errno == errno.EPIPE:
                    raise
                say(f"error: {explain(error, None)[0]}")
                code = 1
            finally:
                _forget_unwritten()
        sys.exit(code if isinstance(code, int) else 0)

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        with _quiet_pipe():  # help and version are printed here
            return super().make_context(*args, **more)

    def invoke(self, ctx: click.Context) -> Any:
        with _quiet_pipe():
            return self._invoke(ctx)

    def _invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            say("interrupted")
            ctx.exit(EXIT_INTERRUPTED)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise
            if ctx.meta.get(_TRACEBACK):
                traceback.print_exc()
            command = self.get_command(ctx, ctx.invoked_subcommand) if ctx.invoked_subcommand else None
            message, code = explain(error, command)
            say(f"error: {message}")
            ctx.exit(code)


@contextmanager
def _quiet_pipe() -> Iterator[None]:
    """End without a word where the reader of standard output has gone. Click would, too, and give 1, as for an error."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EPIPE:
            raise
        nowhere = os.open(os.devnull, os.O_WRONLY)  # for what still waits in a buffer
        for stream in (1, 2):
            os.dup2(nowhere, stream)
        sys.exit(EXIT_PIPE)


def _forget_unwritten() -> None:
    """What standard output couldn't take, which was said by now, would be tried once more at the end: Python then complains in
    lines of its own, and gives 120."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


_TRACEBACK = "reducio_codec.cli.traceback"


_MEMORY = re.compile(
    r"out of memory|failed to map segment|(can't|cannot) allocate memory|not enough memory|alloc_failed|bad_alloc",
    re.IGNORECASE,
)
"""What torch's allocators and libraries say when there is no more, and the linker that loads them."""


def explain(error: Exception, command: click.Command | None) -> tuple[str, int]:
    """An error in one line, in the words of the command, and the exit code for it."""
    if isinstance(error, ReducioError):
        return spell(str(error), command), error.exit_code
    if _is_about_memory(error):
        options = () if command is None else tuple(parameter.name for parameter in command.params)
        less = next((f"; {hint}" for name, hint in _SMALLER.items() if name in options), "")
        return f"out of memory{less}", 1
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror, 1
    kind = type(error).__name__
    return f"unexpected {kind}: {one_line(str(error))} (a bug; --traceback shows where)", 1


_SMALLER = {"tile_size": "a smaller --tile-size needs less", "offload": "--offload needs less"}


def _is_about_memory(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError | ImportError) and _MEMORY.search(str(error)) is not None


def _hint(error: click.ClickException) -> str:
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    return f" (see '{ctx.command_path} --help')" if ctx is not None else ""


def say(line: str) -> None:
    """A line on standard error."""
    # The file is named: what click finds by itself is the stream below a progress bar, which prints lines above itself.
    click.echo(line, file=sys.stderr, err=True)


def warn(message: str) -> None:
    """A warning of the command that runs, in its words."""
    context = click.get_current_context(silent=True)
    say(f"warning: {spell(one_line(message), None if context is None else context.command)}")


def _show_warning(message: Warning | str, *_args: Any, **_more: Any) -> None:
    warn(str(message))


class _EchoHandler(logging.Handler):
    """Log records as lines of this program. Looks stderr up at each record, so that it works under test runners."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.WARNING:
            warn(record.getMessage())
        else:
            prefix = f"{record.levelname.lower()}: " if record.levelno > logging.INFO else ""
            say(f"{prefix}{one_line(record.getMessage())}")


_messages = _EchoHandler()


def _set_up_messages() -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):  # names that aren't UTF-8 are printed as they are
        sys.stdout.reconfigure(errors="surrogateescape")
    warnings.showwarning = _show_warning
    logger = logging.getLogger("reducio_codec")
    logger.addHandler(_messages)  # a second time changes nothing
    logger.setLevel(logging.NOTSET)
    _messages.setLevel(logging.WARNING)


def show_information() -> None:
    """From now on this command says what it does, not only what is wrong: for those that run for hours."""
    logging.getLogger("reducio_codec").setLevel(logging.INFO)
    _messages.setLevel(logging.INFO)


def _remember_traceback(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta[_TRACEBACK] = True  # shared by a command and its group


def shows_tracebacks() -> bool:
    """Whether the command that runs was given ``--traceback``."""
    return bool(click.get_current_context().meta.get(_TRACEBACK))


def traceback_option(function: Any) -> Any:
    """``--traceback``, which every command takes."""
    return click.option(
        "--traceback",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_remember_traceback,
        help="After an error, show where in the program it happened.",
    )(function)


def _print_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from reducio_codec import __version__  # looking it up takes as long as all else that --help loads

        click.echo(f"reducio-codec {__version__}")
        ctx.exit()


@click.group(
    cls=ReducioGroup,
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version, help="Show the version."
)
@click.pass_context
def main(ctx: click.Context) -> None:
    """Compress video into a key frame and a small motion latent per 16 frames.

    Exit codes: 0 done, 1 a file or a model is bad or damaged, 2 wrong usage, 130 interrupted, 141 nobody reads on,
    143 terminated.
    """
    if ctx.invoked_subcommand is None:
        say(ctx.get_help())
        ctx.exit(2)
    _set_up_messages()
    exit_on_sigterm()
