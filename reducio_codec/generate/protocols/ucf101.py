"""UCF-101: ``CLASS/v_CLASS_gNN_cNN.avi``, 101 classes, 13,320 videos, and how clips are chosen from it."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from reducio_codec.errors import InputError
from reducio_codec.generate.protocols.items import Item, Plan
from reducio_codec.io.files import VIDEO_SUFFIXES

CLASSES, VIDEOS = 101, 13320
_NAME = re.compile(r"v_(?P<group>[A-Za-z]+)_g\d+_c\d+")


def read_ucf101(data: Path, *, count: int, seed: int, listed: Path | None = None, captions: Path | None = None) -> Plan:
    """Videos of a folder of class folders (or of ``UCF-101`` in it), each class with its share of ``count``.

    Args:
        count: videos to choose; 0 or more than there are: all.
        seed: of the choice.
        listed: one of the official lists (``trainlist01.txt``, ``testlist01.txt``, ...): only these videos.
        captions: JSON object from a video's name (without suffix) to its caption; otherwise the class's name in words is
            the prompt.

    Raises:
        InputError: no folder, no video, a list or captions that can't be read.
    """
    root = data / "UCF-101" if (data / "UCF-101").is_dir() else data
    if not root.is_dir():
        raise InputError(f"{data} isn't a folder; UCF-101 is a folder of {CLASSES} class folders")
    texts = None if captions is None else _captions(captions)
    wanted = None if listed is None else _listed(listed)
    plan = Plan(items=[])
    groups: dict[str, list[Item]] = defaultdict(list)
    videos = 0
    for path in sorted(root.glob("*/*")):
        if path.suffix.lower() not in VIDEO_SUFFIXES:
            continue
        name = path.relative_to(root).as_posix()
        found = _NAME.fullmatch(path.stem)
        group = path.parent.name
        # the published set has HandstandPushups/v_HandStandPushups_...
        if found is None or found["group"].lower() != group.lower():
            plan.skipped[name] = f"isn't named CLASS/v_CLASS_gNN_cNN{path.suffix}"
            continue
        videos += 1
        if wanted is not None and name not in wanted:
            continue
        if texts is not None and path.stem not in texts:
            plan.skipped[name] = f"{captions} has no caption for it"
            continue
        prompt = in_words(group) if texts is None else texts[path.stem]
        groups[group].append(Item(name=path.stem, prompt=prompt, real=path))
    if not groups:
        why = (
            f"; {len(plan.skipped)} were left out, the first: {next(iter(plan.skipped.values()))}"
            if plan.skipped
            else ""
        )
        raise InputError(f"{root} has no usable video CLASS/v_CLASS_gNN_cNN.avi{why}")
    for name in sorted((wanted or set()) - {f"{group}/{_file(item)}" for group, own in groups.items() for item in own}):
        plan.skipped.setdefault(name, f"is in {listed}, but not in {root}")
    if (len(groups), videos) != (CLASSES, VIDEOS):
        plan.notes.append(f"{len(groups)} classes and {videos} videos here; UCF-101 has {CLASSES} and {VIDEOS}")
    plan.items = _share(dict(groups), count=count, seed=seed)
    if count > len(plan.items):
        plan.notes.append(f"{count} clips were asked for; there are {len(plan.items)}")
    return plan


def in_words(name: str) -> str:
    """``ApplyEyeMakeup`` to ``apply eye makeup``; ``YoYo`` and ``TaiChi`` likewise."""
    return " ".join(re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)).lower()


def _share(groups: dict[str, list[Item]], *, count: int, seed: int) -> list[Item]:
    """``count`` items, each class with its share of the data (the rest by largest remainder), chosen by the seed."""
    total = sum(map(len, groups.values()))
    if not 0 < count < total:
        return [item for own in groups.values() for item in own]
    exact = {group: count * len(own) / total for group, own in groups.items()}
    shares = {group: int(value) for group, value in exact.items()}
    for group in sorted(exact, key=lambda group: shares[group] - exact[group])[: count - sum(shares.values())]:
        shares[group] += 1
    random = np.random.default_rng(seed)
    chosen = []
    for group, own in groups.items():
        places = sorted(random.choice(len(own), size=shares[group], replace=False))
        chosen += [own[place] for place in places]
    return chosen


def _file(item: Item) -> str:
    assert item.real is not None
    return item.real.name


def _listed(path: Path) -> set[str]:
    """Names of an official list: lines of ``CLASS/FILE`` and, in training lists, a number."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} can't be read: {error}") from error
    names = {line.split()[0] for line in lines if line.strip()}
    if not names or not all("/" in name for name in names):
        raise InputError(f"{path} isn't a list of UCF-101: its lines must be CLASS/FILE")
    return names


def _captions(path: Path) -> dict[str, str]:
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(text, str) and text.strip() for text in found.values()):
        raise InputError(f"{path} must be an object from a video's name to its caption")
    return {
        Path(name).stem if name.lower().endswith(tuple(VIDEO_SUFFIXES)) else name: text for name, text in found.items()
    }
