"""What all commands share: errors are one line with the right exit code, and nothing heavy is imported for help."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from collections.abc import Callable

import click
import pytest
from click.testing import CliRunner, Result

from reducio_codec.cli import main
from reducio_codec.cli.group import EXIT_INTERRUPTED, EXIT_PIPE, ReducioGroup
from reducio_codec.errors import FormatError, InputError, MissingDependencyError

COMMANDS = ("encode", "decode", "play", "roundtrip", "info", "models", "convert", "convert-lpips")


def run_raising(monkeypatch: pytest.MonkeyPatch, error: BaseException, *arguments: str) -> Result:
    """Run a command that raises ``error``."""
    from reducio_codec.cli.group import traceback_option

    @click.command()
    @traceback_option
    def failing() -> None:
        raise error

    monkeypatch.setattr(ReducioGroup, "get_command", lambda *_: failing)
    return CliRunner().invoke(main, ["models", *arguments])


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (InputError("quality is 101;\nallowed: 0 to 100"), "error: quality is 101; allowed: 0 to 100", 2),
        (FormatError("record 3 is damaged"), "error: record 3 is damaged", 1),
        (MissingDependencyError("pip install x"), "error: pip install x", 1),
        (MemoryError(), "error: out of memory", 1),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:1] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            ),
            "error: out of memory",
            1,
        ),
        (RuntimeError("CUDA error: out of memory"), "error: out of memory", 1),
        (OSError(12, "Cannot allocate memory"), "error: out of memory", 1),
        (FileNotFoundError(2, "No such file", "a.mp4"), "error: a.mp4: No such file", 1),
        (KeyboardInterrupt(), "interrupted", EXIT_INTERRUPTED),
        (click.UsageError("bad"), "error: bad (see 'main models --help')", 2),
    ],
)
def test_an_error_is_one_line_and_a_code(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, line: str, code: int
) -> None:
    done = run_raising(monkeypatch, error)
    assert done.stderr.splitlines() == [line]
    assert done.stdout == ""
    assert done.exit_code == code


def test_a_bug_is_one_line_too_and_traceback_shows_where(monkeypatch: pytest.MonkeyPatch) -> None:
    short = run_raising(monkeypatch, ZeroDivisionError("oops"))
    assert short.exit_code == 1
    assert len(short.stderr.splitlines()) == 1 and "ZeroDivisionError" in short.stderr and "--traceback" in short.stderr
    long = run_raising(monkeypatch, ZeroDivisionError("oops"), "--traceback")
    assert long.exit_code == 1
    assert "Traceback (most recent call last)" in long.stderr and "in failing" in long.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--nonsense"],
        ["nonsense"],
        ["encode"],
        ["encode", "--quality", "101", "x"],
        ["info", "--what"],
        ["models", "extra"],
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(arguments: list[str]) -> None:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and "--help" in line


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command(command: str) -> None:
    done = CliRunner().invoke(main, [command, "--help"])
    assert done.exit_code == 0
    assert "--traceback" in done.stdout
    assert command in CliRunner().invoke(main, ["--help"]).stdout


def test_no_arguments_show_the_help() -> None:
    done = CliRunner().invoke(main, [])
    assert done.exit_code == 2
    assert done.stderr == CliRunner().invoke(main, ["--help"]).stdout
    assert len(done.stderr.splitlines()) > 15 and "error" not in done.stderr.splitlines()[0]


def test_less_memory_is_advised_where_an_option_takes_less() -> None:
    from reducio_codec.cli import encode, extract, generate
    from reducio_codec.cli.group import explain

    assert explain(MemoryError(), encode.command) == ("out of memory; a smaller --tile-size needs less", 1)
    assert explain(MemoryError(), generate.command) == ("out of memory; --offload needs less", 1)
    assert explain(MemoryError(), extract.command) == ("out of memory", 1)


def test_version() -> None:
    assert CliRunner().invoke(main, ["--version"]).stdout.startswith("reducio-codec ")


def test_nothing_heavy_is_imported_where_no_model_runs() -> None:
    """A help that waits for torch takes seconds."""
    names = main.list_commands(click.Context(main))
    lines = [["--help"], *([name, "--help"] for name in names), ["models"], ["--version"]]
    code = (
        "import sys\n"
        "from reducio_codec.cli import main\n"
        f"for line in {lines!r}:\n"
        "    try:\n"
        "        main(line)\n"
        "    except SystemExit as end:\n"
        "        assert end.code == 0, (line, end.code)\n"
        "    heavy = {'torch', 'av', 'PIL', 'rich', 'numpy', 'multiprocessing', 'asyncio'} & set(sys.modules)\n"
        "    assert not heavy, (line, heavy)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage: ") == len(names) + 1


def test_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "reducio_codec", "models"], check=True, capture_output=True, text=True, timeout=60
    )
    assert "reducio-lite" in done.stdout


def test_closed_pipe_is_quiet() -> None:
    code = (
        "import errno\n"
        "import click\n"
        "from reducio_codec.cli.group import ReducioGroup\n"
        "@click.command()\n"
        "def failing():\n"
        "    raise OSError(errno.EPIPE, 'Broken pipe')\n"
        "ReducioGroup.get_command = lambda *_: failing\n"
        "from reducio_codec.cli import main\n"
        "main(['models'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == EXIT_PIPE
    assert done.stderr == ""


def test_warnings_are_lines_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def warning() -> None:
        warnings.warn("quality has no effect\nwith png", stacklevel=1)

    monkeypatch.setattr(ReducioGroup, "get_command", lambda *_: warning)
    show: Callable[..., None] = warnings.showwarning
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            done = CliRunner().invoke(main, ["models"])
    finally:
        warnings.showwarning = show
    assert done.stderr.splitlines() == ["warning: quality has no effect with png"]


def test_only_commands_that_run_for_hours_say_what_they_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from reducio_codec.cli.group import show_information

    @click.command()
    @click.option("--long", is_flag=True)
    def working(long: bool) -> None:
        if long:
            show_information()
        logging.getLogger("reducio_codec.work").info("half\ndone")
        logging.getLogger("reducio_codec.work").warning("careful")

    monkeypatch.setattr(ReducioGroup, "get_command", lambda *_: working)
    for arguments, lines in (
        (["models"], ["warning: careful"]),
        (["models", "--long"], ["half done", "warning: careful"]),
        (["models"], ["warning: careful"]),
    ):
        assert CliRunner().invoke(main, arguments).stderr.splitlines() == lines


def test_models_lists_names_and_licences() -> None:
    done = CliRunner().invoke(main, ["models"])
    assert "reducio-lite" in done.stdout and "MIT" in done.stdout
    assert '"sha256"' in CliRunner().invoke(main, ["models", "--json"]).stdout
