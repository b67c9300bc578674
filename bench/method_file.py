"""One method's results as one file of JSON lines, a line a result, so that a version's changes can be read.

What results of one run share (protocol, settings, versions, machine, seed) is a line of its own, ``{"run": N, "facts":
{...}}``; a result is ``{"run": N, "point": ..., "sample": ..., ...}``. A method that couldn't run has a single line with
``why_not``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.json_files import dump, write_lines

FACTS = ("format", "protocol", "method", "settings", "metric_settings", "seed", "machine")
"""What is written once for all results that have the same."""

NEEDED = ("protocol", "method", "point", "sample", "frames", "digest")
"""Without these a result can't be placed."""

Result = dict[str, Any]


def read_results(path: Path) -> tuple[list[Result], list[str]]:
    """Results with their facts, and a line for everything that can't be read. Neither where there is no file."""
    if not path.is_file():
        return [], []
    runs: dict[int, dict[str, Any]] = {}
    results, problems = [], []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            data = json.loads(line)
            if "facts" in data:
                runs[data["run"]] = dict(data["facts"])
                continue
            result = {**runs[data.pop("run")], **data}
            missing = [key for key in NEEDED if key not in result and "why_not" not in result]
            if missing or "protocol" not in result:
                raise KeyError(*missing)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            problems.append(f"line {number} can't be read ({type(error).__name__})")
        else:
            results.append(result)
    return results, problems


def write_results(path: Path, results: Sequence[Result]) -> None:
    """Replace the file; a killed run leaves the old one."""
    runs: dict[str, int] = {}
    lines = []
    for result in results:
        facts = {key: result[key] for key in FACTS if key in result}
        text = dump(facts)
        if text not in runs:
            runs[text] = len(runs)
            lines.append(dump({"run": runs[text], "facts": facts}))
        lines.append(dump({"run": runs[text], **{key: value for key, value in result.items() if key not in facts}}))
    write_lines(path, lines)
