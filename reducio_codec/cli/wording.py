"""Messages in the command line's words: the API says ``on_error='conceal'`` where one types ``--on-error conceal``."""

from __future__ import annotations

import re
from collections.abc import Callable

import click

_VALUE = r"""(?:'(?P<quoted>[^'\s]*)'|"(?P<double>[^"\s]*)"|(?P<bare>\w+(?:\.\d+)?))"""


def spell(text: str, command: click.Command | None) -> str:
    """``text`` with the options of ``command`` as they are typed. What may be part of a file's name is left alone."""
    for name, option in _options(command).items():
        text = re.sub(rf"(?<![\w./\\'\"-]){name}={_VALUE}(?![\w./\\-]\w)", _typed(option), text)
        text = re.sub(rf"(?<![\w./\\'\"-]){name}=(?=\s|$|[,;)])", option, text)
        text = re.sub(rf"^{name}(?= is | must )", option, text)
        if "_" in name:  # no word of English
            text = re.sub(rf"(?<![\w./\\'\"=-]){name}(?![\w./\\'\"=-])", option, text)
    return text


def _typed(option: str) -> Callable[[re.Match[str]], str]:
    def typed(found: re.Match[str]) -> str:
        value = next(part for part in found.group("quoted", "double", "bare") if part is not None)
        return option if value == "True" else f"{option} {value}"

    return typed


def _options(command: click.Command | None) -> dict[str, str]:
    """Argument of the API -> option of the command."""
    parameters = [] if command is None else command.params
    return {
        parameter.name: next((option for option in parameter.opts if option.startswith("--")), parameter.opts[0])
        for parameter in parameters
        if isinstance(parameter, click.Option) and parameter.name
    }
