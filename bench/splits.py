"""A test split is reported once for a finished model, never tuned on.

Design choices are measured on ``val``; ``val2`` stands beside it for the numbers at the end. So that this doesn't depend on
good intentions, results on a test split have a folder of their own with a record of which weights they are of, and other
weights under the same name are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bench.json_files import read_json, write_json
from reducio_codec.errors import InputError

TEST_SPLITS = ("val2",)
RECORD = "reported.json"


def is_test_split(data: Path) -> bool:
    """Whether a folder of videos is one, by its name."""
    return data.resolve().name in TEST_SPLITS


def results_folder(results: Path, *, data: Path) -> Path:
    """Where results of this folder of videos go: those of a test split never among the others."""
    name = data.resolve().name
    return results / name if name in TEST_SPLITS and results.name != name else results


def record_report(results: Path, *, data: Path, models: Mapping[str, str]) -> None:
    """Note that these models, by name with their weights' hashes, are reported on ``data``.

    The same weights may go on: an interrupted run is started again, another metric is added. Nothing happens on other splits.

    Raises:
        InputError: other weights of one of the models have been reported on this split.
    """
    if not is_test_split(data):
        return
    path = results / RECORD
    reported: dict[str, str] = read_json(path) or {}
    for name, digest in models.items():
        if reported.get(name, digest) != digest:
            raise InputError(
                f"{name} was reported on {data.name} with weights {reported[name]}, these are {digest}; a test split isn't "
                f"tuned on: choose on val. The next finished model of that name takes the old one's line out of {path}"
            )
    write_json(path, {**reported, **models})
