"""A folder of short real clips, and the tiniest recipe."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from reducio_codec.train.recipe import Recipe, build_recipe
from reducio_codec.training.checkpoint import Checkpoints
from reducio_codec.training.run_log import read_log
from tests.helpers import moving_video


def write_video(path: Path, frames: np.ndarray[Any, Any], *, rate: int = 16) -> Path:
    """(T, H, W, 3) uint8, losslessly."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "bgr0"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos of 40 frames, 72x96."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(3):
        write_video(folder / f"v{number}.mkv", moving_video(40, 72, 96, seed=number))
    return folder


TINY: dict[str, Any] = {
    "model": {
        "architecture": "lite",
        "channels_4": 8,
        "channels_8": 8,
        "channels_16": 4,
        "channels_32": 16,
        "decoders": ["linear", "none"],
    },
    "run": {"steps": 4, "checkpoint_steps": 2, "checkpoint_minutes": 0.0, "log_steps": 1},
    "data": {"workers": 0},
    "latent": {"sample": False, "quantize": [0.2, 1.0]},
    "loss": {"reconstruction": "log-l2", "skip_keyframe": True, "kl": 0.0, "rate": 0.02},
    "optimizer": {"learning_rate": 1e-3, "warmup": 2},
    "stages": [{"side": 64, "batch": 2}],
    "start": {"flow": True, "flow_clips": 10},
    "validation": {"side": 64, "clips": 2},
    "export": {"table_clips": 2},
}


@pytest.fixture
def recipe() -> Callable[..., Recipe]:
    """``recipe(run={...}, loss={...})``: the tiny recipe with sections changed; a section of None is left out."""

    def make(**sections: Any) -> Recipe:
        document = {key: dict(value) if isinstance(value, dict) else value for key, value in TINY.items()}
        for name, values in sections.items():
            if isinstance(values, dict):
                document[name] = {**document.get(name, {}), **values}
            elif values is None:
                document.pop(name)
            else:
                document[name] = values
        return build_recipe(document)

    return make


def terminated_step(command: list[str], *, cwd: Path) -> int:
    """Ends a real training run in ``cwd / "run"`` by SIGTERM after two steps: exit code 143, and a checkpoint of the step
    it was at, which is given back."""
    env = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    process = subprocess.Popen(command, cwd=cwd, stderr=subprocess.PIPE, env=env)
    log = cwd / "run" / "log.jsonl"
    deadline = time.monotonic() + 200
    while len(read_log(log)) < 2 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, message
    assert b"goes on from there" in message
    folder = Checkpoints(cwd / "run").find()
    assert folder is not None
    step: int = json.loads((folder / "state.json").read_text())["step"]
    assert step >= 2 and step == read_log(log)[-1]["step"]
    return step


def to_toml(document: dict[str, Any]) -> str:
    """A recipe's file."""

    def plain(value: Any) -> str:
        return json.dumps(value)

    lines = []
    for name, values in document.items():
        for section in values if isinstance(values, list) else [values]:
            lines.append(f"[[{name}]]" if isinstance(values, list) else f"[{name}]")
            lines += [f"{key} = {plain(value)}" for key, value in section.items()]
    return "\n".join(lines)
