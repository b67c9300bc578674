"""Fewer steps: a student's optimum where the teacher's flow is known in closed form, and blocks that rest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from reducio_codec.errors import InputError
from reducio_codec.generate import Conditions, ReducioDiT, sample
from reducio_codec.generate.sampling import draw_noise, make_generators
from reducio_codec.generate.train.distill import DistillationLoss
from reducio_codec.generate.train.samples import LatentBatch
from tests.generate.conftest import MODEL, awake

STUDENT = replace(MODEL, objective="flow", distilled_steps=4, distilled_guidance=2.5)
TOLD, UNTOLD, SPREAD = 1.0, 0.4, 0.5
MEAN = UNTOLD + 2.5 * (TOLD - UNTOLD)  # the velocity is affine in the mean, and so is guidance


class FakeContext:
    known = is_known = None

    def __init__(self, batch: int) -> None:
        self.size = torch.zeros(batch, 2)

    def guided(self) -> FakeContext:
        return FakeContext(2 * len(self.size))


class Gaussian(nn.Module):
    """The exact velocity of data of one mean and spread; told nothing, of another mean."""

    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self, mean: float = TOLD) -> None:
        super().__init__()
        self.config = STUDENT
        self.mean = mean

    def context(self, conditions: Conditions) -> Any:
        return FakeContext(conditions.batch)

    def forward(self, latent: Tensor, timestep: Tensor, context: Any) -> Tensor:
        t = (timestep / 1000).view(-1, 1, 1, 1, 1)
        mean = torch.full_like(t, self.mean)
        if len(latent) == 4:  # guided
            mean[2:] = UNTOLD
        slope = (t - (1 - t) * SPREAD**2) / ((1 - t) ** 2 * SPREAD**2 + t**2)
        return slope * (latent - (1 - t) * mean) - mean


class Exact(Gaussian):
    """The flow itself: the average velocity from a time to a quarter before it, with the guided mean."""

    def forward(self, latent: Tensor, timestep: Tensor, context: Any) -> Tensor:
        t = (timestep / 1000).view(-1, 1, 1, 1, 1)
        r = t - 0.25
        ratio = (((1 - r) ** 2 * SPREAD**2 + r**2) / ((1 - t) ** 2 * SPREAD**2 + t**2)).sqrt()
        return (latent - (1 - r) * MEAN - ratio * (latent - (1 - t) * MEAN)) / 0.25


def batch() -> LatentBatch:
    conditions = Conditions(size=torch.tensor([[64, 64]] * 2), keyframe=torch.zeros(2, 3, 64, 64))
    return LatentBatch(
        latent=torch.zeros(2, 16, 4, 2, 2), conditions=conditions, step=0, indices=(0, 1), names=("", ""), paces=(1, 1)
    )


def test_the_optimum_is_the_guided_flow() -> None:
    def loss(student: nn.Module) -> float:
        teacher = cast(ReducioDiT, Gaussian())
        made = DistillationLoss(cast(ReducioDiT, student), teacher, teacher_steps=4, seed=0)
        return float(made(batch()).mean())

    assert loss(Exact()) < 1e-4
    assert loss(Gaussian(MEAN)) > 1e-2  # right guidance, but the velocity of a moment
    assert loss(Gaussian()) > 1e-1  # no guidance


def test_a_batch_that_comes_again_asks_no_teacher() -> None:
    teacher = Gaussian()
    calls: list[int] = []
    teacher.register_forward_hook(lambda *_: calls.append(1))
    loss = DistillationLoss(cast(ReducioDiT, Exact()), cast(ReducioDiT, teacher), teacher_steps=4, seed=0)
    first = loss(batch())
    assert len(calls) == 2 * 4 * 4
    (way,) = loss._ways.values()
    assert len(way) == 5
    torch.testing.assert_close(way[-1], MEAN + SPREAD * way[0], atol=2e-2, rtol=0)
    calls.clear()
    assert torch.equal(loss(batch()), first) and not calls
    assert not torch.equal(loss(replace(batch(), step=1)), first) and len(calls) == 2 * 4 * 4


def test_four_steps_arrive_at_the_guided_distribution() -> None:
    noise = draw_noise((16, 4, 2, 2), generators=make_generators([0, 1]))
    found = sample(cast(ReducioDiT, Exact()), cast(Any, FakeContext(2)), noise=noise, sampler="euler")
    torch.testing.assert_close(found, MEAN + SPREAD * noise, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("options", [{"steps": 20}, {"guidance": 2.5}, {"sampler": "heun"}], ids=str)
def test_what_a_student_cannot(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="this model was distilled"):
        sample(
            cast(ReducioDiT, Exact()),
            cast(Any, FakeContext(2)),
            noise=torch.zeros(2, 16, 4, 2, 2),
            **{"sampler": "euler", **options},
        )


def test_cached_blocks_run_every_second_time() -> None:
    torch.manual_seed(0)
    model = awake(ReducioDiT(replace(MODEL, objective="flow")))
    conditions = Conditions(size=torch.tensor([[64, 64]]), keyframe=torch.rand(1, 3, 64, 64))
    calls: list[int] = []
    for block in model.blocks:
        block.register_forward_hook(lambda *_: calls.append(1))

    def run(blocks: int) -> tuple[Tensor, int]:
        calls.clear()
        noise = draw_noise((16, 4, 2, 2), generators=make_generators([0]))
        with torch.no_grad():
            context = model.context(conditions)
        return sample(model, context, noise=noise, sampler="euler", steps=6, cache_blocks=blocks), len(calls)

    (plain, all_calls), (cached, fewer) = run(0), run(2)
    assert all_calls == 24 and fewer == 3 * 4 + 3 * 2
    assert not torch.equal(plain, cached) and torch.equal(run(0)[0], plain)
    with pytest.raises(InputError, match="cache_blocks is 3; a model of 4 blocks allows 0"):
        run(3)
