"""Students: trained from a teacher, to a folder that makes clips in its own few steps, and what they refuse."""

from __future__ import annotations

import inspect
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from reducio_codec.cli import main
from reducio_codec.cli.generate import command as generate_command
from reducio_codec.codec import ReducioCodec
from reducio_codec.errors import InputError, WeightsError
from reducio_codec.generate import ReducioDiT, ReducioDiTPipeline, latent_space_id, load_dit, save_dit
from reducio_codec.generate.config import DiTConfig
from reducio_codec.generate.train.recipe import DitRecipe, read_dit_recipe
from reducio_codec.generate.train.task import train_dit
from reducio_codec.training.run_log import read_log
from reducio_codec.weights.zoo import list_models
from tests.generate.conftest import CARD, SaveDit, awake
from tests.generate.test_train_dit import TINY, Make, losses, recipe, shards, weights
from tests.helpers import moving_video
from tests.train.conftest import to_toml

__all__ = ["recipe", "shards"]

DISTILLED: dict[str, Any] = {"distilled_steps": 4, "distilled_guidance": 2.5}
STUDENT: dict[str, Any] = {"objective": "flow", **DISTILLED}
PICTURE = moving_video(1, 64, 64, seed=3)[0]


@pytest.fixture(scope="module")
def teacher(codec: ReducioCodec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the tiny recipe's shape, for the toy codec's latents."""
    return make_teacher(tmp_path_factory.mktemp("teacher") / "model", latent_space=latent_space_id(codec.model))


def make_teacher(folder: Path, **changes: Any) -> Path:
    shape = {name: value for name, value in TINY["model"].items() if name != "preset"}
    values = {**read_dit_recipe("dit-lite").model.to_json(), **shape, **changes}
    torch.manual_seed(0)
    return save_dit(awake(ReducioDiT(DiTConfig.from_json(values))), folder, card=CARD)


def student(recipe: Make, teacher: Path | str, **sections: Any) -> DitRecipe:
    fixed: dict[str, Any] = {
        "model": DISTILLED,
        "start": {"teacher": str(teacher)},
        "validation": {"steps": 4, "guidance": 1.0, "samples": 2},
    }
    names = fixed.keys() | sections.keys()
    return recipe(**{name: {**fixed.get(name, {}), **sections.get(name, {})} for name in names})


def test_a_run_learns_from_its_teacher(recipe: Make, shards: Path, teacher: Path, tmp_path: Path) -> None:
    """It starts as the teacher, and comes nearer to where that one goes with guidance."""
    plan = student(
        recipe,
        teacher,
        model={"distilled_guidance": 10.0},
        run={"steps": 16},
        optimizer={"learning_rate": 1e-3, "ema": 0.0},
        validation={"samples": 8},
    )
    report = train_dit(plan, latents=[shards], val=[shards], out=tmp_path / "run")
    first = read_log(tmp_path / "run" / "log.jsonl")[0]["val/loss"]
    assert report.values is not None and report.values["val/loss"] < 0.7 * first
    assert len(losses(tmp_path / "run")) == 16
    assert report.values["val/motion"] > 0
    assert report.model is not None and load_dit(report.model).config.distilled_guidance == 10


def test_at_step_0_it_is_its_teacher(recipe: Make, shards: Path, teacher: Path, tmp_path: Path) -> None:
    still = {"learning_rate": 1e-9, "warmup": 0, "ema": 0.0}
    report = train_dit(
        student(recipe, teacher, run={"steps": 1}, optimizer=still), latents=[shards], out=tmp_path / "r"
    )
    assert report.model is not None
    before, after = (load_dit(folder).state_dict() for folder in (teacher, report.model))
    assert before.keys() == after.keys()
    for key, value in before.items():
        torch.testing.assert_close(after[key], value, atol=1e-6, rtol=0)


def test_resume_gives_the_same_bits(recipe: Make, shards: Path, teacher: Path, tmp_path: Path) -> None:
    def part(steps: int, name: str) -> None:
        # every draw matters: what is left out, the noise, and the place in the schedule
        plan = student(
            recipe, teacher, run={"steps": steps}, model={"condition_dropout": 0.5}, loss={"teacher_batches": 4}
        )
        train_dit(plan, latents=[shards], out=tmp_path / name)

    part(6, "whole")
    for steps in (2, 3, 6):
        part(steps, "parts")
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    ours, theirs = weights(tmp_path / "parts"), weights(tmp_path / "whole")
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        assert torch.equal(value, theirs[key]), key


def test_its_batches_come_again(recipe: Make, shards: Path, teacher: Path, tmp_path: Path) -> None:
    """The same clips with the same noise: without learning, the same losses."""
    still = {"learning_rate": 1e-9, "warmup": 0, "ema": 0.0}
    plan = student(recipe, teacher, run={"steps": 4}, optimizer=still, loss={"teacher_batches": 2})
    train_dit(plan, latents=[shards], out=tmp_path / "run")
    first, second, third, fourth = losses(tmp_path / "run")
    assert third == pytest.approx(first, abs=1e-5) and fourth == pytest.approx(second, abs=1e-5)
    assert first != pytest.approx(second, abs=1e-3)


def test_another_teacher_is_another_run(recipe: Make, shards: Path, teacher: Path, tmp_path: Path) -> None:
    """Also one that lies in the same place."""
    shutil.copytree(teacher, tmp_path / "teacher")
    plan = student(recipe, tmp_path / "teacher", run={"steps": 1})
    train_dit(plan, latents=[shards], out=tmp_path / "run")
    model = load_dit(teacher)
    save_dit(awake(model, seed=1), tmp_path / "teacher", card=CARD)
    with pytest.raises(InputError, match=r"another recipe \(teacher: "):
        train_dit(plan, latents=[shards], out=tmp_path / "run")


def test_the_command_from_a_teachers_folder_to_clips(
    shards: Path, teacher: Path, codec_folder: Path, tmp_path: Path
) -> None:
    """A student trained in a process of its own, then clips of the folder that it leaves."""
    document = {**TINY, "model": {**TINY["model"], **DISTILLED}, "start": {"teacher": str(teacher)}}
    document["validation"] = {"clips": 2, "samples": 2, "steps": 4, "guidance": 1.0}
    (tmp_path / "recipe.toml").write_text(to_toml(document))
    command = [sys.executable, "-m", "reducio_codec", "train-dit", "recipe.toml", "--latents", str(shards)]
    command += ["--val", str(shards), "--out", "run"]
    env = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "run/model: written after 4 steps" in done.stdout and "validation: loss " in done.stdout
    pipe = ReducioDiTPipeline.from_pretrained(tmp_path / "run" / "model", codec=codec_folder)
    video = pipe(image=PICTURE, seed=0)
    assert np.array_equal(video[7], PICTURE) and not np.array_equal(video[15], PICTURE)


@pytest.fixture
def pipe(dit_folder: SaveDit, codec_folder: Path) -> ReducioDiTPipeline:
    """Of a student."""
    return ReducioDiTPipeline.from_pretrained(dit_folder(**STUDENT), codec=codec_folder, dtype=torch.float32)


def test_a_clip_depends_on_its_seed_alone(pipe: ReducioDiTPipeline) -> None:
    """In any batch and at any place in it, up to the rounding of batched products."""
    pictures = [PICTURE, *(moving_video(1, 64, 64, seed=seed)[0] for seed in (4, 5))]
    seeds = [5, 9, 2]
    alone = [pipe(image=picture, seed=seed) for picture, seed in zip(pictures, seeds, strict=True)]
    for order in ([0, 1, 2], [2, 0], [1, 2, 0]):
        made = pipe(image=[pictures[i] for i in order], seed=[seeds[i] for i in order])
        for place, number in enumerate(order):
            assert np.abs(made[place].astype(int) - alone[number]).max() <= 1
    assert np.array_equal(pipe(image=PICTURE, seed=5), alone[0])
    assert not np.array_equal(pipe(image=PICTURE, seed=6), alone[0])
    longer = pipe(image=PICTURE, seed=5, seconds=1.5)
    assert longer.shape == (24, 64, 64, 3) and np.array_equal(longer[:16], alone[0])


@pytest.mark.parametrize(
    ("changes", "options", "evaluations"),
    [
        (STUDENT, {}, [3] * 4),
        ({**STUDENT, "distilled_steps": 2}, {}, [3] * 2),
        (STUDENT, {"steps": 4, "guidance": 1.0, "sampler": "euler"}, [3] * 4),
        ({"objective": "flow"}, {"steps": 4}, [6] * 4),  # not a student: a second pass without conditions, batched
    ],
    ids=str,
)
def test_its_own_steps_and_no_second_pass(
    changes: dict[str, Any],
    options: dict[str, Any],
    evaluations: list[int],
    dit_folder: SaveDit,
    codec_folder: Path,
) -> None:
    pipe = ReducioDiTPipeline.from_pretrained(dit_folder(**changes), codec=codec_folder)
    batches: list[int] = []
    times: list[float] = []

    def note(_module: ReducioDiT, inputs: tuple[Any, ...], _out: torch.Tensor) -> None:
        batches.append(len(inputs[0]))
        times.append(float(inputs[1][0]))

    told: list[tuple[int, int | None]] = []
    with pipe._model.use() as model:
        model.register_forward_hook(note)
    pipe(image=[PICTURE] * 3, seed=0, progress=lambda done, total: told.append((done, total)), **options)
    assert batches == evaluations
    steps = len(evaluations)
    assert times == [1000 * (1 - step / steps) for step in range(steps)]  # those that it was distilled at
    assert told == [(done, steps) for done in range(1, steps + 1)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 20}, "steps is 20; this model was distilled for 4 and no other number"),
        ({"steps": 2}, "steps is 2; this model was distilled for 4 and no other number"),
        (
            {"guidance": 2.5},
            "guidance is 2.5; this model was distilled with guidance 2.5 inside, so it must be left out",
        ),
        (
            {"guidance": 4.0},
            "guidance is 4.0; this model was distilled with guidance 2.5 inside, so it must be left out",
        ),
        ({"sampler": "heun"}, "sampler is 'heun'; this model was distilled for 'euler' and no other"),
    ],
    ids=str,
)
def test_other_settings_than_its_own(
    options: dict[str, Any], words: str, dit_folder: SaveDit, codec_folder: Path, tmp_path: Path
) -> None:
    """An error that says why: in Python, and one line on the command line."""
    folder = dit_folder(**STUDENT)
    pipe = ReducioDiTPipeline.from_pretrained(folder, codec=codec_folder)
    with pytest.raises(InputError) as caught:
        pipe(image=PICTURE, seed=0, **options)
    assert words in str(caught.value)
    Image.fromarray(PICTURE).save(tmp_path / "photo.png")
    arguments = ["generate", "--image", tmp_path / "photo.png", "-m", folder, "--codec", codec_folder]
    arguments += [
        "-o",
        tmp_path / "out.mkv",
        *(word for name, value in options.items() for word in (f"--{name}", value)),
    ]
    done = CliRunner().invoke(main, [str(word) for word in arguments])
    assert done.exit_code == 2 and words in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("error")]) <= 1
    assert not (tmp_path / "out.mkv").exists()


def test_teachers_that_are_refused(
    recipe: Make, shards: Path, teacher: Path, codec_folder: Path, other_codec_folder: Path, tmp_path: Path
) -> None:
    space = load_dit(teacher).config.latent_space

    def refused(teacher: Path | str, words: str, kind: type[Exception] = InputError) -> None:
        with pytest.raises(kind) as caught:
            train_dit(student(recipe, teacher), latents=[shards], out=tmp_path / "run")
        assert words in str(caught.value), str(caught.value)
        assert not (tmp_path / "run").exists()

    refused(tmp_path / "none", "none', which isn't there or is no folder; bundled: 'reducio-dit-small'")
    refused("reducio-lite", "'reducio-lite', which isn't there or is no folder")
    other = make_teacher(tmp_path / "other", latent_space=space, distilled_steps=4)
    refused(other, "/other' is itself a student, distilled for 4 steps")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "which has neither config.json nor model/config.json")
    refused(codec_folder, "architecture is a codec (lite); a transformer's is", WeightsError)
    deep = make_teacher(tmp_path / "deep", latent_space=space, depth=3)
    refused(deep, "has depth 3; the student's is 2")
    noise = make_teacher(tmp_path / "noise", latent_space=space, objective="noise")
    refused(noise, "has objective 'noise'; the student's is 'flow'")
    other = latent_space_id(ReducioCodec.from_pretrained(other_codec_folder).model)
    refused(
        make_teacher(tmp_path / "other", latent_space=other),
        f"makes latents of {other}; the shards hold those of {space}",
    )
    refused(make_teacher(tmp_path / "random"), "has random weights")
    few = make_teacher(tmp_path / "few", latent_space=space, **DISTILLED)
    refused(few, "is itself a student, distilled for 4 steps")
    broken = make_teacher(tmp_path / "broken", latent_space=space)
    tensors = broken / "model.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-100])
    refused(broken, "model.safetensors is damaged", WeightsError)


def test_a_run_that_is_not_finished_is_no_teacher(recipe: Make, shards: Path, tmp_path: Path) -> None:
    train_dit(recipe(run={"steps": 1}), latents=[shards], out=tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "model")
    with pytest.raises(InputError, match="holds a run that isn't finished"):
        train_dit(student(recipe, tmp_path / "run"), latents=[shards], out=tmp_path / "next")


def test_the_folder_of_the_teachers_run_will_do(recipe: Make, shards: Path, tmp_path: Path) -> None:
    train_dit(recipe(run={"steps": 1}), latents=[shards], out=tmp_path / "run")
    report = train_dit(student(recipe, tmp_path / "run", run={"steps": 1}), latents=[shards], out=tmp_path / "next")
    assert report.model is not None and load_dit(report.model).config.distilled_steps == 4


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"model": {"distilled_steps": 0, "distilled_guidance": 1.0}}, "model.distilled_steps is 0: not a student"),
        ({"model": {"distilled_steps": 0}}, "distilled_guidance is 2.5, but distilled_steps is 0"),
        ({"model": {"objective": "noise"}}, "objective is 'noise', it must be 'flow'"),
        ({"start": {"weights": "x"}}, "start.weights, start.pixart and start.image_vae can't go with it"),
        ({"loss": {"timesteps": "logit-normal"}}, "a student has its own steps"),
        ({"validation": {"steps": 20}}, "validation.steps is 20; it must be 4, model.distilled_steps"),
        ({"validation": {"guidance": 2.5}}, "validation.guidance is 2.5; it must be 1: a student has it inside"),
    ],
    ids=str,
)
def test_recipes_of_students_that_make_no_sense(recipe: Make, sections: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        student(recipe, "teacher", **sections)
    assert words in str(caught.value), str(caught.value)


def test_a_student_needs_a_teacher(recipe: Make, shards: Path, tmp_path: Path) -> None:
    plan = student(recipe, "")
    with pytest.raises(InputError, match=r"model.distilled_steps is 4; a student needs start.teacher, a folder"):
        train_dit(plan, latents=[shards], out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(
        InputError, match=r"loss.teacher_steps is 3, but model.distilled_steps is 0: this is no student"
    ):
        recipe(loss={"teacher_steps": 3})
    with pytest.raises(
        InputError, match=r"loss.teacher_batches is 3, but model.distilled_steps is 0: this is no student"
    ):
        recipe(loss={"teacher_batches": 3})


def test_the_bundled_generator_makes_a_clip_in_as_many_evaluations_as_it_says() -> None:
    pipe = ReducioDiTPipeline.from_pretrained()
    assert not pipe.config.distilled_steps and pipe.config.default_guidance == 1
    batches: list[int] = []
    with pipe._model.use() as model:
        model.register_forward_hook(lambda _module, inputs, _out: batches.append(len(inputs[0])))
    video = pipe(image=PICTURE, seed=0)
    assert batches == [1] * pipe.config.default_steps
    assert np.array_equal(video[7], PICTURE) and not np.array_equal(video[15], PICTURE)


def test_everything_that_generates_has_one_default() -> None:
    (model,) = [parameter for parameter in generate_command.params if parameter.name == "model"]
    default = inspect.signature(ReducioDiTPipeline.from_pretrained).parameters["name_or_folder"].default
    assert default == model.default and default in {e.name for e in list_models() if e.kind == "generator"}
    readme = Path(__file__).parents[2] / "README.md"
    assert f"The default is the bundled `{default}`" in " ".join(readme.read_text(encoding="utf-8").split())


def test_the_bundled_recipe() -> None:
    plan = read_dit_recipe("dit-lite-student", changes=["start.teacher=runs/dit"])
    assert plan.start.teacher == "runs/dit"
    lite = read_dit_recipe("dit-lite").model
    assert replace(plan.model, distilled_steps=0, distilled_guidance=1.0) == lite
