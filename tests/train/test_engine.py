"""The engine: folders that can be used again, one precision a run, pinned batches, no host read inside a step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data._utils.pin_memory import pin_memory

from reducio_codec.errors import InputError
from reducio_codec.generate.conditioning import Conditions
from reducio_codec.generate.train.samples import LatentBatch
from reducio_codec.models.motion import _further
from reducio_codec.train.loading import Batch
from reducio_codec.train.recipe import Recipe
from reducio_codec.train.task import CodecTask, train
from reducio_codec.training import loop
from reducio_codec.training.run_log import read_log
from tests.host_reads import in_optimizer, no_host_reads

Make = Callable[..., Recipe]


def test_a_run_that_fails_before_its_first_checkpoint_leaves_a_folder_for_another(
    recipe: Make, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: CodecTask, run: Any) -> Any:
        raise RuntimeError("out of luck")

    more = {"data": videos, "val": videos, "out": tmp_path / "run", "cache": tmp_path / "cache"}
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="out of luck"):
        patch.setattr(CodecTask, "validate", broken)
        train(recipe(), **more)
    assert (tmp_path / "run" / "recipe.json").is_file()
    (tmp_path / "run" / "log.jsonl").write_text('{"step": 0, "minutes": 0.0, "loss": 1}\n')
    report = train(recipe(optimizer={"learning_rate": 0.5}, run={"steps": 1}), **more)
    assert report.step == 1
    assert [line["step"] for line in read_log(tmp_path / "run" / "log.jsonl")] == [0, 1, 1]
    (tmp_path / "other").mkdir()
    for name in ("recipe.json", "thesis.txt"):
        (tmp_path / "other" / name).write_text("{}")
    with pytest.raises(InputError, match="other holds a run with another recipe"):
        train(recipe(), **{**more, "out": tmp_path / "other"})
    assert (tmp_path / "other" / "thesis.txt").is_file()


def test_runs_of_two_precisions_in_one_process(recipe: Make, videos: Path, tmp_path: Path) -> None:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    def run(precision: str) -> None:
        short = recipe(run={"steps": 1, "precision": precision})
        train(short, data=videos, val=None, out=tmp_path / precision, cache=tmp_path / "cache")

    run("bf16")
    run("float32")
    Accelerator(mixed_precision="bf16")  # somebody else's
    try:
        (tmp_path / "float32" / "latest").unlink()
        with pytest.raises(InputError, match=r"run.precision is 'float32', but this process uses accelerate already"):
            run("float32")
        assert AcceleratorState().mixed_precision == "bf16"
    finally:
        AcceleratorState._reset_state()


def tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from tensors(getattr(value, field.name))


CLIPS = Batch(
    video=torch.zeros(1),
    keyframe=torch.zeros(1),
    keyframe_index=torch.zeros(1),
    neighbours=torch.zeros(1),
    present=((True, False),),
    step=0,
    indices=(0,),
    stage=0,
    names=("a",),
    failures=(),
)
SAMPLES = LatentBatch(
    latent=torch.zeros(1),
    conditions=Conditions(size=torch.zeros(1, 2), keyframe=torch.zeros(1, 3, 2, 2)),
    step=0,
    indices=(0,),
    names=("a",),
    paces=(1,),
)


@pytest.mark.parametrize(("batch", "count"), [(CLIPS, 4), (SAMPLES, 3)], ids=["clips", "samples"])
def test_pinning_reaches_every_tensor(batch: Any, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch's DataLoader asks for it; there is no accelerator here to pin for, so the request is what is seen."""
    pinned: list[Tensor] = []

    def pin(self: Tensor, *_: Any) -> Tensor:
        pinned.append(self.clone())
        return pinned[-1]

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    found = list(tensors(pin_memory(batch)))
    assert len(found) == count and {id(tensor) for tensor in found} == {id(tensor) for tensor in pinned}


PAPER = {
    "architecture": "reducio",
    "base_channels": 8,
    "channel_multipliers": [1] * 6,
    "depth": 1,
    "content_channels": 8,
    "content_multipliers": [1] * 4,
    "content_depth": 1,
    "norm_groups": 2,
}


def on_the_host(frame: FrameType) -> bool:
    """The far search for motion asks which frames need it on a CPU alone."""
    return in_optimizer(frame) or frame.f_code is _further.__code__


@pytest.mark.parametrize(
    "sections",
    [
        {
            "latent": {"noise": 0.1, "quantize": [0.2, 1.0]},
            "loss": {"perceptual": "ms-ssim", "outliers": 1.0},
            "gan": {"weight": 0.05, "start": 0, "channels": 4},
            "optimizer": {"clip_norm": 1.0},
        },
        {"model": {"decoders": ["attention", "add"]}, "keyframe": {"neighbours": True}, "start": None},
        {"model": PAPER, "latent": {"sample": True, "quantize": []}, "loss": {"kl": 1e-6}, "start": None},
    ],
    ids=["lite", "neighbours", "paper"],
)
def test_a_step_reads_nothing_from_the_device(
    sections: dict[str, Any], recipe: Make, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = loop.take_step
    taken: list[int] = []

    def watched(task: Any, run: Any, *, share: float) -> None:
        batches, run.batches = run.batches, iter([next(run.batches) for _ in range(run.options.accumulate)])
        with no_host_reads(monkeypatch, host=on_the_host):
            real(task, run, share=share)
        run.batches = batches
        taken.append(run.position.step)

    monkeypatch.setattr(loop, "take_step", watched)
    changed = make_for(recipe, sections)
    train(changed, data=videos, val=None, out=tmp_path / "run", cache=tmp_path / "cache")
    assert taken == [0, 1]


def make_for(recipe: Make, sections: dict[str, Any]) -> Recipe:
    from reducio_codec.train.recipe import build_recipe
    from tests.train.conftest import TINY

    run = {"steps": 2, "accumulate": 2, "log_steps": 2}
    if sections.get("model", {}).get("architecture") != "reducio":
        return recipe(run=run, **sections)
    document = {key: value for key, value in TINY.items() if key not in ("model", "start")}
    document |= {"run": {**TINY["run"], **run}, "model": sections["model"]}
    for name in ("latent", "loss"):
        document[name] = {**TINY[name], **sections[name]}
    return build_recipe(document)
