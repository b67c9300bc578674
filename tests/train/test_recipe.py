"""Recipes are read strictly: nothing unknown, nothing impossible, nothing without effect."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from reducio_codec.config import ReducioConfig
from reducio_codec.errors import InputError
from reducio_codec.train.first_weights import build_model
from reducio_codec.train.options import StartOptions
from reducio_codec.train.recipe import PACKAGE, Recipe, build_recipe, codec_recipes, read_recipe, to_document
from reducio_codec.training.recipe_file import list_options, read_document


@pytest.mark.parametrize("name", codec_recipes())
def test_bundled_recipes_are_read_and_come_back(name: str) -> None:
    recipe = read_recipe(f"recipes/{name}.toml")
    assert build_recipe(to_document(recipe)) == recipe


def test_the_recipes_that_the_readme_names_are_there() -> None:
    assert {"paper", "lite", "smoke", "ablation", "image-vae"} <= set(codec_recipes())


def test_paper_recipe_has_the_papers_numbers() -> None:
    recipe = read_recipe("paper")
    assert recipe.model == ReducioConfig()
    assert (recipe.optimizer.learning_rate, recipe.optimizer.betas, recipe.run.steps) == (4e-5, (0.5, 0.9), 10**6)
    assert (recipe.loss.kl, recipe.loss.perceptual, recipe.loss.perceptual_weight) == (1e-6, "lpips", 0.1)
    assert (recipe.gan.weight, recipe.gan.start, recipe.optimizer.ema) == (0.05, 10001, 0.0)


def test_the_image_vae_has_what_lite_has() -> None:
    """A fair baseline: lite's data, time and (within 4%) parameters of its encoder and the decoder linear."""
    linear = ['model.decoders=["linear"]', "keyframe.neighbours=false", "train.take_turns=false"]
    image, lite = read_recipe("image-vae"), read_recipe("lite", changes=linear)
    assert (image.data, image.run.minutes) == (lite.data, lite.run.minutes)
    with torch.device("meta"):
        counts = [sum(p.numel() for p in build_model(recipe).parameters()) for recipe in (image, lite)]
    assert counts[0] == pytest.approx(counts[1], rel=0.04)


