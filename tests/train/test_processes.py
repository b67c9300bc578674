"""Two processes with half the batch each step as one process with all of it does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from reducio_codec import ReducioCodec
from reducio_codec.training.checkpoint import Checkpoints
from reducio_codec.training.run_log import read_log
from tests.helpers import moving_video
from tests.train.conftest import TINY, to_toml

PAPER: dict[str, Any] = {
    "model": {
        "architecture": "reducio",
        "base_channels": 8,
        "norm_groups": 4,
        "channel_multipliers": [1] * 6,
        "depth": 1,
        "content_channels": 8,
        "content_multipliers": [1] * 4,
        "content_depth": 1,
    },
    "run": {
        "steps": 3,
        "checkpoint_steps": 0,
        "checkpoint_minutes": 0.0,
        "log_steps": 1,
        "gradient_checkpointing": True,
    },
    "data": {"workers": 0},
    "gan": {"weight": 0.05, "start": 1, "channels": 8},
    "optimizer": {"learning_rate": 1e-3, "ema": 0.0, "clip_norm": 1.0},
    "stages": [{"side": 64, "batch": 1}],
    "validation": {"side": 64, "clips": 1},
    "export": {"table_clips": 1, "dtype": "float32"},
}
SHARDED = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP"}


def launch(
    folder: Path, document: dict[str, Any], *arguments: str, processes: int = 2, **env: str
) -> subprocess.CompletedProcess[str]:
    """``reducio-codec train`` of ``document`` in ``folder``/run, on CPUs; FSDP where ``env`` asks for it."""
    folder.mkdir(exist_ok=True)
    (folder / "recipe.toml").write_text(to_toml(document))
    program = [str(Path(__file__).parent / "cpu_fsdp.py")] if env else ["-m", "reducio_codec"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [*torchrun, *program, "train", "recipe.toml", *arguments, "--out", "run"]
    env = {**os.environ, "PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", **env}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=280, check=False)


def run(folder: Path, videos: Path, *, processes: int, batch: int) -> dict[str, torch.Tensor]:
    """Weights after one step of plain gradient descent, near enough: Adam's first step hides a gradient's size."""
    document = {
        **TINY,
        "run": {"steps": 2, "checkpoint_steps": 0, "checkpoint_minutes": 0.0},
        "stages": [{"side": 64, "batch": batch}],
        "optimizer": {"learning_rate": 1e-3, "betas": [0.0, 0.999]},
    }
    done = launch(folder, document, "--data", str(videos), processes=processes)
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


def gradients_in_shards(folder: Path) -> dict[str, torch.Tensor]:
    """Adam's first moments of an optimiser that was saved in shards."""
    whole = folder.with_suffix(".pt")
    dcp_to_torch_save(folder, whole)
    state = torch.load(whole, weights_only=True)["optimizer"]["state"]
    return {name: values["exp_avg"] for name, values in state.items()}


def test_weights_in_shards_get_the_gradients_of_whole_ones(videos: Path, tmp_path: Path) -> None:
    """FSDP against DDP, with the paper's objective and its discriminator."""
    document = {
        **PAPER,
        "run": {**PAPER["run"], "steps": 1},
        "gan": {**PAPER["gan"], "start": 0},
        "optimizer": {**PAPER["optimizer"], "betas": [0.0, 0.999]},  # the first moment is the gradient
    }
    for name, env in (("whole", {}), ("shards", SHARDED)):
        done = launch(tmp_path / name, document, "--data", str(videos), **env)
        assert done.returncode == 0, done.stderr[-3000:]
    whole, shards = (Checkpoints(tmp_path / name / "run").find() for name in ("whole", "shards"))
    assert whole is not None and shards is not None
    for one, two in (("optimizer.bin", "optimizer_0"), ("optimizer_1.bin", "optimizer_1")):
        expected = torch.load(whole / one, weights_only=True)["state"]
        found = gradients_in_shards(shards / two)
        assert len(expected) == len(found) > 10
        for values, (name, value) in zip(expected.values(), found.items(), strict=True):
            wanted = values["exp_avg"]
            scale = wanted.abs().max().item()
            torch.testing.assert_close(value, wanted, atol=1e-3 * scale + 1e-9, rtol=1e-3, msg=name)


def test_a_run_in_shards_goes_on_and_ends_with_a_whole_model(videos: Path, tmp_path: Path) -> None:
    for name, steps, paths in (("once", 3, ()), ("twice", 2, ()), ("twice", 3, ("--val", str(videos)))):
        document = {**PAPER, "run": {**PAPER["run"], "steps": steps}}
        done = launch(tmp_path / name, document, "--data", str(videos), *paths, **SHARDED)
        assert done.returncode == 0, done.stderr[-3000:]
    once, twice = (
        [line["loss"] for line in read_log(tmp_path / name / "run" / "log.jsonl") if "loss" in line]
        for name in ("once", "twice")
    )
    assert len(once) == 3 and twice == once
    model = ReducioCodec.from_pretrained(tmp_path / "twice" / "run" / "model")
    latent, keyframe = model.encode(moving_video(16, 64, 64))
    assert model.decode(latent, keyframe).isfinite().all()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"FSDP_VERSION": "1"}, "only version 2 works here"),
        ({"FSDP_AUTO_WRAP_POLICY": "SIZE_BASED_WRAP"}, "ModuleList"),
    ],
)
def test_shards_that_do_not_work_are_refused(videos: Path, tmp_path: Path, change: dict[str, str], reason: str) -> None:
    env = {**SHARDED, "FSDP_MIN_NUM_PARAMS": "2000", **change}
    done = launch(tmp_path / "run", PAPER, "--data", str(videos), **env)
    assert done.returncode == 1 and reason in done.stderr and "Error" not in done.stderr.split(reason)[0][-300:]


def test_an_average_does_not_go_with_shards(videos: Path, tmp_path: Path) -> None:
    document = {**PAPER, "optimizer": {**PAPER["optimizer"], "ema": 0.9}}
    done = launch(tmp_path / "run", document, "--data", str(videos), **SHARDED)
    assert done.returncode == 1 and "optimizer.ema is 0.9; with FSDP it must be 0" in done.stderr


def test_a_checkpoint_is_gone_on_with_as_it_was_written(videos: Path, tmp_path: Path) -> None:
    paths = ("--data", str(videos))
    for steps, env, reason in ((1, {}, ""), (2, SHARDED, "was written without FSDP; go on in the same way")):
        document = {**PAPER, "run": {**PAPER["run"], "steps": steps}, "gan": {"weight": 0.0}}
        done = launch(tmp_path, document, *paths, processes=1, **env)
        assert (done.returncode != 0) == bool(reason) and reason in done.stderr, done.stderr[-2000:]
        assert "reducio_codec/train" not in done.stderr  # the launcher's own traceback is not ours to mend
    found = Checkpoints(tmp_path / "run").find()
    assert found is not None
    (found / "pytorch_model_fsdp_0").mkdir()
    done = launch(tmp_path, document, *paths, processes=1)
    assert done.returncode != 0 and "was written with FSDP; go on in the same way" in done.stderr
