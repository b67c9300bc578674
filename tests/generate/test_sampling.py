"""Sampling against networks whose answer is known, and what makes a clip the same everywhere."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any, cast, get_args

import pytest
import torch
from torch import Tensor

from reducio_codec.errors import InputError, ReducioError
from reducio_codec.generate import Conditions, DiTConfig, ReducioDiT, sample
from reducio_codec.generate.noise_levels import add_noise, noise_level, target
from reducio_codec.generate.sampling import (
    SAMPLERS,
    Known,
    NoiseStage,
    check_sampler,
    draw_noise,
    evaluations,
    make_generators,
    make_scheduler,
)
from tests.generate.conftest import MODEL, awake

ALL = [(objective, name) for objective, names in SAMPLERS.items() for name in names]
SHAPE = (16, 4, 2, 2)
STAGES = get_args(NoiseStage)


class Oracle:
    """Knows the clean latent, and so predicts what leads there exactly; told nothing, it knows another one."""

    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self, config: DiTConfig, clean: Tensor, *, untold: Tensor | None = None) -> None:
        self.config = config
        self.clean = clean
        self.untold = untold
        self.batches: list[int] = []

    def __call__(self, latent: Tensor, timestep: Tensor, context: FakeContext) -> Tensor:
        self.batches.append(len(latent))
        clean = (
            self.clean
            if self.untold is None or len(latent) == len(self.clean)
            else torch.cat([self.clean, self.untold])
        )
        signal, spread = (level.view(-1, 1, 1, 1, 1) for level in noise_level(self.config.objective, timestep))
        noise = (latent - signal * clean) / spread
        return noise - clean if self.config.objective == "flow" else noise


class FakeContext:
    known = is_known = None

    def __init__(self, batch: int) -> None:
        self.size = torch.zeros(batch, 2)

    def guided(self, guidance_of: str) -> FakeContext:
        return FakeContext(2 * len(self.size))


def run(oracle: Oracle, **options: Any) -> Tensor:
    values = {"noise": draw_noise(SHAPE, generators=make_generators([0, 1])), "steps": 20, "guidance": 1.0, **options}
    return sample(cast(ReducioDiT, oracle), cast(Any, FakeContext(2)), **values)


def clean_latents(seed: int) -> Tensor:
    return draw_noise(SHAPE, generators=make_generators([seed, seed + 1]))


@pytest.mark.parametrize(("objective", "sampler"), ALL)
def test_every_sampler_arrives_where_the_network_points(objective: Any, sampler: Any) -> None:
    config = replace(MODEL, objective=objective)
    clean = clean_latents(5)
    oracle = Oracle(config, clean)
    torch.testing.assert_close(run(oracle, sampler=sampler), clean, atol=5e-3, rtol=0)
    assert oracle.batches == [2] * evaluations(sampler, 20)


@pytest.mark.parametrize(("objective", "sampler"), ALL)
def test_guidance_goes_beyond_what_is_told(objective: Any, sampler: Any) -> None:
    """With g, the oracle of two targets ends near untold + g * (told - untold), all in one batch."""
    config = replace(MODEL, objective=objective)
    told, untold = clean_latents(5), clean_latents(7)
    oracle = Oracle(config, told, untold=untold)
    found = run(oracle, sampler=sampler, guidance=2.5)
    torch.testing.assert_close(found, untold + 2.5 * (told - untold), atol=2e-2, rtol=0)
    assert set(oracle.batches) == {4}


@pytest.mark.parametrize(("objective", "sampler"), ALL)
def test_known_positions_are_kept_and_seen(objective: Any, sampler: Any) -> None:
    """Given positions come out as given, and at each step the network sees them with that step's noise."""
    config = replace(MODEL, objective=objective)
    clean, given = clean_latents(5), clean_latents(9)
    seen: list[float] = []

    class Watching(Oracle):
        def __call__(self, latent: Tensor, timestep: Tensor, context: FakeContext) -> Tensor:
            noisy = add_noise(config.objective, given, noise, timestep)
            seen.append(float((latent - noisy)[:, :, :2].abs().max()))
            return super().__call__(latent, timestep, context)

    noise = draw_noise(SHAPE, generators=make_generators([0, 1]))
    found = run(Watching(config, clean), sampler=sampler, noise=noise, known=Known(given, slots=2))
    assert torch.equal(found[:, :, :2], given[:, :, :2])
    torch.testing.assert_close(found[:, :, 2:], clean[:, :, 2:], atol=5e-3, rtol=0)
    assert max(seen[:: 1 if sampler != "heun" else 2]) < 1e-4


