"""Peak memory, each case in a process of its own: what one case leaves behind would hide the next one's peak.

``python -m bench.memory CASE`` measures one case and prints a line of JSON.
"""

from __future__ import annotations

import ctypes
import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from bench.machine import resident_bytes


@dataclass(frozen=True, kw_only=True)
class MemoryCase:
    """One clip of 16 frames, through tiles where it is larger than one."""

    model: Literal["lite", "paper"]
    operation: Literal["decode", "encode"]
    size: int

    @property
    def name(self) -> str:
        return f"{self.model} {self.operation} 16x{self.size}x{self.size}"


CASES = (
    MemoryCase(model="lite", operation="decode", size=256),
    MemoryCase(model="lite", operation="encode", size=256),
    MemoryCase(model="lite", operation="decode", size=1024),
    MemoryCase(model="lite", operation="encode", size=1024),
    MemoryCase(model="paper", operation="decode", size=512),
)


def measure(case: MemoryCase, *, tiny: bool = False) -> dict[str, Any]:
    """Run ``case`` in a child process: its name, ``growth_bytes`` and ``seconds``."""
    return in_child("bench.memory", case.name, *(["--tiny"] if tiny else []))


def in_child(module: str, *arguments: str) -> dict[str, Any]:
    """What ``python -m module`` prints as its last line, a JSON object. RuntimeError, in a line, if it fails."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().splitlines()
        raise RuntimeError(reason[-1] if reason else f"the child ended with {done.returncode} (out of memory?)")
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def run_case(case: MemoryCase, *, tiny: bool) -> dict[str, Any]:
    """Growth of peak memory over what the process held with the model, the input and one small clip done."""
    import torch

    from bench.subjects import lite_model, paper_model, same_video
    from reducio_codec import ReducioCodec

    model = lite_model(tiny=tiny, seed=0) if case.model == "lite" else paper_model(optimised=True, tiny=tiny, seed=0)
    codec = ReducioCodec(model.network, dtype="auto" if case.model == "lite" else torch.float32)

    def prepare(size: int) -> Callable[[], object]:
        video = same_video(size=size, seed=0)  # (1, 3, 16, H, W)
        if case.operation == "encode":
            frames = ((video + 1) * 127.5).to(torch.uint8).permute(0, 2, 3, 4, 1).contiguous()  # (1, 16, H, W, 3)
            return lambda: codec.encode(frames)
        latent, keyframe = model.decoder_input(video)
        return lambda: codec.decode(latent, keyframe[:, :, None], output="uint8")

    prepare(64)()
    bytes_, seconds = growth(prepare(case.size), device=codec.device)
    return {"case": case.name, "growth_bytes": bytes_, "seconds": seconds}


def growth(call: Callable[[], object], *, device: Any) -> tuple[int, float]:
    """Bytes by which ``call`` raises this process's peak over what it holds now, and seconds.

    Args:
        device: torch's; on an accelerator its own memory counts.
    """
    from reducio_codec.measure.memory import PeakMemory

    _return_freed_memory()
    watch = PeakMemory(device)
    before = watch.bytes() if device.type == "cuda" else resident_bytes()
    if before is None:  # then growth below an older peak goes unseen
        before = watch.bytes()
    started = time.perf_counter()
    call()
    seconds = time.perf_counter() - started
    after = watch.bytes()
    if before is None or after is None:
        raise RuntimeError("this system doesn't say how much memory a process holds")
    return after - before, seconds


def _return_freed_memory() -> None:
    """Give freed blocks back to the system: what the allocator keeps of the preparation would pass for no growth."""
    gc.collect()
    with suppress(OSError, AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)


if __name__ == "__main__":
    chosen = next(case for case in CASES if case.name == sys.argv[1])
    print(json.dumps(run_case(chosen, tiny="--tiny" in sys.argv)))
