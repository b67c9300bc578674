"""Load a codec, encode and decode video, keep it as ``.rdc`` files, and make video from a picture.

What goes along the wires: ``IMAGE`` (N, H, W, 3) float in [0, 1], as everywhere in ComfyUI; ``LATENT`` with the motion of each
clip of 16 frames, ``samples`` (B, z, N*t, h, w), and beside it the key frames as ``IMAGE``, one a clip; ``REDUCIO_CODEC`` and
``REDUCIO_GENERATOR``, models.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import folder_paths  # ComfyUI's own
import torch
from torch import Tensor

from reducio_codec import ReducioCodec, list_models
from reducio_codec.coding.options import AUTO_QUALITY
from reducio_codec.errors import InputError
from reducio_codec.generate.pipeline import ReducioDiTPipeline
from reducio_codec.weights.layout import CONFIG_FILE, read_document

CATEGORY = "reducio"
DEFAULT = "default"
"""In a list of decoders: the model's own choice."""


def decoder_names() -> list[str]:
    """Those of the bundled codecs; the paper's models have no others."""
    codecs = [entry.folder for entry in list_models() if entry.kind == "codec"]
    names = [name for folder in codecs for name in read_document(folder / CONFIG_FILE)["decoders"]]
    return [DEFAULT, *dict.fromkeys(names)]


def bundled(kind: str) -> str:
    """Name of the recommended model of a kind."""
    return next(entry.name for entry in list_models() if entry.kind == kind)


def model_inputs(kind: str) -> dict[str, Any]:
    devices = ["auto", "cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    tip = "a model's name, or a model folder"
    return {
        "model": ("STRING", {"default": bundled(kind), "tooltip": tip}),
        "device": (devices, {"tooltip": "auto: the accelerator, where there is one"}),
        "precision": (["auto", "float32", "bfloat16", "float16"],),
    }


def model_options(device: str, precision: str) -> dict[str, Any]:
    """Keyword arguments of both kinds of models."""
    place = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    return {"device": place, "dtype": "auto" if precision == "auto" else getattr(torch, precision)}


def as_video(images: Tensor) -> Tensor:
    """IMAGE (T, H, W, 3) in [0, 1] to (1, 3, T, H, W) in [-1, 1]."""
    if images.shape[-1] != 3:
        raise InputError(f"images have {images.shape[-1]} channels; allowed: 3 (split an alpha channel off before)")
    return (images.float().clamp(0, 1) * 2 - 1).permute(3, 0, 1, 2)[None]


def as_images(video: Tensor) -> Tensor:
    """(B, 3, T, H, W) in [-1, 1] to IMAGE (B*T, H, W, 3) in [0, 1]."""
    return ((video + 1) / 2).clamp(0, 1).permute(0, 2, 3, 4, 1).flatten(0, 1).contiguous()


class LoadCodec:
    """A codec by name or folder."""

    RETURN_TYPES = ("REDUCIO_CODEC",)
    FUNCTION = "load"
    CATEGORY = CATEGORY
    DESCRIPTION = "A codec: reducio-lite ships with the package, a folder may hold any other."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": model_inputs("codec")}

    def load(self, model: str, device: str, precision: str) -> tuple[ReducioCodec]:
        return (ReducioCodec.from_pretrained(model, **model_options(device, precision)),)


class Encode:
    """Frames to motion and key frames."""

    RETURN_TYPES = ("LATENT", "IMAGE")
    RETURN_NAMES = ("motion", "keyframes")
    FUNCTION = "encode"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Video to the motion of each clip of 16 frames, and one key frame a clip. Both together are the video."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"codec": ("REDUCIO_CODEC",), "images": ("IMAGE",)}}

    def encode(self, codec: ReducioCodec, images: Tensor) -> tuple[dict[str, Any], Tensor]:
        latent, keyframes = codec.encode(as_video(images))
        facts = {"num_frames": latent.num_frames, "keyframe_index": latent.keyframe_index}
        return {"samples": latent.plain(), **facts}, as_images(keyframes)


class Decode:
    """Motion and key frames to frames."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "decode"
    CATEGORY = CATEGORY
    DESCRIPTION = "Motion and key frames back to video. What was changed in the key frames meanwhile moves along."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "codec": ("REDUCIO_CODEC",),
                "motion": ("LATENT",),
                "keyframes": ("IMAGE",),
                "decoder": (decoder_names(), {"tooltip": "all of a model's decoders read the same motion"}),
            }
        }

    def decode(self, codec: ReducioCodec, motion: dict[str, Any], keyframes: Tensor, decoder: str) -> tuple[Tensor]:
        samples: Tensor = motion["samples"]
        pictures = as_video(keyframes)[0].unflatten(1, (samples.shape[0], -1)).transpose(0, 1)  # (B, 3, N, H, W)
        video = codec.decode(
            samples,
            pictures,
            decoder=None if decoder == DEFAULT else decoder,
            num_frames=motion.get("num_frames"),
            keyframe_index=motion.get("keyframe_index"),
        )
        return (as_images(video),)


class SaveFile:
    """Frames to an ``.rdc`` file in ComfyUI's output folder."""

    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("file",)
    FUNCTION = "save"
    CATEGORY = CATEGORY
    OUTPUT_NODE = True
    DESCRIPTION = "Video to a compressed .rdc file in the output folder."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "codec": ("REDUCIO_CODEC",),
                "images": ("IMAGE",),
                "fps": ("FLOAT", {"default": 16.0, "min": 1.0, "max": 240.0, "step": 0.01}),
                "quality": ("INT", {"default": AUTO_QUALITY, "min": 0, "max": 100, "tooltip": "of the key frames"}),
                "filename_prefix": ("STRING", {"default": "reducio/video"}),
            }
        }

    def save(
        self, codec: ReducioCodec, images: Tensor, fps: float, quality: int, filename_prefix: str
    ) -> dict[str, Any]:
        height, width = images.shape[1:3]
        place = folder_paths.get_save_image_path(filename_prefix, folder_paths.get_output_directory(), width, height)
        folder, name, counter, subfolder = place[:4]
        name = f"{name}_{counter:05}_.rdc"
        frames = (as_bytes(image) for image in images)
        report = codec.compress(frames, Path(folder) / name, rate=fps, keyframe_quality=quality)
        file = f"{Path(subfolder, name).as_posix()} [output]"
        return {"ui": {"text": [f"{file}: {report.bytes} bytes"]}, "result": (file,)}


