"""``python -m bench --help`` loads nothing that takes seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from bench.__main__ import COMMANDS, main


def test_help_needs_no_torch() -> None:
    code = (
        "import sys\n"
        "from bench.__main__ import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0\n"
        "assert not {'torch', 'av', 'PIL', 'rich', 'numpy'} & set(sys.modules)\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60, cwd=root
    )
    for name in COMMANDS:
        assert f"  {name} " in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_all_is_the_help_of_each(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None and command.name == name
    assert command.get_short_help_str(200) == COMMANDS[name][1]
