"""Two processes with half the batch each step as one process with all of it does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from reducio_codec.train.checkpoint import Checkpoints
from tests.train.conftest import TINY, to_toml


def run(folder: Path, videos: Path, *, processes: int, batch: int) -> dict[str, torch.Tensor]:
    """Weights after one step of plain gradient descent, near enough: Adam's first step hides a gradient's size."""
    document = {
        **TINY,
        "run": {"steps": 2, "checkpoint_steps": 0, "checkpoint_minutes": 0.0},
        "stages": [{"side": 64, "batch": batch}],
        "optimizer": {"learning_rate": 1e-3, "betas": [0.0, 0.999]},
    }
    folder.mkdir()
    (folder / "recipe.toml").write_text(to_toml(document))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [*launch, "-m", "reducio_codec", "train", "recipe.toml", "--data", str(videos), "--out", "run"]
    env = {**os.environ, "PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = Checkpoints(folder / "run").find()
    assert found is not None
    return {
        **load_file(found / "model.safetensors"),
        **{f"moment {k} {name}": v for k, s in torch.load(found / "optimizer.bin", weights_only=True)["state"].items()
           for name, v in s.items()},
    }  # fmt: skip


def test_two_processes_get_the_gradients_of_one_with_the_double_batch(videos: Path, tmp_path: Path) -> None:
    one = run(tmp_path / "one", videos, processes=1, batch=4)
    two = run(tmp_path / "two", videos, processes=2, batch=2)
    assert one.keys() == two.keys()
    # with betas[0] = 0 Adam's first moment is the gradient itself
    gradients = [key for key in one if key.endswith("exp_avg")]
    assert len(gradients) > 20
    for key in gradients:
        scale = one[key].abs().max().item()
        torch.testing.assert_close(two[key], one[key], atol=1e-3 * scale + 1e-9, rtol=1e-3)
