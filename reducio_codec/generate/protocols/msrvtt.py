"""MSR-VTT: the annotation file's test split (2,990 videos with 20 captions each) and the videos by their ids."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from reducio_codec.errors import InputError
from reducio_codec.generate.protocols.items import Item, Plan
from reducio_codec.io.files import VIDEO_SUFFIXES

VIDEOS = 2990
SPLIT = "test"


def read_msrvtt(annotations: Path, data: Path, *, count: int, seed: int) -> Plan:
    """The videos of the test split, each with one of its captions.

    Args:
        annotations: ``test_videodatainfo.json``, or a file of all splits: objects under ``videos`` with ``video_id`` and
            ``split``, under ``sentences`` with ``video_id`` and ``caption``.
        data: where ``VIDEO_ID.mp4`` lie, at any depth.
        count: only so many, drawn by the seed; 0: all.
        seed: of the choice of captions. Each video's choice depends on its own id only.

    Raises:
        InputError: a file of another layout, or no video at all.
    """
    videos, captions = _read(annotations)
    if not data.is_dir():
        raise InputError(f"{data} isn't a folder; the videos of MSR-VTT are needed, named VIDEO_ID.mp4")
    files = {path.stem: path for path in sorted(data.rglob("*"), reverse=True) if path.suffix.lower() in VIDEO_SUFFIXES}
    plan = Plan(items=[])
    for name in videos:
        if name not in files:
            plan.skipped[name] = f"{data} has no {name}.mp4"
        elif not captions[name]:
            plan.skipped[name] = f"{annotations} has no caption for it"
        else:
            text = captions[name][_draw(name, seed=seed) % len(captions[name])]
            plan.items.append(Item(name=name, prompt=text, real=files[name]))
    if not plan.items:
        raise InputError(
            f"none of the {len(videos)} videos can be used, the first: {next(iter(plan.skipped.values()))}"
        )
    if len(videos) != VIDEOS:
        plan.notes.append(f"{len(videos)} videos in the {SPLIT} split here; MSR-VTT has {VIDEOS}")
    if 0 < count < len(plan.items):
        drawn = sorted(plan.items, key=lambda item: _draw(f"which {item.name}", seed=seed))[:count]
        plan.items = [item for item in plan.items if item in drawn]
        plan.notes.append(f"{count} of {len(videos)} videos, by --clips")
    return plan


def _draw(name: str, *, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8], "big")


def _read(path: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Ids of the split's videos in the file's order, and captions by id."""
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
        videos = [str(row["video_id"]) for row in document["videos"] if row["split"] == SPLIT]
        captions: dict[str, list[str]] = defaultdict(list)
        for row in document["sentences"]:
            if str(row["caption"]).strip():
                captions[str(row["video_id"])].append(str(row["caption"]).strip())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read: {error}") from error
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{path} isn't an annotation file of MSR-VTT (videos with video_id and split, sentences with video_id and "
            f"caption): {type(error).__name__} {error}"
        ) from error
    if not videos:
        raise InputError(f"{path} has no video of split {SPLIT!r}")
    return list(dict.fromkeys(videos)), captions
