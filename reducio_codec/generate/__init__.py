"""Generation: picture and text to video on the motion latents (extra ``[generate]``)."""

from reducio_codec.generate.codec_match import latent_space_id
from reducio_codec.generate.conditioning import Conditions
from reducio_codec.generate.config import PRESETS, DiTConfig, preset
from reducio_codec.generate.controls import CAMERAS, Camera
from reducio_codec.generate.dit import ReducioDiT
from reducio_codec.generate.each import Made, generate_each
from reducio_codec.generate.evaluations import GenerationCancelled
from reducio_codec.generate.folder import load_dit, save_dit
from reducio_codec.generate.pipeline import ReducioDiTPipeline
from reducio_codec.generate.sampling import sample
from reducio_codec.generate.semantic import ImageEncoder
from reducio_codec.generate.text import TextEncoder
from reducio_codec.generate.text_to_image import TextToImage

__all__ = [
    "CAMERAS",
    "PRESETS",
    "Camera",
    "Conditions",
    "DiTConfig",
    "GenerationCancelled",
    "ImageEncoder",
    "Made",
    "ReducioDiT",
    "ReducioDiTPipeline",
    "TextEncoder",
    "TextToImage",
    "generate_each",
    "latent_space_id",
    "load_dit",
    "preset",
    "sample",
    "save_dit",
]
