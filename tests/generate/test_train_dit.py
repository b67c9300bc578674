"""Training of a transformer: it learns, it resumes to the bit, and what it leaves makes video."""

from __future__ import annotations

import io
import json
import logging
import shutil
import tarfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from reducio_codec.codec import ReducioCodec
from reducio_codec.errors import InputError, ReducioError
from reducio_codec.generate import PRESETS, ReducioDiT, ReducioDiTPipeline, latent_space_id, load_dit
from reducio_codec.generate.content import AlexNetContent
from reducio_codec.generate.extract.extraction import extract
from reducio_codec.generate.extract.maker import Encoders
from reducio_codec.generate.extract.options import ExtractOptions
from reducio_codec.generate.extract.shards import read_index, write_shard
from reducio_codec.generate.latent_motion import LatentMotion
from reducio_codec.generate.train.denoise import DenoisingLoss
from reducio_codec.generate.train.first_weights import bound_config
from reducio_codec.generate.train.recipe import (
    DenoisingOptions,
    DitRecipe,
    build_dit_recipe,
    dit_recipes,
    read_dit_recipe,
)
from reducio_codec.generate.train.samples import LatentDataset, Samples, collate
from reducio_codec.generate.train.task import train_dit
from reducio_codec.generate.train.told import tell
from reducio_codec.generate.train.validate import validation_loss
from reducio_codec.training.checkpoint import Checkpoints
from reducio_codec.training.loading import ClipKey
from reducio_codec.training.run_log import read_log
from reducio_codec.weights.zoo import load_pretrained
from tests.generate.conftest import awake
from tests.helpers import moving_video
from tests.train.conftest import write_video

Make = Callable[..., DitRecipe]

TINY: dict[str, Any] = {
    "model": {"preset": "lite", "depth": 2, "width": 48, "heads": 2, "sample_size": 64, "codec": ""},
    "run": {"steps": 4, "checkpoint_steps": 0, "checkpoint_minutes": 0.0, "log_steps": 1},
    "extract": {"size": 64, "distance": 4},
    "data": {"batch": 4},
    "optimizer": {"learning_rate": 3e-3, "betas": [0.9, 0.99], "warmup": 2, "ema": 0.9},
    "validation": {"clips": 2, "steps": 2},
    "export": {"dtype": "float32"},
}


@pytest.fixture
def recipe() -> Make:
    """``recipe(run={...})``: the tiny recipe with sections changed."""

    def make(**sections: Any) -> DitRecipe:
        names = TINY.keys() | sections.keys()
        return build_dit_recipe({name: {**TINY.get(name, {}), **sections.get(name, {})} for name in names})

    return make


