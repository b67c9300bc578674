"""From a configuration to a model, by the architecture that config.json names. A new architecture is one line here."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from reducio_codec.config import LiteConfig, ReducioConfig
from reducio_codec.models.contract import CodecModel, Decoder, ModelConfig, Training

CONFIGS: dict[str, type[LiteConfig] | type[ReducioConfig]] = {
    "lite": LiteConfig,
    "reducio": ReducioConfig,
}
"""Configuration class of each architecture."""

_MODELS = {
    "lite": ("reducio_codec.models.lite.model", "ReducioLite"),
    "reducio": ("reducio_codec.models.reducio.vae", "ReducioVAE"),
}  # imported when they are built: a name is asked for more often than a model


def model_class(config: ModelConfig) -> type[CodecModel]:
    """The class of the models that ``config`` describes."""
    module, name = _MODELS[config.architecture]
    return cast(type[CodecModel], getattr(import_module(module), name))


def build_model(config: ModelConfig) -> CodecModel:
    """A model with fresh weights."""
    return model_class(config)(config)


def describe_decoder(config: ModelConfig, name: str) -> Decoder:
    """A decoder of a model that isn't built."""
    return model_class(config).describe(config, name)


def training_of(config: ModelConfig) -> Training:
    """What training can do with a model that isn't built."""
    return model_class(config).training_of(config)