def test_noise_levels_are_the_schedulers() -> None:
    """Training's formula for noise and the scheduler's own agree."""
    clean, noise = clean_latents(1), clean_latents(3)
    steps = torch.tensor([10, 900])
    scheduler = make_scheduler("ddim", steps=20)
    torch.testing.assert_close(add_noise("noise", clean, noise, steps), scheduler.add_noise(clean, noise, steps))
    straight = make_scheduler("euler", steps=20)
    step = straight.timesteps[7:8]
    torch.testing.assert_close(add_noise("flow", clean, noise, step), straight.scale_noise(clean, step, noise))
    assert torch.equal(target("flow", clean, noise), noise - clean) and target("noise", clean, noise) is noise


def test_schedule_is_the_papers() -> None:
    scheduler = make_scheduler(check_sampler(None, objective="noise"), steps=20)
    assert type(scheduler).__name__ == "DPMSolverMultistepScheduler"
    assert scheduler.config.algorithm_type == "dpmsolver++" and scheduler.config.solver_order == 2
    assert len(scheduler.timesteps) == 20 and scheduler.timesteps[0] == 999


def test_noise_depends_on_the_clips_own_seed_alone() -> None:
    alone = draw_noise(SHAPE, generators=make_generators([7]))
    among = draw_noise(SHAPE, generators=make_generators([3, 7, 5]))
    assert torch.equal(alone[0], among[1])


def small(objective: str = "noise") -> tuple[ReducioDiT, Conditions]:
    torch.manual_seed(0)
    model = awake(ReducioDiT(replace(MODEL, objective=objective)))
    return model, Conditions(size=torch.tensor([[64, 64]] * 2), keyframe=torch.rand(2, 3, 64, 64) * 2 - 1)


@pytest.mark.parametrize("sampler", ["dpm++", "euler"])
def test_the_same_clip_in_any_batch(sampler: Any) -> None:
    model, both = small("flow" if sampler == "euler" else "noise")
    second = Conditions(size=both.size[1:], keyframe=None if both.keyframe is None else both.keyframe[1:])
    with torch.no_grad():
        pair, alone = (
            sample(
                model,
                model.context(each),
                noise=draw_noise(SHAPE, generators=make_generators(seeds)),
                sampler=sampler,
                steps=4,
            )
            for each, seeds in ((both, [1, 2]), (second, [2]))
        )
    scale = float(alone.abs().max())
    torch.testing.assert_close(pair[1] / scale, alone[0] / scale, atol=1e-4, rtol=0)


def test_conditions_are_projected_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and values of conditions, and the content encoder, don't run at each step."""
    model, conditions = small()
    calls: list[str] = []
    for name, module in model.named_modules():
        if name.endswith("cross.kv") or name == "content":
            module.register_forward_hook(lambda *_, name=name: calls.append(name))
    sample(model, model.context(conditions), noise=torch.randn(2, *SHAPE), sampler="dpm++", steps=3)
    assert len(calls) == len(set(calls)) == model.config.depth + 1


def test_values_that_are_no_numbers() -> None:
    model, conditions = small()
    with torch.no_grad():
        model.patch_out.bias.fill_(float("nan"))
    with pytest.raises(ReducioError, match="undefined values at time step 999"):
        sample(model, model.context(conditions), noise=torch.randn(2, *SHAPE), sampler="dpm++", steps=3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"guidance": -1.0}, "guidance is -1.0"),
        ({"guidance": float("nan")}, "guidance is nan"),
        ({"sampler": "euler"}, "allowed: dpm++, unipc, ddim; this model predicts noise"),
        ({"sampler": "rk4"}, "sampler is 'rk4'"),
    ],
)
def test_wrong_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        run(Oracle(MODEL, clean_latents(5)), **{"sampler": "dpm++", **options})
    assert words in str(caught.value)


def test_each_stage_has_noise_of_its_own() -> None:
    """Those of the picture, the clip and its motion are independent: equal generators would give the same numbers."""
    shape = (16, 4, 8, 8)
    for seed in (0, 1, 2**62 - 1):
        noises = [draw_noise(shape, generators=make_generators([seed], stage=stage)) for stage in STAGES]
        for one, other in combinations(noises, 2):
            assert abs(float((one * other).mean())) < 0.1
    assert torch.equal(
        draw_noise(shape, generators=make_generators([3])),
        torch.randn(1, *shape, generator=torch.Generator().manual_seed(3)),
    )
    seeds = [generator.initial_seed() for stage in STAGES for generator in make_generators(range(1000), stage=stage)]
    assert len(set(seeds)) == 3000