class LoadFile:
    """An ``.rdc`` file's frames."""

    RETURN_TYPES = ("IMAGE", "FLOAT")
    RETURN_NAMES = ("images", "fps")
    FUNCTION = "load"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "The frames of an .rdc file in the input folder, or, with [output] behind its name, in the output folder."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "codec": ("REDUCIO_CODEC",),
                "file": ("STRING", {"default": "video.rdc"}),
                "start": ("INT", {"default": 0, "min": 0, "max": 1 << 31, "tooltip": "the first frame"}),
                "frames": ("INT", {"default": 0, "min": 0, "max": 1 << 31, "tooltip": "how many; 0: all that follow"}),
            }
        }

    @classmethod
    def IS_CHANGED(cls, file: str | None = None, **_: Any) -> float:
        """A file that was written anew is read again. (A name that comes along a wire isn't known here, but it is a new one.)"""
        path = None if file is None else path_of(file)
        return path.stat().st_mtime if path is not None and path.is_file() else 0.0

    def load(self, codec: ReducioCodec, file: str, start: int, frames: int) -> tuple[Tensor, float]:
        with codec.open_file(path_of(file)) as video:
            if start >= len(video):
                raise InputError(f"start is {start}; {file} has frames 0 to {len(video) - 1}")
            found = torch.from_numpy(video[start : start + frames if frames else len(video)])
            return found.float() / 255, float(video.rate)


class LoadGenerator:
    """A picture-to-video model by name or folder, with its codec."""

    RETURN_TYPES = ("REDUCIO_GENERATOR",)
    FUNCTION = "load"
    CATEGORY = CATEGORY
    DESCRIPTION = "A model that makes motion for a picture; a small one ships with the package."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": model_inputs("generator")}

    def load(self, model: str, device: str, precision: str) -> tuple[ReducioDiTPipeline]:
        return (ReducioDiTPipeline.from_pretrained(model, **model_options(device, precision)),)


class Generate:
    """Video from a picture."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "generate"
    CATEGORY = CATEGORY
    DESCRIPTION = "Makes a video of 16 frames a second around each picture; the picture is its frame 7."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "generator": ("REDUCIO_GENERATOR",),
                "image": ("IMAGE",),
                "seed": ("INT", {"default": 0, "min": 0, "max": (1 << 62) - 1}),
                "seconds": ("FLOAT", {"default": 1.0, "min": 1.0, "max": 60.0, "step": 0.5}),
                "steps": ("INT", {"default": 0, "min": 0, "max": 200, "tooltip": "0: what the model was made for"}),
            }
        }

    def generate(
        self, generator: ReducioDiTPipeline, image: Tensor, seed: int, seconds: float, steps: int
    ) -> tuple[Tensor]:
        pictures = [as_bytes(one) for one in image]
        clips = generator(image=pictures, seed=seed, seconds=seconds, steps=steps or None)  # (B, T, H, W, 3) uint8
        return (torch.from_numpy(clips).flatten(0, 1).float() / 255,)


def as_bytes(image: Tensor) -> Any:
    """(H, W, 3) float in [0, 1] to a uint8 array."""
    return ((as_video(image[None])[0, :, 0].permute(1, 2, 0) + 1) * 127.5).round().to(torch.uint8).cpu().numpy()


def path_of(file: str) -> Path:
    """A file by its name as ComfyUI writes it, in ComfyUI's folders alone."""
    path = Path(folder_paths.get_annotated_filepath(file)).resolve()
    folders = (folder_paths.get_input_directory(), folder_paths.get_output_directory())
    if not any(path.is_relative_to(Path(folder).resolve()) for folder in folders):
        raise InputError(f"file is {file!r}; allowed: files in ComfyUI's input folder, and 'NAME [output]'")
    return path


NODE_CLASS_MAPPINGS: dict[str, type] = {
    "ReducioLoadCodec": LoadCodec,
    "ReducioEncode": Encode,
    "ReducioDecode": Decode,
    "ReducioSaveFile": SaveFile,
    "ReducioLoadFile": LoadFile,
    "ReducioLoadGenerator": LoadGenerator,
    "ReducioGenerate": Generate,
}

NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {
    "ReducioLoadCodec": "Load Codec (Reducio)",
    "ReducioEncode": "Encode Video (Reducio)",
    "ReducioDecode": "Decode Video (Reducio)",
    "ReducioSaveFile": "Save .rdc (Reducio)",
    "ReducioLoadFile": "Load .rdc (Reducio)",
    "ReducioLoadGenerator": "Load Generator (Reducio)",
    "ReducioGenerate": "Picture to Video (Reducio)",
}
