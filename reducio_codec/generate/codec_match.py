"""Which latents a codec speaks: a transformer is of use with the codec it was trained with, and with no other."""

from __future__ import annotations

from reducio_codec.errors import InputError, WeightsError
from reducio_codec.generate.config import DiTConfig
from reducio_codec.models.contract import CodecModel
from reducio_codec.weights.latent_space import tensors_id


def latent_space_id(model: CodecModel) -> str:
    """Identity of the space that ``model.encode`` writes and its decoders read: 16 hex digits.

    It is a hash over the encoder's weights as float32 and the latent's shape: another set of decoders, or another
    stored precision of the decoders, does not change it.

    Raises:
        InputError: the model was changed by ``optimize_for_inference``, so its weights aren't those of its file.
    """
    if model.optimized_dtype is not None:
        raise InputError(
            "the codec was prepared for reduced precision, so its latent space can't be identified; give its name or "
            "folder, or load it with dtype=torch.float32"
        )
    return tensors_id(model.state_dict(), model.config)


def check_latent_space(config: DiTConfig, codec: CodecModel, *, codec_name: str) -> None:
    """Refuse a codec whose latents this transformer does not make.

    A transformer without an identity (random weights) is checked for the latent's shape only.
    """
    for name in ("latent_channels", "temporal_compression_ratio", "spatial_compression_ratio"):
        needed, found = getattr(config, name), getattr(codec.config, name)
        if needed != found:
            raise WeightsError(f"the codec {codec_name!r} has {name} {found}; this transformer was made for {needed}")
    if not config.latent_space:
        return
    found = latent_space_id(codec)
    if found != config.latent_space:
        home = f", of the codec {config.codec!r}" if config.codec else ""
        raise WeightsError(
            f"the codec {codec_name!r} has the latent space {found}; this transformer makes latents of "
            f"{config.latent_space}{home}. They don't belong together: the video would be noise"
        )
