"""The choices that a recipe has, read from its dataclasses, and how few runs try them all."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin, get_type_hints

from reducio_codec.training.recipe_file import choices_of

Settings = dict[str, Any]
"""section.option to value."""


def choices(
    recipe: type[Any], model: type[Any], *, named: Mapping[str, tuple[Any, ...]]
) -> Iterator[tuple[str, Any, bool]]:
    """(section.option, value, whether the option is a list) of every choice; ``named``: those that aren't Literals."""
    hints = get_type_hints(recipe)
    for section in dataclasses.fields(recipe):
        cls: Any = model if section.name == "model" else hints[section.name]
        cls = cls if dataclasses.is_dataclass(cls) else get_args(cls)[0]
        types = get_type_hints(cls)
        for field in dataclasses.fields(cls):
            name, hint = f"{section.name}.{field.name}", types[field.name]
            many = get_origin(hint) is tuple
            found = choices_of(get_args(hint)[0] if many else hint) or named.get(name, ())
            yield from ((name, value, many) for value in found)


def together(found: list[Settings]) -> list[Settings]:
    """As few runs as try all of these."""
    runs: list[Settings] = []
    for one in found:
        for run in runs:
            if all(run.get(key, value) == value for key, value in one.items()):
                run.update(one)
                break
        else:
            runs.append(dict(one))
    return runs


def to_document(run: Settings) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for key, value in run.items():
        section, _, option = key.partition(".")
        document.setdefault(section, {})[option] = value
    return document
