"""What a result was measured on, so that a reader can tell two results apart."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import av
import torch

from reducio_codec.errors import MissingDependencyError

PACKAGES = ("torch", "numpy", "av", "Pillow", "constriction", "scipy", "lpips", "diffusers", "reducio-codec")

_OWN_CHOICE = torch.get_num_threads()


def describe() -> dict[str, Any]:
    """Processor, threads, load and versions, as JSON values."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": load_average(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "ffmpeg": _libraries(),
    }


def use_threads(count: int) -> None:
    """Let torch use so many threads; 0 is its own choice, which is all cores unless the environment says less."""
    torch.set_num_threads(count or _OWN_CHOICE)


def load_average() -> list[float]:
    """Mean number of running processes over 1, 5 and 15 minutes; empty where the system doesn't say."""
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else []


def resident_bytes() -> int | None:
    """Memory that this process holds now, or None where the system doesn't say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _libraries() -> dict[str, str]:
    try:
        return {name: ".".join(map(str, version)) for name, version in av.library_versions.items()}
    except MissingDependencyError:  # a stand-in: see bench.stand_ins
        return {}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
