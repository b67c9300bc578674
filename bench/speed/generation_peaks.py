"""Peak memory of one part of making a clip, in a process of its own.

``python -m bench.speed.generation_peaks '{"subject": ..., "part": {...}, "device": ..., ...}'`` prints a line of JSON.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

import torch

from bench.machine import use_threads
from bench.memory import growth, in_child
from bench.speed.generation_parts import Opened, Part


def peak_bytes(subject: str, part: Part, *, device: str, batch: int, threads: int, tiny: bool) -> int:
    """Growth of peak memory over what a process holds with the models open and one call done. RuntimeError if it fails."""
    case = {
        "subject": subject,
        "part": asdict(part),
        "device": device,
        "batch": batch,
        "threads": threads,
        "tiny": tiny,
    }
    return int(in_child("bench.speed.generation_peaks", json.dumps(case))["growth_bytes"])


def run_case(case: dict[str, Any]) -> dict[str, Any]:
    use_threads(case["threads"])
    opened = Opened(subject=case["subject"], device=case["device"], tiny=case["tiny"])
    call = opened.prepare(Part(**case["part"]), batch=case["batch"], brief=True)
    call()
    bytes_, seconds = growth(call, device=torch.device(case["device"]))
    return {"growth_bytes": bytes_, "seconds": seconds}


if __name__ == "__main__":
    print(json.dumps(run_case(json.loads(sys.argv[1]))))