def test_values_from_the_command_line() -> None:
    recipe = read_recipe("smoke", changes=["run.minutes=3", "export.name=mine", "data.frame_steps=[1, 2]"])
    assert (recipe.run.minutes, recipe.export.name, recipe.data.frame_steps) == (3.0, "mine", (1, 2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["run.minuts=3"], r"\[run\] has the unknown option 'minuts'; allowed: steps, minutes"),
        (["speed.up=3"], "the recipe has the unknown option 'speed'"),
        (["run"], "isn't of the form section.option=value"),
        (["run.steps=10"], "exactly one must be above 0"),
        (["run.minutes=fast"], "run.minutes is 'fast'; it must be a number"),
        (["loss.reconstruction=l3"], "loss.reconstruction is 'l3'; allowed: 'l1'"),
        (["loss.kl=1e-6"], "posterior of this model .lite. has a constant variance"),
        (["run.total_batch=8", "run.accumulate=2"], "run.total_batch is 8, which decides it; it has no effect"),
        (['train.freeze=["encoder"]'], "there are no weights to keep"),
        (['train.decoders=["attention"]'], "it must be among the model's: linear"),
        (["start.weights=other"], "start.flow and start.image_vae can't go with it"),
        (["loss.lpips_trunk=vgg.pth"], "it has no effect"),
        (["data.frame_rate=1e-6"], "data.frame_rate is 1e-06; it must be 0, or 0.001 or more"),
        (["validation.side=60"], "must be a multiple of 32"),
        (["model.channels_4=5"], "channels_4 is 5"),
        (["model.architecture=huge"], "must name an architecture: lite, reducio"),
        (["data.storage=device"], "0 with data.storage 'device'"),
    ],
)
def test_what_cannot_be_is_refused(changes: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_recipe("smoke", changes=changes)


def test_a_whole_batch_needs_stages_of_one_batch() -> None:
    with pytest.raises(
        InputError, match=r"run.total_batch is 96, but stages have batches of 2, 3, 6, 16; give run.acc"
    ):
        read_recipe("lite", changes=["run.total_batch=96"])
    assert read_recipe("paper", changes=["run.total_batch=32"]).run.for_processes(4, batch=4).accumulate == 2


NO_EFFECT: tuple[tuple[str, ...], ...] = (
    ("data.frame_step_weights=[1.0]",),
    ("data.stored_side=128", "data.storage=stream"),
    ("keyframe.codec=webp",),
    ("keyframe.quality=[1, 2]",),
    ("keyframe.neighbour_dropout=0.5",),
    ("latent.unquantized=0.5", "latent.quantize=[]"),
    ("loss.perceptual_weight=0.5",),
    ("loss.lpips_trunk=x.pth", "loss.perceptual=haar"),
    *((f"gan.{name}",) for name in ("start=5", "channels=8", "learning_rate=1.0", "betas=[0.1, 0.2]", "clip_norm=1.0",
                                    "slow_steps=1", "ramp_steps=1")),
    ("optimizer.slow_factor=0.5", "optimizer.slow_layers=[]"),
    ("optimizer.final=0.5", "optimizer.schedule=constant"),
    ("start.flow_clips=5", "start.flow=false"),
    ("start.flow_channels=5", "start.flow=false", "start.flow_clips=288"),
    ("start.flow_pixel_step=5.0", "start.flow=false", "start.flow_clips=288"),
    ("train.take_turns=true",),
    ("loss.rate=0.5", 'train.freeze=["encoder"]', "start.flow=false", "start.flow_clips=288", "start.weights=x"),
)  # fmt: skip
"""The first change has no effect where the others hold."""


@pytest.mark.parametrize("changes", NO_EFFECT)
def test_what_has_no_effect_is_refused_by_name(changes: tuple[str, ...]) -> None:
    name, _, _ = changes[0].partition("=")
    with pytest.raises(InputError, match=rf"^{name} is .*it has no effect$"):
        read_recipe("smoke", changes=changes)


def test_what_every_stage_replaces_has_no_effect(recipe: Callable[..., Recipe]) -> None:
    stage = {"side": 64, "batch": 2}
    for options in ({"reconstruction": "charbonnier"}, {"perceptual": "haar"}):
        ((name, value),) = options.items()
        with pytest.raises(InputError, match=f"^loss.{name} is '{value}', but every stage replaces it"):
            recipe(
                loss={"reconstruction": "l1", **options},
                stages=[{**stage, name: "log-l1" if name[0] == "r" else "none"}],
            )
    recipe(latent={"quantize": []}, stages=[{**stage, "quantize": False}])  # says what happens anyway
    assert recipe(loss={"lpips_trunk": "x.pth"}, stages=[{**stage, "perceptual": "lpips"}]).perceptual_losses == (
        "lpips",
    )


def test_weights_replace_the_start_of_a_recipe() -> None:
    recipe = read_recipe("smoke", weights="reducio-lite")
    assert recipe.start == StartOptions(weights="reducio-lite")


def test_stages_and_discriminator(recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(InputError, match="rising, the last"):
        recipe(stages=[{"until": 0.9, "side": 64}])
    with pytest.raises(InputError, match="the run ends at step 4"):
        recipe(gan={"weight": 0.1, "start": 4})


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match="neither a file nor bundled; bundled: ablation, image-vae, lite, lite-decoders, lite-sharp, paper",
    ):
        read_recipe("nosuch")
    (tmp_path / "bad.toml").write_text("[run\n")
    with pytest.raises(InputError, match="isn't TOML"):
        read_recipe(tmp_path / "bad.toml")
    with pytest.raises(InputError, match=r"has no \[run\]"):
        build_recipe({"model": {"architecture": "lite"}})


def test_every_option_is_documented() -> None:
    options: list[tuple[Any, ...]] = list(list_options(Recipe))
    assert len(options) > 70
    assert all(len(meaning) > 10 for _, _, meaning in options)


def test_listed_defaults_are_what_set_takes() -> None:
    for name, text, _ in list_options(Recipe):
        section, option = name.split(".")
        if section != "stages":
            default = text.partition("    ")[0]
            assert (
                read_document("lite", changes=[f"{name}={default}"], package=PACKAGE)[section][option]
                == tomllib.loads(f"v = {default}")["v"]
            )
