"""VBench: its prompts, and files named as it looks for them: ``PROMPT-0.mp4`` to ``PROMPT-4.mp4``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reducio_codec.errors import InputError
from reducio_codec.generate.protocols.items import Item, Plan

EACH = 5
"""Videos for each prompt."""
FLICKERING = "temporal_flickering"
FLICKERING_EACH = 25
"""For prompts of that dimension: VBench leaves out still ones before it scores the rest."""

_LONGEST = 255
"""Bytes of a file's name."""


def read_vbench(
    prompts: Path,
    *,
    dimensions: tuple[str, ...] = (),
    images: Path | None = None,
    each: int | None = None,
) -> Plan:
    """One item for each video, all numbers of a prompt one after another.

    Args:
        prompts: ``VBench_full_info.json`` or ``vbench2_i2v_full_info.json`` (objects with ``prompt_en``, ``dimension`` and,
            for pictures to start from, ``image_name``), or a text file with a prompt on each line.
        dimensions: only prompts of these; all where there are none.
        images: the folder of the picture suite's crops. An entry without ``image_name`` belongs to the picture that its
            prompt names before ", camera ".
        each: videos for each prompt; None: 5, and 25 for ``temporal_flickering``.

    Raises:
        InputError: a file of another layout, an unknown dimension, or nothing to make.
    """
    entries = _read(prompts)
    known = {name for entry in entries for name in entry["dimension"]}
    if unknown := [name for name in dimensions if name not in known]:
        raise InputError(f"dimension is {unknown[0]!r}; {prompts} has {', '.join(sorted(known)) or 'none'}")
    plan = Plan(items=[])
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if dimensions and not set(dimensions) & set(entry["dimension"]):
            continue
        # a prompt of several dimensions is made once, as often as the most demanding of them asks
        found.setdefault(entry["prompt_en"], {"dimension": set(), **entry})["dimension"] |= set(entry["dimension"])
    for prompt, entry in found.items():
        picture = None
        if images is not None:
            picture = images / (entry.get("image_name") or prompt.partition(", camera ")[0] + ".jpg")
        if why := _unfit(prompt, picture=picture):
            plan.skipped[prompt] = why
            continue
        number = each or (FLICKERING_EACH if FLICKERING in entry["dimension"] else EACH)
        plan.items += [Item(name=f"{prompt}-{index}", prompt=prompt, picture=picture) for index in range(number)]
    if not plan.items:
        raise InputError(
            f"{prompts} gives nothing to make; the first prompt: {next(iter(plan.skipped.values()), 'none')}"
        )
    return plan


def _unfit(prompt: str, *, picture: Path | None) -> str | None:
    if "/" in prompt or "\0" in prompt or len(f"{prompt}-24.mp4".encode()) > _LONGEST:
        return f"can't be the name of a file (no /, at most {_LONGEST} bytes)"
    if picture is not None and not picture.is_file():
        return f"{picture} doesn't exist"
    return None


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix.lower() != ".json":
            return [{"prompt_en": line.strip(), "dimension": set()} for line in text.splitlines() if line.strip()]
        document = json.loads(text)
        entries = [{**entry, "dimension": set(entry["dimension"])} for entry in document]
        if not all(isinstance(entry["prompt_en"], str) and entry["prompt_en"] for entry in entries):
            raise TypeError("prompt_en isn't a text")
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} can't be read: {error}") from error
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{path} isn't a prompt file of VBench (a list of objects with prompt_en and dimension): "
            f"{type(error).__name__} {error}"
        ) from error
    return entries