@pytest.fixture(scope="session")
def shards(codec_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shards(codec_folder, tmp_path_factory.mktemp("shards"))


def make_shards(codec: Path, folder: Path, **options: Any) -> Path:
    """Shards of two videos, one of which hardly moves."""
    (folder / "videos").mkdir()
    moving = moving_video(40, 64, 64, seed=1)
    still = np.repeat(moving[:1], 40, 0)
    still[::2, :4] += 1
    write_video(folder / "videos" / "moving.mkv", moving)
    write_video(folder / "videos" / "still.mkv", still)
    extract(
        folder / "videos",
        out=folder / "shards",
        options=ExtractOptions(**{"size": 64, "distance": 4, "shard_samples": 4, **options}),
        encoders=Encoders(codec=str(codec)),
        cache=folder / "cache",
    )
    return folder / "shards"


def losses(out: Path) -> list[float]:
    return [line["loss"] for line in read_log(out / "log.jsonl") if "loss" in line]


def weights(out: Path) -> dict[str, torch.Tensor]:
    folder = Checkpoints(out).find()
    assert folder is not None
    return {
        **load_file(folder / "model.safetensors"),
        **{f"ema {key}": value for key, value in load_file(folder / "ema.safetensors").items()},
    }


def test_a_run_learns_and_leaves_a_generator(
    recipe: Make, shards: Path, codec: ReducioCodec, codec_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    report = train_dit(recipe(run={"steps": 40}), latents=[shards], val=[shards], out=out)
    assert report.step == 40 and report.model == out / "model" and report.values is not None
    found = losses(out)
    assert len(found) == 40 and sum(found[-8:]) < 0.9 * sum(found[:8])
    assert report.values["val/loss"] < read_log(out / "log.jsonl")[0]["val/loss"] and report.values["val/motion"] > 0
    for name in ("curve.png", "strips/step-00000040.png", "log.jsonl", "best", "latest", "model/README.md"):
        assert (out / name).stat().st_size > 0
    model = load_dit(out / "model")
    assert model.config.latent_space == latent_space_id(codec.model)
    picture = moving_video(1, 64, 64, seed=5)[0]
    video = ReducioDiTPipeline.from_pretrained(out / "model", codec=codec_folder)(image=picture, steps=2, seed=0)
    assert video.shape == (16, 64, 64, 3) and np.array_equal(video[7], picture)


def test_resume_gives_the_same_bits(recipe: Make, shards: Path, tmp_path: Path) -> None:
    """Interrupted after every second step, with everything random in it: samples, noise, time steps, what is left out."""
    common: dict[str, Any] = {"model": {"condition_dropout": 0.5}, "loss": {"timesteps": "logit-normal"}}
    train_dit(recipe(run={"steps": 6}, **common), latents=[shards], out=tmp_path / "whole")
    for steps in (2, 4, 6):
        train_dit(recipe(run={"steps": steps}, **common), latents=[shards], out=tmp_path / "parts")
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    ours, theirs = weights(tmp_path / "parts"), weights(tmp_path / "whole")
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        assert torch.equal(value, theirs[key]), key


def test_noise_prediction_with_min_snr(recipe: Make, shards: Path, tmp_path: Path) -> None:
    changed = recipe(
        model={"objective": "noise"}, loss={"weighting": "min-snr"}, data={"storage": "disk", "workers": 1}
    )
    report = train_dit(changed, latents=[shards], out=tmp_path / "run")
    assert report.model is not None and load_dit(report.model).config.objective == "noise"
    assert losses(tmp_path / "run")[0] < 1  # the weights are at most 1, and the first prediction is 0


def test_min_snr_is_what_the_paper_says(shards: Path) -> None:
    """min(SNR, 5) / SNR for a network that predicts noise."""
    from reducio_codec.generate.noise_levels import noise_level

    model = ReducioDiT(build_dit_recipe(TINY).model)
    loss = DenoisingLoss(model, DenoisingOptions(weighting="min-snr"), seed=0)
    steps = torch.tensor([0.0, 100.0, 400.0, 999.0])
    signal, spread = noise_level("noise", steps)
    snr = (signal / spread).square()
    torch.testing.assert_close(loss._weight(steps), snr.clamp(max=5) / snr)


def test_what_moves_is_drawn_more_often(shards: Path) -> None:
    samples = Samples([shards])
    drawn = {}
    for power in (0.0, 1.0):
        dataset = LatentDataset(samples, motion_power=power, seed=0, in_memory=False)
        names = [dataset.draw(ClipKey(step=step, index=0, stage=0, side=0)).name for step in range(400)]
        drawn[power] = np.mean(["moving" in name for name in names])
    assert 0.42 < drawn[0.0] < 0.58 and drawn[1.0] > 0.9


def test_draws_depend_on_seed_step_and_place_alone(shards: Path) -> None:
    samples = Samples([shards])
    model = ReducioDiT(build_dit_recipe(TINY).model)
    dataset = LatentDataset(samples, motion_power=0.5, seed=3, in_memory=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    loss = DenoisingLoss(model, DenoisingOptions(), seed=3).eval()

    def batch(*places: int, step: int = 5) -> torch.Tensor:
        keys = [ClipKey(step=step, index=place, stage=0, side=0) for place in places]
        with torch.no_grad():
            return loss(collate([dataset[key] for key in keys]))

    torch.testing.assert_close(torch.cat([batch(0, 1), batch(2)]), batch(0, 1, 2))
    assert not torch.allclose(batch(0), batch(0, step=6))


def test_the_loss_in_validation_does_not_depend_on_the_batch(shards: Path) -> None:
    samples = Samples([shards])
    loss = DenoisingLoss(awake(ReducioDiT(build_dit_recipe(TINY).model)), DenoisingOptions(), seed=0).eval()
    found = [
        validation_loss(
            loss, samples, samples.entries[:5], batch=batch, device=torch.device("cpu"), autocast=nullcontext
        )
        for batch in (1, 2, 5)
    ]
    assert found == pytest.approx([found[0]] * 3, rel=1e-4)


def with_semantic(shards: Path, folder: Path, *, channels: int) -> Path:
    """A copy with an image encoder's tokens in each sample."""
    folder.mkdir()
    shutil.copy(shards / "shards.json", folder)
    tokens = io.BytesIO()
    np.save(tokens, np.zeros((4, channels), np.float16))
    for path in shards.glob("*.tar"):
        parts: dict[str, dict[str, bytes]] = {}
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, suffix = member.name.partition(".")
                data = tar.extractfile(member)
                assert data is not None
                parts.setdefault(key, {"semantic.npy": tokens.getvalue()})[suffix] = data.read()
        write_shard(folder / path.name, parts.items())
    return folder


def test_every_folder_must_have_what_the_model_takes(recipe: Make, shards: Path, tmp_path: Path) -> None:
    plan = recipe(model={"image_condition": "both", "semantic_channels": 8}, run={"steps": 1})
    good = with_semantic(shards, tmp_path / "good", channels=8)
    other = with_semantic(shards, tmp_path / "other", channels=6)
    train_dit(plan, latents=[good], out=tmp_path / "alone")
    with pytest.raises(InputError, match=r"needs semantic tokens, and the shards in .*/shards have none"):
        train_dit(plan, latents=[good, shards], out=tmp_path / "run")
    with pytest.raises(InputError, match=r"the semantic tokens in .*/other have 6 channels; the model takes 8"):
        train_dit(plan, latents=[good], val=[other], out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_conditions_are_left_out_as_often_as_the_model_says(shards: Path) -> None:
    loss = DenoisingLoss(ReducioDiT(build_dit_recipe(TINY).model), DenoisingOptions(), seed=0)
    dataset = LatentDataset(Samples([shards]), motion_power=0.5, seed=0, in_memory=True)
    batch = collate([dataset[ClipKey(step=0, index=0, stage=0, side=0)]])
    dropped = torch.stack([loss._draw(batch, index)[2] for index in range(4000)]).float()  # (4000, 2): text, picture
    assert ((dropped.mean(0) > 0.08) & (dropped.mean(0) < 0.12)).all()
    assert 0.003 < dropped.prod(1).mean() < 0.02  # apart from each other


def test_batches_of_one_size(codec_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "shapes").mkdir()
    write_video(tmp_path / "shapes" / "wide.mkv", moving_video(24, 64, 128))
    write_video(tmp_path / "shapes" / "square.mkv", moving_video(24, 64, 64))
    extract(
        tmp_path / "shapes",
        out=tmp_path / "shards",
        options=ExtractOptions(size=64, buckets=True),
        encoders=Encoders(codec=str(codec_folder)),
    )
    dataset = LatentDataset(Samples([tmp_path / "shards"]), motion_power=0.5, seed=0, in_memory=True)
    sizes = set()
    for step in range(20):
        made = collate([dataset[ClipKey(step=step, index=index, stage=0, side=0)] for index in range(4)])
        sizes.add(tuple(made.conditions.size[0].tolist()))
        assert made.latent.shape[-2:] == tuple(side // 32 for side in made.conditions.size[0].tolist())
    assert len(sizes) == 2


def test_what_does_not_belong_is_refused(recipe: Make, shards: Path, other_codec_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = make_shards(other_codec_folder, tmp_path / "other")
    with pytest.raises(InputError, match="they can't be mixed"):
        train_dit(recipe(), latents=[shards, other], out=tmp_path / "run")
    with pytest.raises(InputError, match="--val holds latents of"):
        train_dit(recipe(), latents=[shards], val=[other], out=tmp_path / "run")
    with pytest.raises(InputError, match=r"model.latent_channels is 8; the latents of .* have 16"):
        train_dit(recipe(model={"latent_channels": 8}), latents=[shards], out=tmp_path / "run")
    with pytest.raises(InputError, match=r"needs semantic tokens, and the shards in .* have none"):
        model = {"image_condition": "both", "semantic_channels": 8}
        train_dit(recipe(model=model), latents=[shards], out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train_dit(recipe(run={"steps": 1}), latents=[shards], out=tmp_path / "run")
    with pytest.raises(InputError, match=r"another recipe \(shards: "):
        train_dit(recipe(), latents=[other], out=tmp_path / "run")
    with pytest.raises(InputError, match=r"start.weights .* makes latents of"):
        train_dit(recipe(start={"weights": str(tmp_path / "run")}), latents=[other], out=tmp_path / "next")
    (other / "000001.tar").unlink()
    with pytest.raises(InputError, match=r"isn't finished: 1 of \d shards are missing"):
        train_dit(recipe(), latents=[other], out=tmp_path / "more")
    (other / "000001.tar").write_bytes((other / "000000.tar").read_bytes()[:3000])
    with pytest.raises(ReducioError, match=r"000001.tar is damaged"):
        train_dit(recipe(), latents=[other], out=tmp_path / "more")
    with pytest.raises(InputError, match=r"has no shards\.json; 'reducio-codec extract' makes"):
        train_dit(recipe(), latents=[tmp_path], out=tmp_path / "more")


def test_the_codec_that_a_model_names(shards: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Never one whose latents it doesn't make, as the preset's would be with shards of a user's own codec."""
    index = read_index(shards)
    lite = latent_space_id(load_pretrained("reducio-lite")[0])  # type: ignore[arg-type]
    for preset, codec, space, named in (
        ("reducio-lite", "reducio-lite", lite, "reducio-lite"),
        ("reducio-lite", "reducio-test", "", "reducio-test"),
        ("reducio-lite", "org/codec", "", "org/codec"),
        ("reducio-lite", "/copies/reducio-lite", lite, "reducio-lite"),
        ("reducio-lite", index.codec, index.latent_space, ""),
        ("", index.codec, index.latent_space, ""),
        ("me/mine", index.codec, index.latent_space, "me/mine"),
    ):
        caplog.clear()
        config = replace(PRESETS["lite"], codec=preset)
        assert bound_config(config, replace(index, codec=codec, latent_space=space)).codec == named
        assert ("names none, so its user must" in caplog.text) == (named == "")


def test_the_next_stage_starts_from_the_last(recipe: Make, shards: Path, tmp_path: Path) -> None:
    train_dit(recipe(run={"steps": 2}), latents=[shards], out=tmp_path / "first")
    start = {"weights": str(tmp_path / "first")}
    train_dit(
        recipe(run={"steps": 1}, optimizer={"learning_rate": 1e-9, "warmup": 0, "ema": 0.0}, start=start),
        latents=[shards],
        out=tmp_path / "second",
    )
    before, after = (load_dit(tmp_path / name / "model").state_dict() for name in ("first", "second"))
    for key, value in before.items():
        torch.testing.assert_close(after[key], value, atol=1e-6, rtol=0)


def test_a_stage_that_counts_places_otherwise_is_not_gone_on_from(recipe: Make, shards: Path, tmp_path: Path) -> None:
    train_dit(recipe(run={"steps": 1}, model={"embeddings": "first"}), latents=[shards], out=tmp_path / "first")
    start = {"weights": str(tmp_path / "first")}
    with pytest.raises(InputError, match=r"has embeddings 'first'; the model's is 'pixart': set model\.embeddings"):
        train_dit(recipe(start=start), latents=[shards], out=tmp_path / "second")


def test_the_log_says_what_a_run_starts_from(
    recipe: Make, shards: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train_dit(recipe(run={"steps": 1}), latents=[shards], out=tmp_path / "first")
    start = {"weights": str(tmp_path / "first")}
    with caplog.at_level(logging.INFO):
        train_dit(recipe(run={"steps": 1}, model={"depth": 3}, start=start), latents=[shards], out=tmp_path / "second")
    (line,) = [record.getMessage() for record in caplog.records if "tensors start from" in record.getMessage()]
    assert "blocks.{0-1}.attn.qkv.weight" in line.partition("; not taken")[0]
    assert "not taken, as before: blocks.2.attn.proj.bias" in line and "not used of the source: none" in line


def test_a_step_has_the_whole_batch_however_it_is_divided(
    recipe: Make, shards: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """run.total_batch: more, smaller batches give the same gradients, and the log says how many."""
    found = []
    for batch in (4, 2):
        with caplog.at_level(logging.INFO):
            train_dit(
                recipe(
                    run={"steps": 1, "total_batch": 4},
                    data={"batch": batch},
                    optimizer={"betas": [0.0, 0.9], "clip_norm": 0.0, "ema": 0.0},
                ),
                latents=[shards],
                out=tmp_path / str(batch),
            )
        assert f"a step has 4 clips: batches of {batch}, 1 processes, {4 // batch} added up" in caplog.text
        folder = Checkpoints(tmp_path / str(batch)).find()
        assert folder is not None
        state = torch.load(folder / "optimizer.bin", weights_only=True)["state"]
        found.append([values["exp_avg"] for values in state.values()])  # the gradient itself, with betas[0] = 0
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5 * max(1e-6, float(one.abs().max())) + 1e-7, rtol=1e-2)
    with pytest.raises(InputError, match=r"total_batch is 5; 1 processes with data.batch 2 need a multiple of 2"):
        train_dit(recipe(run={"total_batch": 5}, data={"batch": 2}), latents=[shards], out=tmp_path / "odd")
    with pytest.raises(InputError, match=r"run.accumulate is 3, but run.total_batch is 4, which decides it"):
        recipe(run={"total_batch": 4, "accumulate": 3})


def test_a_loss_that_is_not_finite_names_its_clips(
    recipe: Make, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = DenoisingLoss.forward

    def broken(self: Any, batch: Any) -> Any:
        return real(self, batch) * (float("nan") if batch.step == 3 else 1)

    monkeypatch.setattr(DenoisingLoss, "forward", broken)
    with pytest.raises(ReducioError, match=r"isn't finite at step 3; its clips: (moving|still)\.mkv \(frame \d+\), "):
        train_dit(recipe(run={"checkpoint_steps": 1}), latents=[shards], out=tmp_path / "run")
    folder = Checkpoints(tmp_path / "run").find()
    assert folder is not None and folder.name == "step-00000003"


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"loss": {"weighting": "min-snr"}}, "'flow' has no such weights"),
        ({"model": {"objective": "noise"}, "loss": {"timesteps": "logit-normal"}}, "'noise' has whole steps"),
        ({"start": {"image_vae": "x"}}, "it must be 'sd'"),
        ({"start": {"weights": "x", "pixart": "y"}}, "can't go with it"),
        ({"data": {"workers": 2}}, "0 with data.storage 'memory'"),
        ({"extract": {"size": 128}}, "they must be equal"),
        ({"model": {"colour": 1}}, "unknown option 'colour'"),
        ({"model": {"preset": "huge"}}, r"must name a preset: '256', '512', '1024', 'lite'"),
        ({"run": {"minutes": 1.0}}, "exactly one must be above 0"),
    ],
)
def test_recipes_that_make_no_sense(recipe: Make, sections: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        recipe(**sections)


def test_bundled_recipes() -> None:
    assert dit_recipes() == ["dit-1024", "dit-256", "dit-512", "dit-lite", "dit-lite-student", "dit-small", "dit-smoke"]
    stages = [read_dit_recipe(name) for name in ("dit-256", "dit-512", "dit-1024")]
    assert [stage.model.sample_size for stage in stages] == [256, 512, 1024]
    assert [stage.extract.buckets for stage in stages] == [False, False, True]
    # the paper's batches (Sec. 4.1), on any power of two of processes
    assert [stage.run.total_batch for stage in stages] == [512, 512, 768]
    for stage in stages:
        for processes in (1, 2, 4, 8, 16):
            run = stage.run.for_processes(processes, batch=stage.data.batch)
            assert run.accumulate * processes * stage.data.batch == stage.run.total_batch
    lite = read_dit_recipe("dit-lite", changes=["run.steps=5", "run.minutes=0"])
    assert lite.model == PRESETS["lite"] and lite.run.steps == 5
    assert read_dit_recipe("dit-small").model == PRESETS["small"]
    assert json.loads(json.dumps(lite.to_document()))["model"]["width"] == lite.model.width


def test_a_run_with_all_that_the_small_model_takes(
    recipe: Make, shards: Path, codec: ReducioCodec, tmp_path: Path
) -> None:
    """Motion, camera and a clip's beginning are told, and channels weighed; AlexNet's layers stay as they are."""
    small = {"preset": "small", "width": 48, "depth": 3, "heads": 2, "sample_size": 64, "codec": "", "motion_unit": 1.0}
    plan = build_dit_recipe({**TINY, "model": small, "loss": {"channels": "pixels"}})
    report = train_dit(plan, latents=[shards], val=[shards], out=tmp_path / "run")
    assert report.model is not None and np.isfinite(losses(tmp_path / "run")).all()
    model = load_dit(report.model)
    assert isinstance(model.content, AlexNetContent)
    fresh = AlexNetContent()
    assert not torch.equal(fresh.layers[0].weight, model.content.layers[0].weight)  # type: ignore[arg-type]
    fresh.take_trunk()
    assert torch.equal(fresh.layers[0].weight, model.content.layers[0].weight)  # type: ignore[arg-type]
    moves = model.config.motion_quantiles  # of its samples: one of the two videos hardly moves
    assert len(moves) == 19 and list(moves) == sorted(moves) and moves[0] < 0.2 * moves[-1]
    student = {
        **TINY,
        "run": {**TINY["run"], "steps": 1},
        "model": {**small, "motion_quantiles": [0.5, 0.5], "distilled_steps": 2, "distilled_guidance": 1.5},
        "start": {"teacher": str(report.model)},
        "loss": {"teacher_steps": 1, "teacher_batches": 1},
        "validation": {"clips": 1, "steps": 2, "guidance": 1.0},
    }
    told = train_dit(build_dit_recipe(student), latents=[shards], val=[shards], out=tmp_path / "student")
    assert told.model is not None and np.isfinite(losses(tmp_path / "student")).all()
    assert load_dit(told.model).config.motion_quantiles == (0.5, 0.5)  # what the recipe says
    for folder, steps in ((report.model, 2), (told.model, None)):
        pipeline = ReducioDiTPipeline(load_dit(folder), codec)
        video = pipeline(image=moving_video(1, 64, 64)[0], steps=steps, seed=0, motion=2.0, seconds=1.5)
        assert video.shape == (24, 64, 64, 3)


def test_clips_that_were_made_faster_are_told_their_motion(shards: Path) -> None:
    """Told nothing, a model shall move as fast as people film."""
    samples = Samples([shards])
    dataset = LatentDataset(samples, motion_power=0.0, seed=0, in_memory=True)
    batch = collate([dataset[ClipKey(step=0, index=index, stage=0, side=0)] for index in range(32)])
    assert set(batch.paces) == {1}
    motion = LatentMotion(load_pretrained("reducio-lite")[0], unit=5.0, side=64)
    config = replace(PRESETS["small"], goes_on=False)
    slow, fast = (
        tell(batch.conditions, replace(batch, paces=(pace,) * 32), config=config, motion=motion, seed=0)
        for pace in (1, 2)
    )
    assert slow.motion is not None and fast.motion is not None and slow.camera is not None and fast.camera is not None
    assert 8 < slow.motion.isnan().sum() < 24 and not fast.motion.isnan().any()
    assert torch.equal(slow.camera.isnan(), fast.camera.isnan())


def test_what_moves_is_read_off_clips_at_their_own_speed(
    codec_folder: Path, codec: ReducioCodec, tmp_path: Path
) -> None:
    samples = Samples([make_shards(codec_folder, tmp_path, frame_steps=[1, 2])])
    reader = LatentMotion(codec.model, unit=1.0, side=64)
    assert {entry.pace for entry in samples.entries} == {1, 2}
    filmed = [entry for entry in samples.entries if entry.pace == 1]
    found = samples.motions(reader)
    expected = [float(reader.measure(samples.load(entry).latent.float()[None])[0]) for entry in filmed]
    assert found == expected
    samples.entries = [entry for entry in samples.entries if entry.pace == 2]
    assert len(samples.motions(reader)) == len(samples.entries)  # there is nothing else to go by


def test_what_is_given_of_a_latent_costs_nothing(shards: Path, codec: ReducioCodec) -> None:
    """A model that goes on isn't asked for what it is told; where nothing is told, all counts."""
    samples = Samples([shards])
    dataset = LatentDataset(samples, motion_power=0.0, seed=0, in_memory=True)
    keys = [ClipKey(step=0, index=index, stage=0, side=0) for index in range(32)]
    batch = collate([dataset[key] for key in keys])
    config = replace(PRESETS["lite"], width=48, depth=1, heads=2, sample_size=64, goes_on=True, content_base=32)
    model = ReducioDiT(config)  # a new one predicts nothing, so a clip's loss is the mean square of its target
    loss = DenoisingLoss(model, DenoisingOptions(), seed=0)
    told, untold = loss.train()(batch), loss.eval()(batch)
    changed = told != untold
    assert 0 < changed.sum() < 0.6 * len(changed)
