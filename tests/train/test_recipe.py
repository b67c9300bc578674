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
from reducio_codec.train.recipe import Recipe
from reducio_codec.train.recipe_file import (
    build_recipe,
    bundled_recipes,
    list_options,
    read_document,
    read_recipe,
    to_document,
)
from reducio_codec.train.start import build_model


@pytest.mark.parametrize("name", bundled_recipes())
def test_bundled_recipes_are_read_and_come_back(name: str) -> None:
    recipe = read_recipe(f"recipes/{name}.toml")
    assert build_recipe(to_document(recipe)) == recipe


def test_the_recipes_that_the_readme_names_are_there() -> None:
    assert {"paper", "lite", "smoke", "ablation", "image-vae"} <= set(bundled_recipes())


def test_paper_recipe_has_the_papers_numbers() -> None:
    recipe = read_recipe("paper")
    assert recipe.model == ReducioConfig()
    assert (recipe.optimizer.learning_rate, recipe.optimizer.betas, recipe.run.steps) == (4e-5, (0.5, 0.9), 10**6)
    assert (recipe.loss.kl, recipe.loss.perceptual, recipe.loss.perceptual_weight) == (1e-6, "lpips", 0.1)
    assert (recipe.gan.weight, recipe.gan.start, recipe.optimizer.ema) == (0.05, 10001, 0.0)


def test_the_image_vae_has_what_lite_has() -> None:
    """A fair baseline: lite's data, time and (within 2%) parameters."""
    image, lite = read_recipe("image-vae"), read_recipe("lite")
    assert (image.data, image.run.minutes) == (lite.data, lite.run.minutes)
    with torch.device("meta"):
        counts = [sum(p.numel() for p in build_model(recipe).parameters()) for recipe in (image, lite)]
    assert counts[0] == pytest.approx(counts[1], rel=0.02)


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
        (["run.gradient_checkpointing=true"], r"this model \(lite\) has none"),
        (['train.freeze=["encoder"]'], "there are no weights to keep"),
        (['train.decoders=["attention"]'], "it must be among the model's: warp"),
        (["start.weights=other"], "start.flow and start.image_vae can't go with it"),
        (["loss.lpips_trunk=vgg.pth"], "it has no effect"),
        (["validation.side=60"], "must be a multiple of 32"),
        (["model.channels_4=5"], "channels_4 is 5"),
        (["model.architecture=huge"], "must name an architecture: lite, reducio"),
        (["data.storage=device"], "0 with data.storage 'device'"),
    ],
)
def test_what_cannot_be_is_refused(changes: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_recipe("smoke", changes=changes)


def test_stages_and_discriminator(recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(InputError, match="rising, the last"):
        recipe(stages=[{"until": 0.9, "side": 64}])
    with pytest.raises(InputError, match="the run ends at step 4"):
        recipe(gan={"weight": 0.1, "start": 4})


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match="neither a file nor bundled; bundled: ablation, image-vae, lite, lite-bidirectional, lite-decoders, paper",
    ):
        read_recipe("nosuch")
    (tmp_path / "bad.toml").write_text("[run\n")
    with pytest.raises(InputError, match="isn't TOML"):
        read_recipe(tmp_path / "bad.toml")
    with pytest.raises(InputError, match=r"has no \[run\]"):
        build_recipe({"model": {"architecture": "lite"}})


def test_every_option_is_documented() -> None:
    options: list[tuple[Any, ...]] = list(list_options())
    assert len(options) > 70
    assert all(len(meaning) > 10 for _, _, meaning in options)


def test_listed_defaults_are_what_set_takes() -> None:
    for name, text, _ in list_options():
        section, option = name.split(".")
        if section != "stages":
            default = text.partition("    ")[0]
            assert (
                read_document("lite", changes=[f"{name}={default}"])[section][option]
                == tomllib.loads(f"v = {default}")["v"]
            )
