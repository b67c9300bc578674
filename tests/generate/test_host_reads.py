"""No step of a sampler, and no step of a transformer's training, waits for the device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import FrameType
from typing import Any

import pytest
import torch

from reducio_codec.generate import Conditions, ReducioDiT, sample, sampling
from reducio_codec.generate.sampling import SAMPLERS, MixedOnHost, draw_noise, make_generators, make_scheduler
from reducio_codec.generate.train.denoise import DenoisingLoss
from reducio_codec.generate.train.distill import DistillationLoss
from reducio_codec.generate.train.recipe import DenoisingOptions
from reducio_codec.generate.train.samples import LatentBatch
from tests.generate.conftest import MODEL, awake
from tests.host_reads import no_host_reads

SHAPE = (16, 4, 2, 2)
ALL = [(objective, name) for objective, names in SAMPLERS.items() for name in names]


def on_host(frame: FrameType) -> bool:
    """What ``MixedOnHost``, the size of conditions, and Heun's scheduler (at its own sigmas) look at is on the host."""
    if frame.f_code.co_filename.endswith("scheduling_flow_match_heun_discrete.py"):
        return True
    return isinstance(frame.f_locals.get("self"), MixedOnHost) or frame.f_code.co_name in ("check_conditions", "sides")


def conditions() -> Conditions:
    return Conditions(size=torch.tensor([[64, 64]] * 2), keyframe=torch.zeros(2, 3, 64, 64))


@pytest.mark.parametrize(("objective", "sampler"), ALL)
def test_a_samplers_steps_read_nothing(objective: Any, sampler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read before the first evaluation and after the last isn't part of a step."""
    torch.manual_seed(0)
    model = awake(ReducioDiT(replace(MODEL, objective=objective)))
    watched: list[int] = []
    real = sampling.predict
    open_watch: list[Any] = []

    def predict(*args: Any, **more: Any) -> Any:
        if not open_watch:
            open_watch.append(no_host_reads(monkeypatch, host=on_host))
            open_watch[0].__enter__()
        watched.append(1)
        return real(*args, **more)

    def check(*args: Any, **more: Any) -> None:
        open_watch.pop().__exit__(None, None, None)

    monkeypatch.setattr(sampling, "predict", predict)
    monkeypatch.setattr(sampling, "_check_finite", check)
    context = model.context(conditions())
    noise = draw_noise(SHAPE, generators=make_generators([0, 1]))
    known = sampling.Known(noise.clone(), slots=1)
    sample(model, context, noise=noise, sampler=sampler, steps=4, known=known)
    assert len(watched) >= 4 and not open_watch


def test_mixed_on_the_host_is_the_scheduler() -> None:
    plain, mixed = make_scheduler("unipc", steps=6), MixedOnHost(make_scheduler("unipc", steps=6))
    one = two = draw_noise(SHAPE, generators=make_generators([0, 1]))
    for timestep in plain.timesteps:
        prediction = torch.tanh(one)
        one = plain.step(prediction, timestep, one, return_dict=False)[0]
        two = mixed.step(torch.tanh(two), timestep, two)
    torch.testing.assert_close(two, one, atol=1e-4, rtol=1e-4)


def batches() -> Iterator[LatentBatch]:
    for step in range(2):
        yield LatentBatch(
            latent=torch.zeros(2, *SHAPE),
            conditions=conditions(),
            step=step,
            indices=(0, 1),
            names=("a", "b"),
            paces=(1, 1),
        )


@pytest.mark.parametrize("kind", ["noise", "flow", "student"])
def test_a_training_step_reads_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    flow = replace(MODEL, objective="noise" if kind == "noise" else "flow")
    loss: Any
    if kind == "student":
        student = ReducioDiT(replace(flow, distilled_steps=2, distilled_guidance=2.0))
        loss = DistillationLoss(awake(student), awake(ReducioDiT(flow)), teacher_steps=1, seed=0)
    else:
        weighting: Any = "min-snr" if kind == "noise" else "plain"
        loss = DenoisingLoss(awake(ReducioDiT(flow)), DenoisingOptions(weighting=weighting), seed=0)
    loss.train()
    for batch in batches():
        with no_host_reads(monkeypatch, host=on_host):
            loss(batch).mean().backward()
