"""Peak memory of one operation of a sweep, in a process of its own.

``python -m bench.speed.peaks '{"subject": ..., "operation": ..., "point": {...}, "tiny": false}'`` prints a line of JSON.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch

from bench.machine import use_threads
from bench.memory import growth, in_child
from bench.speed.coders import SUBJECTS, Operation
from bench.speed.points import Point


def peak_bytes(subject: str, operation: Operation, point: Point, *, tiny: bool) -> int:
    """Growth of peak memory over what a process holds with the subject open and a small run done. RuntimeError if it fails."""
    case = {"subject": subject, "operation": operation, "point": point.to_json(), "tiny": tiny}
    return int(in_child("bench.speed.peaks", json.dumps(case))["growth_bytes"])


def run_case(case: dict[str, Any]) -> dict[str, Any]:
    point = Point(**case["point"])
    use_threads(point.threads)
    subject = next(subject for subject in SUBJECTS if subject.name == case["subject"])
    coder = subject.open(dtype=point.torch_dtype, tiny=case["tiny"])
    small = Point(width=64, height=64, threads=point.threads, dtype=point.dtype)
    coder.prepare(case["operation"], small)()
    call = coder.prepare(case["operation"], point)
    bytes_, seconds = growth(call, device=torch.device("cpu"))
    return {"growth_bytes": bytes_, "seconds": seconds}


if __name__ == "__main__":
    print(json.dumps(run_case(json.loads(sys.argv[1]))))
