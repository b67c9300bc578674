"""The transformer at step 0: fresh, from the stage before, or from PixArt-alpha and an image VAE."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import torch

from reducio_codec.errors import InputError, WeightsError
from reducio_codec.generate.codec_match import latent_space_id
from reducio_codec.generate.config import DiTConfig
from reducio_codec.generate.content import AlexNetContent
from reducio_codec.generate.dit import ReducioDiT
from reducio_codec.generate.extract.shards import ShardIndex
from reducio_codec.generate.folder import load_dit, read_config
from reducio_codec.generate.pixart_init import start_from_pixart
from reducio_codec.generate.sd_init import start_from_image_vae
from reducio_codec.generate.started import Started
from reducio_codec.generate.train.recipe import DitRecipe
from reducio_codec.weights.io import file_sha256
from reducio_codec.weights.layout import CONFIG_FILE, MODEL_FOLDER, TENSOR_FILE, find_model
from reducio_codec.weights.zoo import list_models, load_pretrained

_log = logging.getLogger(__name__)


def bound_config(config: DiTConfig, index: ShardIndex) -> DiTConfig:
    """The configuration with the latent space of the shards.

    Raises:
        InputError: latents of another shape.
    """
    for name in ("latent_channels", "temporal_compression_ratio", "spatial_compression_ratio"):
        needed, found = getattr(config, name), getattr(index, name)
        if needed != found:
            raise InputError(f"model.{name} is {needed}; the latents of {index.codec!r} have {found}")
    return replace(config, codec=_codec_name(config, index), latent_space=index.latent_space)


def _codec_name(config: DiTConfig, index: ShardIndex) -> str:
    """What the model says its codec is: the recipe's word, unless that is a bundled codec (a preset's default) and the
    shards are another's."""
    bundled = [entry.name for entry in list_models() if entry.kind == "codec"]
    if config.codec and config.codec not in bundled:
        return config.codec
    if not Path(index.codec).is_absolute():  # a name; folders are stored as whole paths, which say nothing elsewhere
        return index.codec
    if config.codec and latent_space_id(load_pretrained(config.codec)[0]) == index.latent_space:
        return config.codec
    _log.warning("the shards are of the codec %r: this model names none, so its user must", index.codec)
    return ""


def build_model(config: DiTConfig, *, seed: int) -> ReducioDiT:
    """Fresh weights; the same ones for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ReducioDiT(config)
    if config.uses_content and isinstance(model.content, AlexNetContent):
        model.content.take_trunk()
    return model


def start(model: ReducioDiT, recipe: DitRecipe) -> None:
    """Give ``model`` its weights at step 0, in place."""
    options = recipe.start
    if options.weights:
        _take_weights(model, options.weights)
    if options.teacher:
        model.load_state_dict(load_dit(_teacher_folder(recipe)).state_dict())
    if options.pixart:
        _log.info(start_from_pixart(model, options.pixart).text(options.pixart))
    if options.image_vae:
        _log.info(start_from_image_vae(model, options.image_vae).text(options.image_vae))


def load_teacher(recipe: DitRecipe, config: DiTConfig, *, device: torch.device) -> ReducioDiT | None:
    """The teacher of a student, in the precision of the run; None where nothing is distilled.

    Raises:
        InputError: none is given, or one of another kind than the student, or of another latent space.
    """
    if not config.distilled_steps:
        return None
    if not recipe.start.teacher:
        raise InputError(f"model.distilled_steps is {config.distilled_steps}; a student needs start.teacher, a folder")
    source = _teacher_folder(recipe)
    found = read_config(source)
    if found.distilled_steps:
        raise InputError(
            f"start.teacher {str(source)!r} is itself a student, distilled for {found.distilled_steps} steps"
        )
    if not found.latent_space:
        raise InputError(f"start.teacher {str(source)!r} has random weights: it names no latent space")
    _check_latent_space("start.teacher", source, found, needed=config)
    learned = ("distilled_steps", "distilled_guidance", "condition_dropout", "control_dropout", "codec", "latent_space")
    sampled = ("motion_quantiles", "default_steps", "default_guidance", "shift", "channel_gain")
    for name, needed in config.to_json().items():
        if name not in (*learned, *sampled) and getattr(found, name) != needed:
            raise InputError(
                f"start.teacher {str(source)!r} has {name} {getattr(found, name)!r}; the student's is {needed!r}"
            )
    dtype = torch.bfloat16 if recipe.run.precision == "bf16" else torch.float32
    return load_dit(source, device=device, dtype=dtype)


def teacher_id(recipe: DitRecipe) -> dict[str, str]:
    """What the teacher of a student is, for a run that goes on: the sha256 of its weights. Empty where there is none."""
    return {"teacher": file_sha256(_teacher_folder(recipe) / TENSOR_FILE)} if recipe.start.teacher else {}


def _take_weights(model: ReducioDiT, name: str) -> None:
    source = _model_folder("start.weights", name)
    other = load_dit(source)
    if other.config.latent_space:
        _check_latent_space("start.weights", source, other.config, needed=model.config)
    for option in ("embeddings", "place_reach"):
        needed, given = getattr(model.config, option), getattr(other.config, option)
        if needed != given:
            raise InputError(
                f"start.weights {str(source)!r} has {option} {given!r}; the model's is {needed!r}: set model.{option}"
            )
    own, found = model.state_dict(), other.state_dict()
    taken = {key: value for key, value in found.items() if key in own and own[key].shape == value.shape}
    if not taken:
        raise InputError(f"start.weights {str(source)!r}: nothing in it has a shape that this model has")
    model.load_state_dict({**own, **taken})
    started = Started(
        taken=tuple(taken), kept=tuple(sorted(set(own) - set(taken))), unused=tuple(sorted(set(found) - set(taken)))
    )
    _log.info(started.text(source))


def _check_latent_space(option: str, source: Path, found: DiTConfig, *, needed: DiTConfig) -> None:
    if found.latent_space != needed.latent_space:
        raise InputError(
            f"{option} {str(source)!r} makes latents of {found.latent_space}; the shards hold those of "
            f"{needed.latent_space}"
        )


def _teacher_folder(recipe: DitRecipe) -> Path:
    return _model_folder("start.teacher", recipe.start.teacher)


def _model_folder(option: str, name: str) -> Path:
    """That of a bundled model, or ``name``, or the finished model of the run in it."""
    bundled = {entry.name: entry.folder for entry in list_models() if entry.kind == "generator"}
    folder = bundled.get(name, Path(name))
    if not folder.is_dir():
        raise InputError(
            f"{option} is {name!r}, which isn't there or is no folder; bundled: {', '.join(map(repr, bundled))}"
        )
    try:
        source = find_model(folder)
    except WeightsError as error:
        raise InputError(f"{option} is {name!r}: {error}") from error
    if not (source / CONFIG_FILE).is_file():
        raise InputError(f"{option} is {name!r}, which has neither {CONFIG_FILE} nor {MODEL_FOLDER}/{CONFIG_FILE}")
    return source
