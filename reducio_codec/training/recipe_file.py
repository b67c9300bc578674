"""Recipes as TOML: strict reading, values set from the command line, and what each option means."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from reducio_codec.config import attribute_docs
from reducio_codec.errors import InputError


def bundled_recipes(package: str) -> list[str]:
    """Names of the recipes that ship inside ``package``, without ``.toml``."""
    folder = resources.files(package) / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def read_document(name_or_path: str | Path, *, changes: Sequence[str] = (), package: str) -> dict[str, Any]:
    """The plain values of a recipe, from a TOML file or bundled in ``package`` (``lite`` or ``recipes/lite.toml``).

    Args:
        changes: ``section.option=value`` each, the value as TOML has it; quotes around text may be left out.

    Raises:
        InputError: no such recipe, or it isn't TOML.
    """
    path = Path(name_or_path)
    known = bundled_recipes(package)
    if path.is_file():
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{name_or_path} can't be read: {error}") from error
    elif path.name.removesuffix(".toml") in known and path.parent.as_posix() in (".", "recipes"):
        bundled = resources.files(package) / "recipes" / f"{path.name.removesuffix('.toml')}.toml"
        text = bundled.read_text(encoding="utf-8")
    else:
        raise InputError(f"recipe {str(name_or_path)!r} is neither a file nor bundled; bundled: {', '.join(known)}")
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{name_or_path} isn't TOML: {error}") from error
    for change in changes:
        _change(document, change)
    return document


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """``section.option: old -> new`` for everything that differs between two documents."""
    before, after = dict(_flat(old)), dict(_flat(new))
    keys = sorted(before.keys() | after.keys())
    missing = "(absent)"
    return [
        f"{key}: {before.get(key, missing)!r} -> {after.get(key, missing)!r}"
        for key in keys
        if before.get(key, missing) != after.get(key, missing)
    ]


def list_options(recipe: type[Any]) -> Iterator[tuple[str, str, str]]:
    """(section.option, default, meaning) of every option of a recipe but the model's. The default is as TOML has it, and
    says after four spaces what else is allowed, where that is a list."""
    hints = get_type_hints(recipe)
    for section in dataclasses.fields(recipe):
        if section.name == "model":
            continue
        kind = hints[section.name]
        cls: Any = kind if dataclasses.is_dataclass(kind) else get_args(kind)[0]
        docs = attribute_docs(cls)
        types = get_type_hints(cls)
        for option in dataclasses.fields(cls):
            default = _as_toml(option.default) + _allowed(types[option.name])
            yield f"{section.name}.{option.name}", default, docs[option.name]


def _as_toml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_as_toml, value))}]"
    return repr(value) if isinstance(value, float) else json.dumps(value)


def _allowed(hint: Any) -> str:
    many = get_origin(hint) is tuple
    choices = choices_of(get_args(hint)[0] if many else hint)
    return f"    {'any' if many else 'one'} of {', '.join(map(_as_toml, choices))}" if choices else ""


def _change(document: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    names = key.strip().split(".")
    if not equals or len(names) != 2 or not all(names):
        raise InputError(f"{change!r} isn't of the form section.option=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()  # text without quotes
    section = document.setdefault(names[0], {})
    if isinstance(section, list):
        raise InputError(f"{change!r}: [[{names[0]}]] is a list; only a recipe file can change it")
    if not isinstance(section, dict):
        raise InputError(f"{change!r}: {names[0]} isn't a section with options")
    section[names[1]] = value


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def build_section(cls: Any, values: Any, where: str) -> Any:
    if not isinstance(values, Mapping):
        raise InputError(f"{where} is {values!r}; it must be a section with options")
    return cls(**section_values(cls, values, where))


def section_values(cls: Any, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Checked arguments for ``cls``."""
    hints = get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]
    unknown = [key for key in values if key not in names]
    if unknown:
        inside = f"[{where}]" if where else "the recipe"
        raise InputError(f"{inside} has the unknown option {unknown[0]!r}; allowed: {', '.join(names)}")
    return {key: _value(hints[key], value, f"{where}.{key}" if where else key) for key, value in values.items()}


def _value(hint: Any, value: Any, where: str) -> Any:
    """``value`` as ``hint`` asks for it; InputError when it is something else."""
    if dataclasses.is_dataclass(hint):
        return build_section(hint, value, where)
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise InputError(f"{where} is {value!r}; it must be a list")
        inner = get_args(hint)[0]
        return tuple(_value(inner, item, f"{where}[{index}]") for index, item in enumerate(value))
    choices = choices_of(hint)
    if choices is not None:
        if value not in choices or isinstance(value, bool):
            raise InputError(f"{where} is {value!r}; allowed: {', '.join(repr(choice) for choice in choices)}")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        words = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
        raise InputError(f"{where} is {value!r}; it must be {words[hint]}")
    return value


def choices_of(hint: Any) -> tuple[Any, ...] | None:
    """The values of a Literal, or of a union of them; None for other types."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        return tuple(choice for part in get_args(hint) for choice in (choices_of(part) or ()))
    return None
